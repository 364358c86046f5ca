"""Fuzzing of the protocols: every response is a prediction or an error of the protocol, never 5xx, without payload.

Requests use real connections. Bodies are valid ones with changed values and bytes, as in test_body_fuzz.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.app.harness import Running, running_service
from tests.app.http.test_body_fuzz import CODED, STUMBLING, changed, get, searched
from tests.app.kinds import KINDS

ASKED = ["multiclass", "categorical"]  # only numbers; and strings, integers and missing values
SHORT, LONG = 800, 40_000
LONGEST_SECONDS = 300  # a request that takes longer fails
MARK = "eyes only 8c1f"
INFER = "/v2/models/model/infer"
REFUSALS = {400, 404, 405, 413, 415}
JSON, OCTETS, CSV = "application/json", "application/octet-stream", "text/csv"
DTYPES = {"FP64": "<f8", "FP32": "<f4", "INT64": "<i8", "INT32": "<i4", "BOOL": "|b1"}
PATHS = ["/invocations", "/ping", "/version", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/model"]
ENDS = ["", "/", "/ready", "/infer", "/versions/1", "/versions/%00/infer", "?a=%ff", "/%2e"]
Sent = tuple[str, bytes, dict[str, str], bool]  # path, body, headers, whether the secret must not come back


@pytest.fixture(scope="module", params=ASKED)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Any]]:
    """Yield the service and three rows for its model."""
    folder = tmp_path_factory.mktemp("fuzz")
    KINDS[request.param].save(folder / "model")
    limits = {"MODEL_SERVICE_MAX_ROWS": "150", "MODEL_SERVICE_MAX_BODY_BYTES": "20000"}
    with running_service((folder / "model").as_uri(), folder, **limits) as here:
        data = KINDS[request.param].body()
        yield here, data | {"data": data["data"][:3]}


@st.composite
def tables(draw: st.DrawFn, example: dict[str, Any]) -> Any:
    """Draw a body of MLflow's protocol in one of its forms."""
    columns, rows = example["columns"], draw(st.lists(st.sampled_from(example["data"]), min_size=1, max_size=3))
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    lists = {name: list(values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)}
    forms = [
        {"dataframe_split": {"columns": list(columns), "data": [list(row) for row in rows], "index": [0]}},
        {"dataframe_records": records},
        {"instances": records},
        {"inputs": lists, "params": {"a": 1}},
        {"inputs": records[0]},
        {"inputs": [list(row) for row in rows]},
    ]
    return draw(st.sampled_from(forms))


@st.composite
def tensors(draw: st.DrawFn, example: dict[str, Any], described: list[dict[str, Any]], binary: bool) -> Any:
    """Draw a request of the Open Inference Protocol and its binary data."""
    rows = draw(st.lists(st.sampled_from(example["data"]), min_size=1, max_size=3))
    columns = dict(zip(example["columns"], zip(*rows, strict=True), strict=True))
    inputs, raw = [], b""
    for each in described:
        values, datatype = list(columns[each["name"]]), each["datatype"]
        tensor = {"name": each["name"], "datatype": datatype, "shape": [len(values)]}
        if binary and None not in values:
            if datatype == "BYTES":
                part = b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in values)
            else:
                part = np.array(values, DTYPES[datatype]).tobytes()
            raw += part
            inputs.append(tensor | {"parameters": {"binary_data_size": len(part)}})
        else:
            inputs.append(tensor | {"data": values})
    return {"id": "a", "inputs": inputs, "parameters": {"binary_data_output": draw(st.booleans())}}, raw


def hidden(draw: st.DrawFn, value: Any) -> Any:
    """Return the value, with the secret in place of one cell or unchanged."""
    if isinstance(value, dict):
        if "datatype" in value and "data" not in value:
            return value  # its cells are in the binary data
        cells = [key for key in ("dataframe_split", "instances", "inputs", "data") if key in value]
        key = draw(st.sampled_from(cells)) if cells else next(iter(value), "")
        return value | {key: hidden(draw, value[key])} if key in value else value
    if isinstance(value, list) and value:
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], hidden(draw, value[place]), *value[place + 1 :]]
    return MARK


