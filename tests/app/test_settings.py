"""Settings of the service."""

import pytest
from pydantic import ValidationError

from app.settings import Settings, describe
from app.uri import ModelFolder, RegisteredModel

URI = "MODEL_SERVICE_MODEL_URI"
TRACKING = "MODEL_SERVICE_MLFLOW_TRACKING_URI"


def settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize(
    ("uri", "source", "name"),
    [
        ("models:/churn/3", RegisteredModel("churn", "3", ""), "churn"),
        ("models:/my churn@champion", RegisteredModel("my churn", "", "champion"), "my churn"),
    ],
)
def test_registry_uri_is_parsed(monkeypatch: pytest.MonkeyPatch, uri: str, source: RegisteredModel, name: str) -> None:
    found = settings(monkeypatch, **{URI: uri, TRACKING: "http://mlflow:5000"})

    assert (found.source, found.served_name) == (source, name)


def test_folder_uri_requires_no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch, **{URI: "file:///models/my%20model", TRACKING: ""})

    assert isinstance(found.source, ModelFolder)
    assert str(found.source.path) == "/models/my model"
    assert found.served_name == "my model"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "models:/a",
        "models:/a/0",
        "models:/a/latest",
        "models:/a/b/1",
        "file://",
        "file://host/x",
        "s3:///k",
        "hdfs://b/k",
    ],
)
def test_invalid_uri_is_rejected_with_the_grammar(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        settings(monkeypatch, **{URI: uri, TRACKING: "http://mlflow:5000"})

    assert describe(refusal.value) == (
        "The service is misconfigured: MODEL_SERVICE_MODEL_URI must be "
        "models:/<name>/<version>, models:/<name>@<alias>, models:/m-<id>, runs:/<run>/<path>, "
        "mlflow-artifacts:/<path>, s3://<bucket>/<path>, gs://<bucket>/<path>, "
        "az://<container>/<path>, https://<host>/<path> or file:///<folder>"
    )


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("", "requires MODEL_SERVICE_MLFLOW_TRACKING_URI"),
        ("sqlite:///mlflow.db", "must be an http:// or https:// address"),
        ("http://user:geheim@mlflow:99999", "invalid port"),
    ],
)
def test_tracking_uri_must_be_an_http_address(monkeypatch: pytest.MonkeyPatch, address: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as refusal:
        settings(monkeypatch, **{URI: "models:/a/1", TRACKING: address})

    assert "geheim" not in f"{refusal.value}{describe(refusal.value)}"


def test_credentials_in_the_tracking_uri_are_used_but_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch, **{URI: "models:/a/1", TRACKING: "https://user:ge%40heim@mlflow:5000/sub/"})

    assert found.tracking_address == "https://mlflow:5000/sub"
    assert found.tracking_user == ("user", "ge@heim")


def test_mlflow_variables_take_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"MLFLOW_TRACKING_USERNAME": "other", "MLFLOW_TRACKING_PASSWORD": "geheim"}

    found = settings(monkeypatch, **{URI: "models:/a/1", TRACKING: "https://user:x@mlflow"}, **own)

    assert found.tracking_user == ("other", "geheim")
    assert "geheim" not in repr(found)


