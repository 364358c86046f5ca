"""What people write first: named fields, a DataFrame and scikit-learn's wrapper."""

import os
from typing import Any

import pandas as pd
import xgboost as xgb
from fastapi import FastAPI
from pydantic import BaseModel, Field, create_model

app = FastAPI()
model = xgb.XGBClassifier()
model.load_model(os.environ["BENCH_MODEL"])
names = model.get_booster().feature_names or []
fields: dict[str, Any] = {f"field_{i}": (float, Field(alias=name)) for i, name in enumerate(names)}
Row: type[BaseModel] = create_model("Row", **fields)


@app.post("/predict")
def predict(rows: list[Row]) -> dict[str, Any]:  # type: ignore[valid-type]
    frame = pd.DataFrame([row.model_dump(by_alias=True) for row in rows])  # type: ignore[attr-defined]
    return {"predictions": model.predict_proba(frame)[:, 1].tolist()}
