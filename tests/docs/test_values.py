"""The documentation names only values that the charts have."""

import re
from pathlib import Path

import pytest
import yaml

from tests.charts.harness import value_paths
from tests.docs.test_site import PAGES
from tools.charts import MLFLOW, MODEL_SERVICE, OBSERVABILITY
from tools.cluster.cache import ROOT

# A dotted name in backticks, with or without a value: `api.maxRows`, `model.flavor=pyfunc`.
NAME = re.compile(r"`([a-z]\w*(?:\.[a-z]\w*)+)(?:[:=][^`]*)?`")
# Other dotted names: files, modules, tags of versions and runs, keys of other projects.
OTHERS = re.compile(
    r".*\.(json|md|py|yaml|ubj|xgb|gz|txt|toml|parquet|lock|sum|html|diff)$|(app|gate|git|k8s|mlflow\.xgboost|tools)\."
)

REJECTED = {"model.engine"}  # decision 25
FEATURES = {"signup.month"}  # a part of a date


def known() -> set[str]:
    """Return the path of each value, and its endings, by which texts shorten it."""
    service, mlflow, umbrella = (
        yaml.safe_load((chart / "values.yaml").read_text()) for chart in (MODEL_SERVICE, MLFLOW, OBSERVABILITY)
    )
    service |= {job: service["jobs"] | service[job] for job in ("training", "batch")}
    paths = [
        path.split(".") for values in (service, mlflow, umbrella, {"mlflow": mlflow}) for path in value_paths(values)
    ]
    return {".".join(path[start:]) for path in paths for start in range(len(path))}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "charts" not in page.parts], ids=lambda page: str(page.relative_to(ROOT))
)
def test_values_exist(page: Path) -> None:
    names = {name for name in NAME.findall(page.read_text()) if not OTHERS.match(name)}

    assert names - known() <= REJECTED | FEATURES