@pytest.mark.parametrize("text", ["0.1,0.5,1", "[0.1, 0.5, 1]", " [0.1,0.5,1.0] "])
def test_buckets_are_json_or_comma_separated(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    found = settings(monkeypatch, **{URI: "file:///m", "MODEL_SERVICE_LATENCY_BUCKETS": text})

    assert found.latency_buckets == (0.1, 0.5, 1.0)


@pytest.mark.parametrize("text", ["1,0.5", "0,1", "x", "[", "1,inf", "[]", "nan"])
def test_invalid_buckets_are_rejected(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        settings(monkeypatch, **{URI: "file:///m", "MODEL_SERVICE_LATENCY_BUCKETS": text})

    assert "MODEL_SERVICE_LATENCY_BUCKETS" in describe(refusal.value)


def test_pinned_digest_may_be_written_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch, **{URI: "file:///m", "MODEL_SERVICE_MODEL_SHA256": "AB" * 32})

    assert found.model_sha256 == "ab" * 32


@pytest.mark.parametrize("text", ["ab", "x" * 64, "0" * 63, "sha256:" + "0" * 64])
def test_invalid_digest_is_rejected(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        settings(monkeypatch, **{URI: "file:///m", "MODEL_SERVICE_MODEL_SHA256": text})

    assert "MODEL_SERVICE_MODEL_SHA256: must be the 64 hexadecimal digits" in describe(refusal.value)


def test_queue_timeout_above_request_timeout_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = {"MODEL_SERVICE_QUEUE_TIMEOUT_SECONDS": "3", "MODEL_SERVICE_REQUEST_TIMEOUT_SECONDS": "2"}

    with pytest.raises(ValidationError) as refusal:
        settings(monkeypatch, **{URI: "file:///m", **waits})

    assert "MODEL_SERVICE_QUEUE_TIMEOUT_SECONDS must not exceed" in describe(refusal.value)


@pytest.mark.parametrize("path", ["churn", "/", "/churn/"])
def test_invalid_root_path_is_rejected(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        settings(monkeypatch, **{URI: "file:///m", "MODEL_SERVICE_ROOT_PATH": path})

    assert "MODEL_SERVICE_ROOT_PATH" in describe(refusal.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({URI: "models:/a/1"}, "requires a model URI with an alias"),
        ({"MODEL_SERVICE_MODEL_FLAVOR": "pyfunc"}, "requires MODEL_SERVICE_MODEL_FLAVOR=xgboost"),
        ({"MODEL_SERVICE_MODEL_SHA256": "ab" * 32}, "contradicts MODEL_SERVICE_MODEL_SHA256"),
    ],
)
def test_alias_that_cannot_be_followed_is_rejected(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], problem: str
) -> None:
    given = {URI: "models:/a@live", TRACKING: "http://mlflow", "MODEL_SERVICE_FOLLOW_POLL_SECONDS": "30"}
    assert settings(monkeypatch, **given).follows

    with pytest.raises(ValidationError, match=f"MODEL_SERVICE_FOLLOW_POLL_SECONDS {problem}"):
        settings(monkeypatch, **given | changes)


CHALLENGER = "MODEL_SERVICE_CHALLENGER_URI"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({CHALLENGER: "churn"}, "CHALLENGER_URI must be models:/<name>/<version>, "),
        ({CHALLENGER: "s3://bucket/model"}, "CHALLENGER_URI must be models:/<name>/<version>, "),
        ({CHALLENGER: "models:/b/2"}, "CHALLENGER_URI must be a version of the registered model a, "),
        ({URI: "file:///m", TRACKING: ""}, "CHALLENGER_URI requires MODEL_SERVICE_MLFLOW_TRACKING_URI"),
        ({"MODEL_SERVICE_MODEL_FLAVOR": "pyfunc"}, "CHALLENGER_URI requires MODEL_SERVICE_MODEL_FLAVOR=xgboost"),
        ({"MODEL_SERVICE_CHALLENGER_LABELS": "true"}, "CHALLENGER_LABELS requires MODEL_SERVICE_FEEDBACK_KEYS_DIR"),
        ({"MODEL_SERVICE_CHALLENGER_SHA256": "ab"}, "CHALLENGER_SHA256\n.*must be the 64 hexadecimal digits"),
    ],
)
def test_challenger_that_cannot_be_compared_is_rejected(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], problem: str
) -> None:
    given = {URI: "models:/a/1", TRACKING: "http://mlflow", CHALLENGER: "models:/a@next"}
    assert settings(monkeypatch, **given).challenger_uri

    with pytest.raises(ValidationError, match=f"(?i){problem}"):
        settings(monkeypatch, **given | changes)
