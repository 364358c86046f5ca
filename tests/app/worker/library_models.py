"""Models of other libraries with an environment of their own, made once and cached.

This file is also the program that makes them. It runs in their environment.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PYTHON = "3.11"
PACKAGES = (
    *("mlflow-skinny==2.22.5", "pandas==2.2.3", "numpy==1.26.4"),
    *("lightgbm==4.5.0", "catboost==1.2.7", "statsmodels==0.14.4", "scipy==1.14.1"),
)
NAMES = ("lightgbm", "catboost", "statsmodels")


def models() -> Path:
    """Return a folder with a model for each of `NAMES`, the file answers.json, and the folder environment."""
    from tools.bench.environments import AS_OF, interpreter, uv
    from tools.cluster.cache import CACHE, key_of

    program = Path(__file__)
    folder = CACHE / f"library-models-{key_of([program], AS_OF, PYTHON, *PACKAGES)}"
    if not (folder / "answers.json").exists():
        for old in CACHE.glob("library-models-*"):
            shutil.rmtree(old)
        python = folder / "environment" / "bin" / "python"
        kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        commands: list[list[str | Path]] = [
            [uv(), "venv", "--python", interpreter(PYTHON), folder / "environment"],
            [uv(), "pip", "install", "--python", python, "--exclude-newer", AS_OF, *PACKAGES],
            [python, program, folder],
        ]
        for command in commands:
            subprocess.run(command, env=kept, check=True)
    return folder


def make(folder: Path) -> None:
    """Write the models, and the rows with the models' own answers."""
    import catboost
    import lightgbm
    import mlflow.catboost
    import mlflow.lightgbm
    import mlflow.statsmodels
    import numpy as np
    import pandas as pd
    import statsmodels.api
    from mlflow.models import infer_signature

    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.random((200, 3)), columns=["a", "b", "c"])
    truth = rows["a"] - 2 * rows["b"] + 0.1 * random.random(200)
    trained: dict[str, tuple[Any, Any]] = {
        "lightgbm": (
            lightgbm.train({"objective": "regression", "verbose": -1}, lightgbm.Dataset(rows, truth), 20),
            mlflow.lightgbm,
        ),
        "catboost": (
            catboost.CatBoostClassifier(iterations=20, verbose=False, allow_writing_files=False).fit(
                rows, np.where(truth > truth.median(), "high", "low")
            ),
            mlflow.catboost,
        ),
        "statsmodels": (statsmodels.api.OLS(truth, rows).fit(), mlflow.statsmodels),
    }
    answers = {}
    for name, (model, flavor) in trained.items():
        own = np.asarray(model.predict(rows)).reshape(-1)
        save = {"signature": infer_signature(rows, own), "input_example": rows.head(2)}
        flavor.save_model(model, str(folder / name), pip_requirements=[PACKAGES[0]], **save)
        answers[name] = own.tolist()
    (folder / "answers.json").write_text(json.dumps({"rows": rows.to_numpy().tolist(), "answers": answers}))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