def stumbled(draw: st.DrawFn, body: bytes) -> bytes:
    start = draw(st.integers(0, len(body)))
    return (
        body[:start]
        + draw(st.sampled_from(STUMBLING) | st.binary(max_size=3))
        + body[start + draw(st.integers(0, 9)) :]
    )


@st.composite
def requests(draw: st.DrawFn, example: dict[str, Any], described: list[dict[str, Any]]) -> Sent:
    """Draw a request to one of the two protocols."""
    how = draw(st.sampled_from(["table", "table", "CSV", "tensors", "tensors", "binary", "binary"]))
    raw, path, kind = b"", "/invocations", JSON
    if how == "CSV":
        lines = io.StringIO()
        csv.writer(lines).writerows([example["columns"], *example["data"]])
        head, kind = lines.getvalue().encode(), CSV
    else:
        if how == "table":
            value = draw(tables(example))
        else:
            value, raw = draw(tensors(example, described, how == "binary"))
            path, kind = INFER, OCTETS if raw else JSON
        if draw(st.integers(0, 3)) == 0:
            value = hidden(draw, value)
        for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
            value = changed(draw, value)
        head = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    times = draw(st.sampled_from([0, 0, 0, 1, 3]))
    size = len(head)
    for _ in range(times):
        if raw and draw(st.booleans()):
            raw = stumbled(draw, raw)
        else:
            head = stumbled(draw, head)
    if draw(st.integers(0, 4)):
        size = len(head)
    headers = {"Content-Type": draw(st.sampled_from([kind] * 12 + [JSON, CSV, OCTETS, "text/plain"]))}
    if raw or draw(st.integers(0, 9)) == 0:
        headers["Inference-Header-Content-Length"] = str(draw(st.sampled_from([size] * 9 + [-1, 0, 10**30])))
    body = (head + raw)[:24_000]
    if coding := draw(st.sampled_from([""] * 12 + [*CODED])):
        body, headers["Content-Encoding"] = CODED[coding](body), coding
    return path, body, headers, times == 0


def fuzz(asked: tuple[Running, Any], count: int) -> None:
    here, example = asked
    connection = HTTPConnection("127.0.0.1", here.port, timeout=LONGEST_SECONDS)
    described = json.loads(get(connection, "/v2/models/model"))["inputs"]
    met: Counter[tuple[str, int]] = Counter()

    @searched(count, same=count == SHORT // len(ASKED))
    @given(requests(example, described))
    def never_a_fault(sent: Sent) -> None:
        path, body, headers, clean = sent
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except BaseException:
            connection.close()  # otherwise the next request would fail too
            raise
        met[path, answer.status] += 1
        if answer.status == 200:
            return
        assert answer.status in REFUSALS, (answer.status, content)
        assert json.loads(content).keys() == ({"error"} if path == INFER else {"error_code", "message"})
        assert b"Traceback" not in content
        assert not clean or MARK.encode() not in content

    never_a_fault()
    connection.close()

    assert met.keys() >= {(path, status) for path in ("/invocations", INFER) for status in (200, 400, 415)}, met
    assert min(met["/invocations", 200], met[INFER, 200]) > count / 50, met
    assert "Traceback" not in here.log.read_text()
    assert MARK not in here.log.read_text()


def test_no_request_returns_5xx(asked: tuple[Running, Any]) -> None:
    fuzz(asked, SHORT // len(ASKED))


@pytest.mark.long
def test_no_request_returns_5xx_for_long(asked: tuple[Running, Any]) -> None:
    fuzz(asked, LONG // len(ASKED))


def test_no_path_or_method_returns_5xx(asked: tuple[Running, Any]) -> None:
    connection = HTTPConnection("127.0.0.1", asked[0].port, timeout=LONGEST_SECONDS)
    paths = st.tuples(st.sampled_from(PATHS), st.sampled_from(ENDS)).map("".join)

    @settings(max_examples=150)
    @given(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "ATTACK"]), paths)
    def never_a_fault(method: str, path: str) -> None:
        connection.request(method, path, b"{}" if method in ("POST", "PUT") else None)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status in REFUSALS | {200, 307}, (method, path, answer.status, content)

    never_a_fault()
    connection.close()
