"""LitServe's API of an XGBoost model."""

import os
import sys
from typing import Any

import litserve
import numpy as np
import xgboost as xgb


class Model(litserve.LitAPI):
    """One model, one route."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self.booster = xgb.Booster({"nthread": 1}, model_file=os.environ["BENCH_MODEL"])

    def decode_request(self, request: dict[str, Any]) -> Any:
        return np.asarray(request["input"])

    def predict(self, x: Any) -> Any:
        return self.booster.predict(xgb.DMatrix(x, nthread=1), validate_features=False)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"output": output.tolist()}


if __name__ == "__main__":  # its workers import this file again
    server = litserve.LitServer(Model(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
