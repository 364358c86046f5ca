"""Fuzzing of request bodies: the response has the right number of predictions or is a 4xx problem, never a 500.

Requests use real connections. Bodies are valid ones with changed values and bytes; /openapi.json defines what is valid.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.app.harness import running_service
from tests.app.kinds import KINDS

ASKED = ["multiclass", "categorical", "optional", "odd names"]  # more kinds of models, by name
# Hypothesis would print the whole body, which has up to MOST_BYTES.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
SHORT, LONG = 2000, 100_000
TAKEN_BYTES, MOST_BYTES = 20_000, 24_000  # above the first limit, the response is a 413
REFUSALS = {400, 413, 415, 422}
CODED: dict[str, Callable[[bytes], bytes]] = {
    **dict.fromkeys(("", "identity"), bytes),
    **{"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress},
}
JSON_TYPES = [None, "application/json", "application/json; charset=utf-8"]
OTHER_TYPES = ["text/plain", "application/octet-stream", "multipart/form-data; boundary=x", "\xff"]
# Input that breaks parsers: values that are not numbers, huge numbers, half characters, nesting and invalid UTF-8.
STUMBLING = [
    *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-0", b"1" * 400, b"9" * 5000, b"0.1e-400", b"01", b"+1"),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b"\xed\xa0\x80", b"\xff", b"\xc0\x80", b"\xef\xbb\xbf", b"\x00", b"\xfe\xff"),
    *(b"[" * 200, b"[" * 5000, b'{"a":' * 3000, b"]" * 9, b'"instances": [], ', b'"columns": [], "columns": 1, '),
    *(b"null", b"true", b'""', b"{}", b"[]", b"/**/", b",", b"'", b'\\"', b"\\u0000", b"\xe2\x80\xa8"),
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 1, -1, 2**31, -(2**31) - 1, 2**63, 2**64, 10**400, 3.5e38, 1e308, 1.5, 7.0]),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@dataclass(frozen=True)
class Asked:
    """A service with its model's description and request schema."""

    connection: HTTPConnection
    example: dict[str, Any]
    bodies: Draft202012Validator
    answers: Draft202012Validator
    problems: Draft202012Validator


@pytest.fixture(scope="module", params=ASKED)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("fuzz")
    KINDS[request.param].save(folder / "model")
    limits = {"MODEL_SERVICE_MAX_ROWS": "150", "MODEL_SERVICE_MAX_BODY_BYTES": str(TAKEN_BYTES)}
    with running_service((folder / "model").as_uri(), folder, **limits) as here:
        connection = HTTPConnection("127.0.0.1", here.port, timeout=300)
        document = json.loads(get(connection, "/openapi.json"))
        content = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        of = [content, *({"$ref": f"#/components/schemas/{name}"} for name in ("Predictions", "ProblemDetails"))]
        validators = [Draft202012Validator(schema | {"components": document["components"]}) for schema in of]
        data = KINDS[request.param].body()
        yield Asked(connection, data | {"data": data["data"][:3]}, *validators)
        connection.close()


