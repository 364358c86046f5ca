"""Private parts of libraries that modules rely on, so that an update that changes one fails here and not in a pod."""

import ctypes
import importlib.util
import inspect
import re
import tomllib
from pathlib import Path

import pytest
import uvicorn
from prometheus_client import CollectorRegistry, Histogram
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState
from xgboost import collective
from xgboost.tracker import RabitTracker

PROTOCOL = {  # methods that app.http.server.Connection overrides, with their parameters
    "__init__": "config server_state app_state _loop",
    "data_received": "data",
    "send_400_response": "msg",
    "shutdown": "",
    "connection_lost": "exc",
    "_should_upgrade": "",
    "handle_websocket_upgrade": "",
    "_unset_keepalive_if_required": "",
}
SERVER = {  # methods that app.http.server.Server overrides
    "__init__": "config",
    "handle_exit": "sig frame",
    "on_tick": "counter",
    "shutdown": "sockets",
}
C_INTERFACE = (
    "XGBGetLastError", "XGBRegisterLogCallback", "XGBoostVersion", "XGBoosterCreate", "XGBoosterFree",
    "XGBoosterLoadModelFromBuffer", "XGBoosterPredictFromDMatrix", "XGBoosterPredictFromDense", "XGBoosterSetParam",
    "XGDMatrixCreateFromDense", "XGDMatrixFree",
)  # fmt: skip
PYPROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())


def parameters(function: object) -> str:
    """Return the names of a method's parameters, without self."""
    return " ".join(list(inspect.signature(function).parameters)[1:])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PROTOCOL)
def test_uvicorn_protocol_methods_overridden_by_http_server(name: str) -> None:
    method = getattr(HttpToolsProtocol, name, None)

    assert method, f"app.http.server relies on HttpToolsProtocol.{name}, which uvicorn {uvicorn.__version__} lacks"
    assert parameters(method) == PROTOCOL[name], f"app.http.server overrides HttpToolsProtocol.{name}"


@pytest.mark.parametrize("name", SERVER)
def test_uvicorn_server_methods_overridden_by_http_server(name: str) -> None:
    method = getattr(uvicorn.Server, name, None)

    assert method, f"app.http.server relies on uvicorn.Server.{name}, which uvicorn {uvicorn.__version__} lacks"
    assert parameters(method) == SERVER[name], f"app.http.server overrides uvicorn.Server.{name}"


def test_uvicorn_attributes_read_by_http_server() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    named = set(re.findall(r"self\.(\w+)(?::| =)", source))
    connection = {"scope", "cycle", "headers", "url", "parser", "transport", "server_state", "timeout_keep_alive_task"}
    cycle = set(re.findall(r"self\.(\w+)(?::| =)", inspect.getsource(RequestResponseCycle)))
    state = vars(ServerState())
    server = set(re.findall(r"self\.(\w+)(?::| =)", inspect.getsource(uvicorn.Server.__init__)))

    assert connection - named == set(), "app.http.server.Connection reads these attributes of HttpToolsProtocol"
    assert {"scope", "response_complete", "keep_alive"} - cycle == set(), "app.http.server reads these of a cycle"
    assert {"connections", "default_headers"} - state.keys() == set(), "app.http.server reads these of ServerState"
    assert {"should_exit", "force_exit", "server_state", "config"} - server == set(), "app.http.server sets these"


def test_prometheus_client_parts_used_by_observations() -> None:
    histogram = Histogram("seconds", "Seconds.", buckets=(1, 2), registry=CollectorRegistry())

    assert list(getattr(histogram, "_upper_bounds", ())) == [1.0, 2.0, float("inf")], "app.monitoring.observations"
    histogram._buckets[1].inc(3)
    histogram._sum.inc(4)
    (metric,) = histogram.collect()
    samples = {(sample.name, sample.labels.get("le")): sample.value for sample in metric.samples}
    assert samples["seconds_bucket", "1.0"] == 0, "app.monitoring.observations adds to Histogram._buckets"
    assert samples["seconds_bucket", "2.0"] == 3, "app.monitoring.observations adds to Histogram._buckets"
    assert samples["seconds_sum", None] == 4, "app.monitoring.observations adds to Histogram._sum"


def test_xgboost_c_functions_called_by_booster() -> None:
    spec = importlib.util.find_spec("xgboost")
    assert spec is not None
    assert spec.origin is not None
    library = ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libxgboost.so"))

    assert [name for name in C_INTERFACE if not hasattr(library, name)] == [], "app.model.booster calls these"
    source = (Path(__file__).parents[3] / "app" / "model" / "booster.py").read_text()
    assert set(re.findall(r"\bXG(?:B|D)\w+(?=[\(,.])", source)) - {"XGBoost"} <= set(C_INTERFACE)


def test_xgboost_collective_used_by_worker_group() -> None:
    assert {"n_workers", "host_ip", "port"} <= set(inspect.signature(RabitTracker).parameters), "training.workers.group"
    for part in ("start", "wait_for", "free", "worker_args"):
        assert hasattr(RabitTracker, part), f"training.workers.group calls RabitTracker.{part}"
    for part in ("allreduce", "Op", "CommunicatorContext"):
        assert hasattr(collective, part), f"training.workers.group uses xgboost.collective.{part}"


@pytest.mark.parametrize("package", ["prometheus-client", "uvicorn[standard]", "xgboost-cpu"])
def test_libraries_with_used_private_parts_have_an_upper_bound(package: str) -> None:
    (bound,) = [line for line in PYPROJECT["project"]["dependencies"] if line.startswith(f"{package}>=")]

    assert re.fullmatch(r"[^,]+,<\d+\.\d+", bound)
