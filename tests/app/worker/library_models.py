"""Models of other libraries with an environment of their own, made once and cached.

This file is also the program that makes them. It runs in their environment.
"""

import json
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
    from tests.own_environment import made_by

    return made_by(Path(__file__), "library-models", PYTHON, PACKAGES, "answers.json", kept=True)


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
