"""Tests that the generated reference pages are complete and match the charts."""

import re

import pytest
import yaml

from app.errors import ProblemError
from app.settings import Settings
from tools.charts import MODEL_SERVICE
from tools.generate.reference import PAGES, causes, cli, errors, settings, values

PROBLEMS = ProblemError.__subclasses__()


@pytest.mark.parametrize("path", PAGES)
def test_every_row_has_a_description(path: str) -> None:
    rows = re.findall(r"^\| (?:`|\d).*$", PAGES[path](), re.MULTILINE)

    assert rows
    assert not [row for row in rows if row.endswith("|  |")]


def test_settings_page_has_every_variable() -> None:
    page = settings()

    assert not [name for name in Settings.model_fields if not re.search(rf"`\w*{name.upper()}`", page)]


def test_errors_page_has_every_problem_type() -> None:
    page = errors()

    assert not [kind for kind in PROBLEMS if f"| {int(kind.status)} | `urn:model-service:{kind.slug}`" not in page]


def test_problem_without_remedy_is_rejected() -> None:
    with pytest.raises(ValueError, match="Silent: the last paragraph"):
        causes(type("Silent", (), {"__doc__": "It failed.\n\nArgs:\n    detail: None."}))


@pytest.mark.parametrize("kind", PROBLEMS)
def test_remedies_name_existing_values(kind: type[ProblemError]) -> None:
    chart = yaml.safe_load((MODEL_SERVICE / "values.yaml").read_text())

    assert all(key in chart["api"] for key in re.findall(r"`api\.(\w+)`", causes(kind)[1]))


def test_values_page_has_the_nested_keys_of_each_chart() -> None:
    page = values()

    for chart, key in (("model-service", "`model.uri`"), ("mlflow", "`networkPolicy.enabled`"), ("observability", "`")):
        section = page.partition(f"\n## {chart}\n")[2].partition("\n## ")[0]
        assert key in section, chart


def test_cli_page_has_exit_codes_and_options() -> None:
    page = cli()

    assert "| `--holdout-share` | `TRAINING_HOLDOUT_SHARE` | number, > 0, < 0.9 | `0.2` |" in page
    assert "| `<target>` |" in page
    assert page.count("Exit codes: 0") == 4
    assert "usage: python -m app.tools.verify" in page
