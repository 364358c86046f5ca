"""What the service is compared with: each is an ASGI application that uvicorn runs as it runs the service."""

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel


class Split(BaseModel):
    """The body that all of them take."""

    columns: list[str]
    data: list[list[float]]


def noop() -> FastAPI:
    """A typed FastAPI route that does nothing: what the framework costs."""
    app = FastAPI()

    @app.post("/predict")
    async def predict(body: Split) -> dict[str, Any]:
        return {"rows": len(body.data)}

    return app


def naive() -> FastAPI:
    """What people write first: a pydantic body, a DataFrame and scikit-learn's wrapper."""
    import pandas as pd
    import xgboost as xgb

    app = FastAPI()
    model = xgb.XGBClassifier()
    model.load_model(os.environ["BENCH_MODEL"])

    @app.post("/predict")
    def predict(body: Split) -> dict[str, Any]:
        return {"predictions": model.predict_proba(pd.DataFrame(body.data, columns=body.columns)).tolist()}

    return app
