"""Models that were logged with a different Python and different packages than the tests have, made once and cached.

This file is also the program that makes them. It runs in their environment.
"""

import json
import sys
from pathlib import Path

PYTHON = "3.11"
PACKAGES = ("mlflow-skinny==2.22.5", "scikit-learn==1.4.2", "numpy==1.26.4", "pandas==2.2.3")
NAMES = ("probabilities", "labels", "regression")


def models() -> Path:
    """Return the folder with a model for each of `NAMES`, and the files train.csv and answers.json."""
    from tests.own_environment import made_by

    return made_by(Path(__file__), "own-python", PYTHON, PACKAGES, "answers.json")


def make(folder: Path) -> None:
    """Write the models, their training data and their own answers."""
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "age": random.integers(18, 80, 600).astype(float),
            "income": np.where(random.random(600) < 0.1, np.nan, random.normal(50, 10, 600)),
            "plan": random.choice(["basic", "plus", "team"], 600, p=[0.6, 0.3, 0.1]),
        }
    )
    truth = rows["age"] + 20 * (rows["plan"] == "basic") + random.normal(0, 8, 600) > 62
    left = np.where(truth, "leaves", "stays")
    numbers = make_pipeline(SimpleImputer(), Ridge()).fit(rows[["age", "income"]], rows["age"] / 2)
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["plan"]), (SimpleImputer(), ["age", "income"])
    )
    classifier = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(rows, left)
    probabilities = classifier.predict_proba(rows)
    logged = {
        "probabilities": (classifier, rows, probabilities, "predict_proba"),
        "labels": (classifier, rows, left, "predict"),
        "regression": (numbers, rows[["age", "income"]], rows["age"], "predict"),
    }
    for name, (model, inputs, outputs, function) in logged.items():
        mlflow.sklearn.save_model(
            model,
            str(folder / name),
            signature=infer_signature(inputs, outputs),
            input_example=inputs.head(3),
            pyfunc_predict_fn=function,
            pip_requirements=["mlflow==2.22.5", *PACKAGES[1:3]],
        )
    rows.assign(left=left).to_csv(folder / "train.csv", index=False)
    answers = {
        "probabilities": probabilities.tolist(),
        "labels": classifier.predict(rows).tolist(),
        "regression": numbers.predict(rows[["age", "income"]]).tolist(),
    }
    (folder / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
