"""Callers and their quotas: refusals on all paths, changes without a restart, addresses, and the audit log."""

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from backports import zstd
from openapi_spec_validator import validate
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from app.endpoints.arrow import ARROW
from app.http.body import INLINE_BYTES
from tests.app.harness import (
    CLASSES,
    COLUMNS,
    MODEL,
    SERVICE,
    listening,
    logged,
    process,
    serving,
    settings_for,
    structured,
)
from tools.loopback import free_port, until

ROW = [0.5, 0.25, 3]
HOUR = 1 / 3600  # requests a second: a refilled unit comes an hour later, so that no test depends on its speed


MOST = 40  # callers of each kind


def body(rows: int = 1) -> dict[str, Any]:
    return {"columns": COLUMNS, "data": [ROW] * rows}


def tensor(rows: int = 1) -> dict[str, Any]:
    return {"inputs": [{"name": "rows", "datatype": "FP32", "shape": [rows, 3], "data": [ROW] * rows}]}


WAYS = {
    "/predict": body,
    "/explain": body,
    "/invocations": lambda rows=1: {"dataframe_split": body(rows)},
    f"/v2/models/{MODEL}/infer": tensor,
    f"/v2/models/{MODEL}/versions/{{version}}/infer": tensor,
}


def quota(requests: float = 0, rows: float = 0, burst: int = 3600) -> dict[str, Any]:
    return {"requestsPerSecond": requests, "rowsPerSecond": rows, "burstSeconds": burst}


QUOTAS = {f"web-{number}": quota(3 * HOUR) for number in range(MOST)} | {
    f"batch-{number}": quota(rows=100 * HOUR) for number in range(MOST)
}


def key_of(caller: str) -> str:
    return f"{caller}-key-0123456789"


