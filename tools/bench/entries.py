"""The measured servers: the service and its rivals, how each is started and queried, and how its response is read."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.endpoints.arrow import ARROW
from app.http import codings
from app.model.arrow import writer
from tools.bench.models import Model, encode, probability

OURS, NOOP = "model-service", "noop"
XGBOOST = "xgboost==3.4.1"
_UVICORN = "{bin}/python -m uvicorn --app-dir {rivals} {module}:app --host 127.0.0.1 --port {port} --no-access-log"


@dataclass(frozen=True)
class Way:
    """Another way to ask a server; the first arguments as an Entry's.

    Args:
        encode: Makes the bytes of the body.
        headers: Headers of the request in addition to those of JSON.
    """

    path: str
    body: Callable[[Model, int], Any]
    answer: Callable[[Any], list[float]] | None
    encode: Callable[[Any], bytes] = encode
    headers: dict[str, str] = field(default_factory=dict)

    def content(self, model: Model, rows: int) -> bytes:
        """Return the body of a request."""
        return self.encode(self.body(model, rows))


@dataclass(frozen=True)
class Entry:
    """One server.

    Args:
        packages: Pinned packages from the instructions in its documentation. If empty, it runs in the service's
            environment.
        command: to start it; {bin}, {rivals}, {model}, {port}, other free ports ({spare}, {metrics}) and
            {place}, a folder to write to, are filled in.
        path: of the URL that predicts.
        body: makes the request for some rows of a model.
        answer: finds the probabilities of the second class, one per row; None: it does not predict.
        python: the newest version that it supports, up to the service's.
        others: Additional ways to measure it, by name.
    """

    name: str
    what: str
    packages: tuple[str, ...]
    command: str
    path: str
    body: Callable[[Model, int], Any]
    answer: Callable[[Any], list[float]] | None
    python: str = "3.13"
    environment: dict[str, str] = field(default_factory=dict)
    others: dict[str, Way] = field(default_factory=dict)

    @property
    def ways(self) -> dict[str, Way]:
        """All ways to ask it, by the name under which each is measured."""
        first = {self.name: Way(self.path, self.body, self.answer)}
        return first | {f"{self.name}, {form}": way for form, way in self.others.items()}


def _split(model: Model, rows: int) -> Any:
    return {"columns": model.columns, "data": model.rows(rows)}


def _records(model: Model, rows: int) -> list[dict[str, float]]:
    return [dict(zip(model.columns, row, strict=True)) for row in model.rows(rows)]


def _probabilities(answer: Any) -> list[float]:
    return [probability(each) for each in answer["predictions"]]


def _explained(answer: Any) -> list[float]:
    """Return the probabilities that the margins of explanations stand for, when these add up to them."""
    found = []
    for each in answer["explanations"]:
        [output] = each["outputs"]
        total = output["base_value"] + sum(output["contributions"].values())
        found.append(1 / (1 + math.exp(-total)))
    return found


def _stream(model: Model, rows: int) -> dict[str, Any]:
    """Return the columns of an Arrow stream, which is the service's own form for bulk callers."""
    return dict(zip(model.columns, np.array(model.rows(rows)).T, strict=True))


def _infer(model: Model, rows: int) -> Any:
    """Open Inference Protocol, version 2."""
    shape = [rows, len(model.columns)]
    return {"inputs": [{"name": "rows", "shape": shape, "datatype": "FP32", "data": model.rows(rows)}]}


