"""Ray Serve's deployment of an XGBoost model."""

import os
import sys
from typing import Any

import numpy as np
import xgboost as xgb
from ray import serve
from starlette.requests import Request


@serve.deployment
class Model:
    """One model, one replica."""

    def __init__(self, file: str) -> None:
        self.booster = xgb.Booster({"nthread": 1}, model_file=file)

    async def __call__(self, request: Request) -> dict[str, Any]:
        rows = np.asarray((await request.json())["input"])
        return {"output": self.booster.predict(xgb.DMatrix(rows, nthread=1), validate_features=False).tolist()}


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Model.bind(os.environ["BENCH_MODEL"]), blocking=True)  # type: ignore[attr-defined]
