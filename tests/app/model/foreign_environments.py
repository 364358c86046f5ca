"""Models of other versions of MLflow and XGBoost, made in environments of their own and cached.

`python -m tests.app.model.foreign_environments` prints the table of the documentation.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench.environments import AS_OF, interpreter, uv
from tools.cluster.cache import CACHE, ROOT, key_of

MLFLOW = ("2.9.2", "2.17.2", "2.22.5", "3.1.4", "3.17.2")
XGBOOST = ("1.7.6", "2.1.4", "3.0.5", "3.4.1")
KINDS = (
    *("Booster", "binary Booster", "DART", "linear", "XGBRegressor", "XGBClassifier", "XGBClassifier of three"),
    *("categorical", "array", "integer names", "one tree, several targets", "autolog"),
)
# Causes of a refusal. The documentation explains each, and the pod's error contains these words.
BINARY = "binary format"
CATEGORIES = "categories"
TREES = "trees with several targets"

_PROGRAM = Path(__file__).with_name("foreign_models.py")
_PLACE = CACHE / "foreign-models"


@dataclass(frozen=True)
class Foreign:
    """One model of another environment.

    Args:
        name: Kind, form and what was logged with it, separated by commas; also the name of its folder.
        folder: The model in MLflow's format.
        answer: The rows as a request, and the environment's own predictions; or the error of that environment.
    """

    name: str
    folder: Path
    answer: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.name.removesuffix(f", {self.form}")

    @property
    def form(self) -> str:
        return ", ".join(self.name.split(", ")[-2:]) if ", " in self.name else ""

    @property
    def binary(self) -> bool:
        """Whether the file has the format of XGBoost before 2.1."""
        files = self.folder.glob("model.*")
        return any(path.read_bytes()[:4] == b"binf" for path in files)


def refusal(kind: str, xgboost: str, *, binary: bool = False) -> str:
    """Return the documented cause for which a model is refused, or "" if it is served."""
    version = tuple(map(int, xgboost.split(".")))
    if binary:
        return BINARY
    if kind == "categorical" and version < (3, 1):
        return CATEGORIES
    return TREES if "targets" in kind and version < (3, 2) else ""


def models(mlflow: str, xgboost: str) -> list[Foreign]:
    """Return the models of an environment, which is made if it is not cached.

    Raises:
        subprocess.CalledProcessError: The environment cannot be installed, or cannot make the models.
    """
    packages = _packages(mlflow, xgboost)
    folder = _PLACE / f"mlflow-{mlflow}-xgboost-{xgboost}-{key_of([_PROGRAM], AS_OF, *packages)}"
    if not (folder / "answers.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for old in _PLACE.glob(f"mlflow-{mlflow}-xgboost-{xgboost}-*"):
            shutil.rmtree(old)
        folder.mkdir(parents=True)
        environment = folder / "environment"
        python = environment / "bin" / "python"
        _run(uv(), "venv", "--python", interpreter(packages[0]), environment)
        _run(uv(), "pip", "install", "--python", python, "--exclude-newer", AS_OF, *packages[1:])
        _run(python, _PROGRAM, folder)
        shutil.rmtree(environment)
    answers = json.loads((folder / "answers.json").read_text())
    return [Foreign(name, folder / name, answer) for name, answer in answers.items()]


def table() -> list[str]:
    """Return the lines of the documentation's table."""
    shown = {"": "served", CATEGORIES: "with `model.categories`", TREES: "refused"}
    header = ["Model", *(f"XGBoost {version.rpartition('.')[0]}" for version in XGBOOST)]
    rows = [[kind, *(shown[refusal(kind, version)] for version in XGBOOST)] for kind in KINDS]
    rows[KINDS.index("one tree, several targets")][1] = "not available"
    rows.append(["any, in the binary `model.xgb`", "refused", *["not written"] * 3])
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _packages(mlflow: str, xgboost: str) -> list[str]:
    """Return the version of Python and the packages of an environment, as they were in use together."""
    new, old = xgboost.startswith("3.4"), xgboost.startswith("1.7")
    python = "3.12" if new else "3.9" if old and mlflow.startswith("2.9") else "3.11"
    return [
        python,
        f"mlflow-skinny=={mlflow}",
        f"{'xgboost' if old else 'xgboost-cpu'}=={xgboost}",
        f"scikit-learn=={'1.7.2' if new else '1.5.2'}",
        "numpy==1.26.4",
        "pandas==2.2.3",
        "setuptools<81",  # MLflow 2.9 imports pkg_resources
    ]


def _run(*command: str | Path) -> None:
    kept = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV" and not key.startswith("MLFLOW_")}
    done = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n")
        done.check_returncode()


if __name__ == "__main__":
    print("\n".join(table()))