def get(connection: HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()


@st.composite
def valid(draw: st.DrawFn, example: dict[str, Any]) -> Any:
    """Draw a body as a value: rows of the example in one of the two forms."""
    rows = draw(st.lists(st.sampled_from(example["data"]), min_size=1, max_size=3))
    if draw(st.booleans()):
        return {"instances": [dict(zip(example["columns"], row, strict=True)) for row in rows]}
    return {"columns": list(example["columns"]), "data": [list(row) for row in rows]}


def changed(draw: st.DrawFn, value: Any) -> Any:
    """Draw the value with a different value at one place."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(list(value)))
        how = draw(st.sampled_from(["deeper", "deeper", "deeper", "gone", "renamed", "more"]))
        if how == "deeper":
            return value | {key: changed(draw, value[key])}
        rest = {k: v for k, v in value.items() if k != key} if how != "more" else value
        return rest if how == "gone" else rest | {draw(st.text(max_size=4)): value[key]}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        place = draw(st.integers(0, len(value) - 1))
        how = draw(st.sampled_from(["deeper", "deeper", "deeper", "gone", "twice", "many"]))
        if how == "deeper":
            return [*value[:place], changed(draw, value[place]), *value[place + 1 :]]
        times = {"gone": 0, "twice": 2, "many": 160}[how]
        return [*value[:place], *[value[place]] * times, *value[place + 1 :]]
    return draw(values)


@st.composite
def bodies(draw: st.DrawFn, example: dict[str, Any]) -> bytes:
    """Draw a body as bytes: valid, or with changed values, changed bytes, or both."""
    value = draw(valid(example))
    for _ in range(draw(st.integers(0, 2))):
        value = changed(draw, value)
    body = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 9)) | st.just(start))
        body = body[:start] + draw(st.sampled_from(STUMBLING) | st.binary(max_size=3)) + body[end:]
    return body[:MOST_BYTES]


def parsed(body: bytes) -> Any:
    """Parse the body strictly with Python's own parser.

    Raises:
        ValueError: The body is not valid JSON.
        RecursionError: The body is nested too deeply.
    """

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(body.decode("utf-8"), parse_constant=refuse)


def ask(asked: Asked, body: bytes, kind: str | None, coding: str, chunked: bool) -> tuple[HTTPResponse, bytes]:
    headers = {"Content-Type": kind} if kind is not None else {}
    headers |= {"Content-Encoding": coding} if coding else {}
    sent = CODED.get(coding, bytes)(body)
    headers |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(sent))}
    body_sent = iter([sent[:7], sent[7:]] if len(sent) > 7 else [sent]) if chunked else sent
    try:
        asked.connection.request("POST", "/predict", body_sent, headers, encode_chunked=chunked)
        answer = asked.connection.getresponse()
        return answer, answer.read()
    except BaseException:
        asked.connection.close()  # otherwise the next request would fail too
        raise


def check(asked: Asked, body: bytes, answer: HTTPResponse, content: bytes, taken: bool) -> None:
    found = json.loads(content)
    try:
        value = parsed(body)
    except (ValueError, RecursionError):
        value = None
    if answer.status == 200:
        rows = value["instances"] if "instances" in value else value["data"]
        assert taken
        assert len(found["predictions"]) == len(rows)
        assert asked.answers.is_valid(found), list(asked.answers.iter_errors(found))
        return
    assert answer.status in REFUSALS
    assert (answer.status == 415) is not taken
    assert answer.headers["content-type"] == "application/problem+json"
    assert asked.problems.is_valid(found)
    assert (found["status"], found["request_id"]) == (answer.status, answer.headers["x-request-id"])
    if taken and value is not None and len(body) <= TAKEN_BYTES:
        assert not asked.bodies.is_valid(value)


def searched(count: int, *, same: bool) -> settings:
    """Return the hypothesis settings for this number of examples, the same ones each time or random ones."""
    return settings(
        max_examples=count, derandomize=same, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


def fuzz(asked: Asked, count: int) -> None:
    kinds = st.sampled_from([*JSON_TYPES * 6, *OTHER_TYPES])
    codings = st.sampled_from([""] * 12 + [*CODED, "br"])

    @searched(count, same=count == SHORT // len(ASKED))
    @given(bodies(asked.example), kinds, codings, st.booleans())
    def never_a_fault(body: bytes, kind: str | None, coding: str, chunked: bool) -> None:
        answer, content = ask(asked, body, kind, coding, chunked)
        check(asked, body, answer, content, kind in JSON_TYPES and coding in CODED)
        met[answer.status] += 1

    met: Counter[int] = Counter()
    never_a_fault()

    assert met.keys() >= {200, 400, 415, 422}, met
    assert met[200] > count / 20, met  # enough successful predictions to check


def test_no_body_returns_5xx(asked: Asked) -> None:
    fuzz(asked, SHORT // len(ASKED))


@pytest.mark.long
def test_no_body_returns_5xx_for_long(asked: Asked) -> None:
    fuzz(asked, LONG // len(ASKED))