ENTRIES = (
    Entry(
        OURS,
        "this service, with validation and metrics",
        (),
        "{bin}/python -m app",
        "/predict",
        _split,
        _probabilities,
        environment={
            "MODEL_SERVICE_MODEL_URI": "file://{model}",
            "MODEL_SERVICE_MODEL_NAME": "model",
            "MODEL_SERVICE_PORT": "{port}",
            "MODEL_SERVICE_HOST": "127.0.0.1",
            "MODEL_SERVICE_CACHE_DIR": "{place}/cache",
            "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": "{place}/termination",
        },
        others={
            "records": Way("/predict", lambda model, rows: {"instances": _records(model, rows)}, _probabilities),
            "arrow": Way(
                "/predict", _stream, _probabilities, lambda each: writer.write(each, {}), {"Content-Type": ARROW}
            ),
            "zstd": Way(
                "/predict",
                _split,
                _probabilities,
                lambda each: codings.encoded(encode(each), "zstd"),
                {"Content-Encoding": "zstd"},
            ),
            "explain": Way("/explain", _split, _explained),
            "invocations": Way(
                "/invocations",
                lambda model, rows: {"dataframe_split": _split(model, rows)},
                lambda answer: list(answer["predictions"]),
            ),
            "v2": Way("/v2/models/model/infer", _infer, lambda answer: list(answer["outputs"][-1]["data"][1::2])),
        },
    ),
    Entry(
        NOOP,
        "a FastAPI route that reads the body into a pydantic model and does nothing",
        (),
        _UVICORN.replace("{module}", "noop"),
        "/predict",
        _split,
        None,
    ),
    Entry(
        "naive",
        "FastAPI, a pydantic model per row, a DataFrame, `XGBClassifier.predict_proba`",
        ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "pandas==3.1.1", "scikit-learn==1.9.1", XGBOOST),
        _UVICORN.replace("{module}", "naive"),
        "/predict",
        _records,
        lambda answer: list(answer["predictions"]),
    ),
    Entry(
        "mlflow",
        "`mlflow models serve`",
        ("mlflow==3.17.2", XGBOOST),
        "{bin}/mlflow models serve --model-uri {model} --env-manager local --host 127.0.0.1 --port {port}",
        "/invocations",
        lambda model, rows: {"dataframe_split": _split(model, rows)},
        lambda answer: list(answer["predictions"]),
        environment={"MLFLOW_DISABLE_TELEMETRY": "true"},
    ),
    Entry(
        "mlserver",
        "MLServer with mlserver-xgboost, without its second process (`parallel_workers=0`)",
        ("mlserver==1.7.1", "mlserver-xgboost==1.7.1", XGBOOST),
        "{bin}/mlserver start {place}",
        "/v2/models/model/infer",
        _infer,
        lambda answer: list(answer["outputs"][0]["data"]),
        python="3.12",
        environment={
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "{spare}",
            "MLSERVER_METRICS_PORT": "{metrics}",
            "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_MODEL_NAME": "model",
            "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_xgboost.XGBoostModel",
            "MLSERVER_MODEL_URI": "{file}",
        },
    ),
    Entry(
        "bentoml",
        "BentoML, `bentoml serve`",
        ("bentoml==1.4.40", XGBOOST),
        "{bin}/bentoml serve bento:Model --working-dir {rivals} --host 127.0.0.1 --port {port}",
        "/predict",
        lambda model, rows: {"data": model.rows(rows)},
        list,
        environment={"BENTOML_HOME": "{place}", "BENTOML_DO_NOT_TRACK": "True"},
    ),
    Entry(
        "litserve",
        "LitServe",
        ("litserve==0.2.19", XGBOOST),
        "{bin}/python {rivals}/lit.py {port}",
        "/predict",
        lambda model, rows: {"input": model.rows(rows)},
        lambda answer: list(answer["output"]),
    ),
    Entry(
        "ray",
        "Ray Serve, one replica",
        ("ray[serve]==2.60.0", XGBOOST),
        "{bin}/python {rivals}/ray_serve.py {port}",
        "/",
        lambda model, rows: {"input": model.rows(rows)},
        lambda answer: list(answer["output"]),
        environment={"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": "{place}"},
    ),
    Entry(
        "kserve",
        "KServe's model server with its XGBoost predictor, V1 protocol",
        ("kserve==0.21.0", XGBOOST),
        "{bin}/python {rivals}/kserve_xgboost.py --model_name model --http_port {port} --grpc_port {spare}",
        "/v1/models/model:predict",
        lambda model, rows: {"instances": model.rows(rows)},
        lambda answer: list(answer["predictions"]),
    ),
)
RIVALS = tuple(entry.name for entry in ENTRIES if entry.name not in (OURS, NOOP))