def mount(place: Path, owners: dict[str, Any]) -> None:
    (place / "quotas.json").write_text(json.dumps({"owners": owners}))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the keys of many callers, so that each test has its own, and a file of quotas."""
    place = tmp_path_factory.mktemp("callers")
    (place / "keys").mkdir()
    for name in ("idle", *(f"{kind}-{number}" for kind in ("web", "batch") for number in range(MOST))):
        (place / "keys" / name).write_text(key_of(name))
    (place / "feedback").mkdir()
    (place / "feedback" / "one").write_text("feedback-key-0123456789")
    mount(place, QUOTAS)
    return place


@pytest.fixture(scope="module")
def client(saved: Path, place: Path) -> Iterator[TestClient]:
    settings = settings_for(
        saved.as_uri(),
        place,
        model_name=MODEL,
        api_keys_dir=place / "keys",
        feedback_keys_dir=place / "feedback",
        quotas_file=place / "quotas.json",
    )
    with serving(settings) as client:
        yield client


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return iter(range(MOST))


@pytest.fixture
def web(numbers: Iterator[int]) -> str:
    """Return a caller with a quota of three requests."""
    return f"web-{next(numbers)}"


@pytest.fixture
def batch(numbers: Iterator[int]) -> str:
    """Return a caller with a quota of a hundred rows."""
    return f"batch-{next(numbers)}"


def wait(text: str) -> int:
    """Return seconds from a header, rounded up to 12, because some of them pass while a test runs."""
    return -(-int(text) // 12) * 12


def post(
    client: TestClient, caller: str, path: str = "/predict", content: Any = None, headers: dict[str, str] | None = None
) -> httpx.Response:
    """Send bytes as they are, and anything else as JSON."""
    headers = {"Authorization": f"Bearer {key_of(caller)}"} | (headers or {})
    path = path.format(version=client.app.state.service.loaded.model.provenance.version)  # type: ignore[attr-defined]
    sent = {"content": content} if isinstance(content, bytes) else {"json": body() if content is None else content}
    return client.post(path, headers=headers, **sent)  # type: ignore[return-value]


def test_used_up_requests_return_429_until_they_refill(client: TestClient, web: str) -> None:
    allowed = [post(client, web) for _ in range(3)]
    refused = post(client, web)

    assert [each.status_code for each in allowed] == [200, 200, 200]
    left = [structured(each.headers["ratelimit"].encode()) for each in (*allowed, refused)]
    assert [each["requests"]["r"] for each in left] == [2, 1, 0, 0]
    assert {wait(each["requests"]["t"]) for each in left} == {1200}
    assert {each.headers["ratelimit-policy"] for each in (*allowed, refused)} == {'"requests";q=3;w=3600'}
    assert (refused.status_code, wait(refused.headers["retry-after"])) == (429, 1200)
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["x-request-id"] == refused.json()["request_id"]
    assert refused.json()["type"] == "urn:model-service:quota-exceeded"
    assert refused.json()["detail"].startswith("The quota of this caller is used up: 0.000833333 requests per second,")


def test_other_callers_are_not_affected(client: TestClient, batch: str, web: str) -> None:
    assert [post(client, web).status_code for _ in range(4)] == [200, 200, 200, 429]

    unlimited = post(client, "idle")

    assert unlimited.status_code == 200
    assert "ratelimit" not in unlimited.headers
    assert post(client, batch).status_code == 200


@pytest.mark.parametrize("path", [*WAYS, "/feedback"])
def test_every_path_is_refused_in_the_form_of_its_protocol(client: TestClient, web: str, path: str) -> None:
    for _ in range(3):
        post(client, web)

    refused = post(client, web, path, {})

    detail = "The quota of this caller is used up: 0.000833333 requests per second, at most 3 at once."
    assert (refused.status_code, wait(refused.headers["retry-after"])) == (429, 1200)
    if path.startswith("/v2"):
        assert refused.json() == {"error": detail}
    elif path == "/invocations":
        assert refused.json() == {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": detail}
    else:
        assert refused.json()["detail"] == detail


def test_feedback_is_a_request(client: TestClient, web: str) -> None:
    token = post(client, web).json()["tokens"][0]
    labels = {"labels": [{"token": token, "label": CLASSES[0]}]}

    assert [post(client, web, "/feedback", labels).status_code for _ in range(3)] == [200, 422, 429]


@pytest.mark.parametrize("path", WAYS)
def test_used_up_rows_return_429_and_more_rows_than_the_burst_a_permanent_413(
    client: TestClient, batch: str, path: str
) -> None:
    most = 60 if path == "/explain" else 80
    good = post(client, batch, path, WAYS[path](most))
    refused = post(client, batch, path, WAYS[path](100))
    never = [post(client, batch, "/predict", body(101)) for _ in range(2)]

    assert good.status_code == 200
    assert good.headers["ratelimit-policy"] == '"rows";q=100;w=3600;qu="rows"'
    assert good.headers["ratelimit"].startswith(f'"rows";r={100 - most};t=')
    assert (refused.status_code, wait(refused.headers["retry-after"])) == (429, most * 36)
    assert "100 at once" in refused.text
    assert [each.status_code for each in never] == [413, 413]
    assert "retry-after" not in never[0].headers
    expected = "The body has 101 rows; the quota of this caller allows at most 100 rows per request."
    assert never[0].json()["detail"] == expected
    assert post(client, batch, path, WAYS[path](100 - most)).status_code == 200


@pytest.mark.parametrize("coding", ["", "zstd"])
@pytest.mark.parametrize("path", WAYS)
def test_rows_of_large_bodies_are_charged_too(client: TestClient, batch: str, path: str, coding: str) -> None:
    def send(rows: int) -> httpx.Response:
        content = json.dumps(WAYS[path](rows)).encode() + b" " * INLINE_BYTES  # so that a thread reads it
        headers = {"Content-Type": "application/json"} | ({"Content-Encoding": coding} if coding else {})
        return post(client, batch, path, zstd.compress(content) if coding else content, headers)

    good, refused, never = send(60), send(60), send(101)

    assert [each.status_code for each in (good, refused, never)] == [200, 429, 413]
    assert good.headers["ratelimit"].startswith('"rows";r=40;t=')
    assert good.headers["vary"]
    assert wait(refused.headers["retry-after"]) == 20 * 36
    assert send(40).status_code == 200


@pytest.mark.parametrize("padding", ["", "x" * INLINE_BYTES], ids=["on the event loop", "in a thread"])
@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_rows_of_arrow_streams_are_charged_too(client: TestClient, batch: str, path: str, padding: str) -> None:
    table = pa.table({name: [value] * 60 for name, value in zip(COLUMNS, ROW, strict=True)})
    output = io.BytesIO()
    with pa.ipc.new_stream(output, table.schema.with_metadata({"padding": padding})) as stream:
        stream.write_table(table)

    answers = [post(client, batch, path, output.getvalue(), {"Content-Type": ARROW}) for _ in range(2)]

    assert [each.status_code for each in answers] == [200, 429]
    assert answers[0].headers["ratelimit"].startswith('"rows";r=40;t=')


def test_body_is_not_read_when_the_requests_are_used_up(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "quotas.json"
    path.write_text(json.dumps({"default": quota(HOUR)}))

    async def scenario() -> int:
        async with listening(settings_for(saved.as_uri(), tmp_path, quotas_file=path)) as here:
            assert (await here.ask("POST", "/predict", json.dumps(body()).encode())).status == 200
            async with asyncio.timeout(20):
                return (await here.ask("POST", "/predict", b"{", announced=500_000)).status

    assert asyncio.run(scenario()) == 429


def test_reading_is_not_limited(client: TestClient, web: str) -> None:
    for _ in range(4):
        post(client, web)

    headers = {"Authorization": f"Bearer {key_of(web)}"}
    assert [client.get(path, headers=headers).status_code for path in ("/model", "/v2", "/openapi.json")] == [200] * 3


def test_invalid_key_uses_no_quota(client: TestClient, web: str) -> None:
    answers = [client.post("/predict", json=body(), headers={"Authorization": "Bearer wrong"}) for _ in range(5)]

    assert [each.status_code for each in answers] == [401] * 5
    assert post(client, web).headers["ratelimit"].startswith('"requests";r=2')


def test_changed_quota_applies_without_a_restart(client: TestClient, web: str, place: Path) -> None:
    assert [post(client, web).status_code for _ in range(4)] == [200, 200, 200, 429]

    mount(place, QUOTAS | {web: quota(20 * HOUR)})

    until(lambda: post(client, web).status_code == 200)
    assert post(client, web).headers["ratelimit-policy"] == '"requests";q=20;w=3600'


def test_refusals_and_usage_are_metrics(client: TestClient, batch: str) -> None:
    def value(name: str, **labels: str) -> float:
        list(REGISTRY.collect())
        return REGISTRY.get_sample_value(name, {"model_name": MODEL, **labels}) or 0

    names = ("model_caller_requests_total", "model_caller_rows_total", "model_quota_refusals_total")
    before = [value(names[0], caller=batch), value(names[1], caller=batch)]
    refused = value(names[2], caller=batch, reason="rows")

    post(client, batch, content=body(90))
    post(client, batch, content=body(90))

    assert value(names[0], caller=batch) == before[0] + 2
    assert value(names[1], caller=batch) == before[1] + 180
    assert value(names[2], caller=batch, reason="rows") == refused + 1


def test_callers_without_keys_are_limited_by_address(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "quotas.json"
    path.write_text(json.dumps({"default": quota(2 * HOUR)}))
    settings = settings_for(saved.as_uri(), tmp_path, quotas_file=path, trusted_proxies=("127.0.0.0/8",))

    async def scenario() -> list[list[int]]:
        async with (
            listening(settings) as here,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{here.port}", timeout=300) as client,
        ):

            async def statuses(*forwarded: str) -> list[int]:
                asked = [client.post("/predict", json=body(), headers={"X-Forwarded-For": each}) for each in forwarded]
                return sorted([answer.status_code for answer in await asyncio.gather(*asked)])

            return [
                await statuses("203.0.113.7", "203.0.113.7", "203.0.113.7"),
                await statuses("203.0.113.8", "203.0.113.8", "203.0.113.8"),
                await statuses("198.51.100.1, 203.0.113.9", "198.51.100.2, 203.0.113.9", "127.0.0.1, 203.0.113.9"),
                await statuses("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"),
            ]

    def counted() -> float:
        list(REGISTRY.collect())
        labels = {"model_name": settings.served_name, "caller": "unknown"}
        return REGISTRY.get_sample_value("model_caller_requests_total", labels) or 0

    before = counted()
    assert asyncio.run(scenario()) == [[200, 200, 429], [200, 200, 429], [200, 200, 429], [200, 200, 200, 429]]
    assert counted() == before + 13


def test_refused_callers_are_logged_once_without_the_key(client: TestClient, web: str) -> None:
    with logged() as lines:
        for _ in range(6):
            post(client, web)

    audited = [(each["caller"], each["message"], each["refusals"]) for each in lines if "refusals" in each]
    assert audited == [(web, "request refused: the quota of the caller is used up", 1)]
    assert key_of(web) not in json.dumps(lines)


def test_openapi_describes_the_refusal(client: TestClient) -> None:
    document = client.get("/openapi.json", headers={"Authorization": f"Bearer {key_of('idle')}"}).json()

    validate(document)
    described = {path for path, item in document["paths"].items() if "429" in item.get("post", {}).get("responses", {})}
    assert described == {path for path, item in document["paths"].items() if "post" in item}
    refused = document["paths"]["/predict"]["post"]["responses"]["429"]
    assert set(refused["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}
    assert not [path for path, item in document["paths"].items() if "429" in item.get("get", {}).get("responses", {})]


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("QUOTAS_FILE", '{"default": {"rows": 1}}', ": default.rows: Extra inputs are not permitted\n"),
        (
            "TRUSTED_PROXIES",
            '["10.0.0.0/33"]',
            "'10.0.0.0/33' does not appear to be an IPv4 or IPv6 network; write CIDR notation, such as 10.0.0.0/8\n",
        ),
    ],
)
def test_service_with_unusable_settings_does_not_start(
    saved: Path, tmp_path: Path, variable: str, value: str, sentence: str
) -> None:
    if variable == "QUOTAS_FILE":
        (tmp_path / "quotas.json").write_text(value)
        value = str(tmp_path / "quotas.json")
    variables = {
        "MODEL_SERVICE_MODEL_URI": saved.as_uri(),
        "MODEL_SERVICE_PORT": str(free_port()),
        "MODEL_SERVICE_TERMINATION_MESSAGE_PATH": str(tmp_path / "termination"),
        f"MODEL_SERVICE_{variable}": value,
    }
    with process(SERVICE, tmp_path / "log", **variables) as running:
        assert running.wait(60) == 1

    message = (tmp_path / "termination").read_text()
    assert message.startswith(f"The service is misconfigured: MODEL_SERVICE_{variable}: ")
    assert message.endswith(sentence)
