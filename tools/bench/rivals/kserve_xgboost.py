"""KServe's XGBoost server. The original is not a package, so this makes the same calls on KServe's base class.

But one: rows without names are taken, which its own server refuses when the model has names.
"""

import argparse
import os
from typing import Any

import kserve
import xgboost as xgb
from kserve.utils.utils import get_predict_input, get_predict_response


class Model(kserve.Model):
    """One booster."""

    def load(self) -> bool:
        self.booster = xgb.Booster({"nthread": 1}, model_file=os.environ["BENCH_MODEL"])
        self.ready = True
        return True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002
        rows = xgb.DMatrix(get_predict_input(payload), nthread=1)
        return get_predict_response(payload, self.booster.predict(rows, validate_features=False), self.name)


if __name__ == "__main__":
    arguments, _ = argparse.ArgumentParser(parents=[kserve.model_server.parser]).parse_known_args()
    model = Model(arguments.model_name)
    model.load()
    kserve.ModelServer().start([model])
