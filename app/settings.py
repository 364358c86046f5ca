"""Define every environment variable the service reads."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app import keys
from app.source import GRAMMAR, ModelFolder, RegisteredModel, source_of

# Dense below 10 ms, because a booster answers one row in less than one; Prometheus' own default starts at 5 ms.
LATENCY_BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Settings(BaseSettings):
    """Configure the service: MODEL_SERVICE_<FIELD>, and MLflow's credentials by MLflow's own names.

    Raises:
        pydantic.ValidationError: a value is missing, malformed or contradicts another. It names no values.
    """

    model_config = SettingsConfigDict(
        env_prefix="MODEL_SERVICE_",
        env_ignore_empty=True,  # an empty variable is what a chart renders for "not set"
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # a tracking URI may hold a password
    )

    model_uri: str = Field(default="", description=f"Model to serve, required: {GRAMMAR}.")
    model_name: str = Field(default="", description="Name in answers and metrics; empty: taken from the URI.")
    model_sha256: str = Field(
        default="",
        description="Digest that alone is served, 64 hexadecimal digits: model.ubj's, or pyfunc's folder's.",
    )
    model_flavor: Literal["xgboost", "pyfunc"] = Field(
        default="xgboost", description="pyfunc lets MLflow load the model, which runs code that came with it."
    )
    model_compatibility: Literal["off", "warn", "fail"] = Field(
        default="warn", description="What to do with a model that was logged with other packages than are here."
    )
    mlflow_tracking_uri: str = Field(default="", description="MLflow server; needed by models:/ URIs.")
    cache_dir: Path = Field(default=Path("/var/cache/model-service"), description="For downloads, this process's own.")
    load_timeout_seconds: float = Field(default=120, gt=0, description="Until a model that does not load ends us.")
    max_rows: int = Field(default=1000, ge=1, description="Rows one request may hold.")
    max_explain_rows: int = Field(default=100, ge=1, description="Rows one request to /explain may hold.")
    max_body_bytes: int = Field(default=1_048_576, ge=1, description="Bytes one request may hold.")
    max_concurrency: int = Field(default=32, ge=1, description="Requests predicted at the same time.")
    queue_size: int = Field(default=128, ge=0, description="Requests that may wait for their turn; one more is a 503.")
    queue_timeout_seconds: float = Field(default=5, gt=0, description="Longest wait for a turn; then 503.")
    request_timeout_seconds: float = Field(default=30, gt=0, description="From the whole body to the answer; then 504.")
    body_timeout_seconds: float = Field(
        default=10, gt=0, description="For the headers to arrive, then for the body, else 408; and to take the answer."
    )
    keep_alive_seconds: int = Field(
        default=75, ge=1, description="Of silence, until an idle connection is closed; more than the proxy's own time."
    )
    saturation_seconds: float = Field(default=10, gt=0, description="Of refusing for overload, until we are not ready.")
    mlflow_protocol: bool = Field(default=True, description="Answer MLflow's protocol too: /invocations, /ping.")
    open_inference_protocol: bool = Field(default=True, description="Answer the Open Inference Protocol too: /v2.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str = Field(
        default="",
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="OpenTelemetry collector that gets the traces, by OTLP over HTTP; empty: there are none.",
    )
    payload_sample_ratio: float = Field(
        default=0, ge=0, le=1, description="Share of the requests whose rows and predictions are logged; 0: none."
    )
    payload_redact: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Columns whose values the payload log never shows, as a JSON list."
    )
    latency_buckets: Annotated[tuple[float, ...], NoDecode] = Field(
        default=LATENCY_BUCKETS_SECONDS,
        description="Bounds of the request latency histogram, in seconds: a JSON list or separated by commas.",
    )
    latency_objective_seconds: float = Field(default=0.25, gt=0, description="A bound more, which the alerts ask for.")
    drift_max_features: int = Field(
        default=20, ge=0, description="Features counted for drift, the most important first."
    )
    feedback_keys_dir: Path | None = Field(
        default=None,
        description="Folder with one key a file, the last of which signs the tokens that come with predictions; "
        "empty: there are none, and no labels are taken.",
    )
    feedback_max_age_seconds: int = Field(
        default=2_592_000, ge=1, description="Time after a prediction in which its label is taken."
    )
    pages_enabled: bool = Field(default=True, description="Serve the pages for people, / and /docs.")
    image: str = Field(default="", description="Reference of the image we run in; only told to those who ask.")
    git_commit: str = Field(default="", validation_alias="GIT_COMMIT", description="Of the service's own code.")
    app_name: str = Field(default="model-service", description="Label app_name of the HTTP metrics: the release.")
    shutdown_seconds: int = Field(default=30, ge=1, description="What requests in flight get after SIGTERM.")
    termination_message_path: Path = Path("/dev/termination-log")
    api_keys_dir: Path | None = Field(
        default=None, description="Folder with one API key a file, one of which every caller needs; empty: none does."
    )
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached at its own address
    port: int = Field(default=8000, ge=1, le=65535)
    root_path: str = Field(
        default="", pattern="^(/[^/]+)*$", description="Path a proxy strips before it hands the request on."
    )

    tracking_username: SecretStr = Field(default=SecretStr(""), validation_alias="MLFLOW_TRACKING_USERNAME")
    tracking_password: SecretStr = Field(default=SecretStr(""), validation_alias="MLFLOW_TRACKING_PASSWORD")
    tracking_token: SecretStr = Field(default=SecretStr(""), validation_alias="MLFLOW_TRACKING_TOKEN")

    @field_validator("model_sha256")
    @classmethod
    def _digest_is_whole(cls, value: str) -> str:
        if value and not _SHA256.fullmatch(value):
            raise ValueError("give the 64 hexadecimal digits of the model's sha256")
        return value.lower()

    @field_validator("otlp_endpoint")
    @classmethod
    def _collector_is_an_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/@]+(/[^\s@]*)?", value):
            raise ValueError(
                "must be an http:// or https:// address without credentials, such as http://collector:4318"
            )
        return value

    @field_validator("api_keys_dir", "feedback_keys_dir")
    @classmethod
    def _keys_are_there(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        try:
            found, unusable = keys.read(value)
        except OSError as error:
            raise ValueError(f"the folder cannot be read ({error.strerror}); mount the Secret there") from None
        if not found:
            raise ValueError("; ".join(["it holds no usable key, one a file", *unusable]))
        return value

    @field_validator("payload_redact", mode="before")
    @classmethod
    def _read_list(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("latency_buckets", mode="before")
    @classmethod
    def _split_buckets(cls, value: Any) -> Any:
        """Read both spellings: what Helm's toJson renders, and what people type."""
        if not isinstance(value, str):
            return value
        return json.loads(value) if value.lstrip().startswith("[") else value.split(",")

    @field_validator("latency_buckets")
    @classmethod
    def _buckets_rise(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        rising = all(a < b for a, b in pairwise(value))
        if not value or not rising or value[0] <= 0 or not math.isfinite(value[-1]):
            raise ValueError("give finite bounds above 0 in rising order")
        return value

    @model_validator(mode="after")
    def _waits_fit(self) -> Self:
        if self.queue_timeout_seconds > self.request_timeout_seconds:
            raise ValueError(
                "MODEL_SERVICE_QUEUE_TIMEOUT_SECONDS must not be above MODEL_SERVICE_REQUEST_TIMEOUT_SECONDS, "
                "which includes the wait"
            )
        return self

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        source = self.source  # raises when the URI is malformed
        if not self.mlflow_tracking_uri:
            if isinstance(source, RegisteredModel):
                raise ValueError("a models:/ URI needs MODEL_SERVICE_MLFLOW_TRACKING_URI, the address of MLflow")
            return self
        url = self._split_tracking_uri()
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("MODEL_SERVICE_MLFLOW_TRACKING_URI must be an http:// or https:// address")
        return self

    @property
    def source(self) -> RegisteredModel | ModelFolder:
        """Where the model is.

        Raises:
            ValueError: the URI has another form.
        """
        return source_of(self.model_uri)

    @property
    def served_name(self) -> str:
        """The model's name in answers and metrics."""
        source = self.source
        return self.model_name or (source.name if isinstance(source, RegisteredModel) else source.path.name)

    @property
    def tracking_address(self) -> str:
        """The tracking URI without credentials: the only form that may be shown."""
        url = self._split_tracking_uri()
        return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")

    @property
    def tracking_user(self) -> tuple[str, str]:
        """User name and password, from MLflow's variables or else from the URI; ("", "") without any."""
        if name := self.tracking_username.get_secret_value():
            return name, self.tracking_password.get_secret_value()
        url = self._split_tracking_uri()
        return unquote(url.username or ""), unquote(url.password or "")

    def _split_tracking_uri(self) -> SplitResult:
        url = urlsplit(self.mlflow_tracking_uri)
        try:
            _ = url.port  # parsed only when asked for
        except ValueError:
            raise ValueError("MODEL_SERVICE_MLFLOW_TRACKING_URI has an impossible port") from None
        return url


def describe(error: ValidationError) -> str:
    """Say in one sentence what is wrong with the environment, without the values."""
    problems = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(item["loc"][0]) if item["loc"] else ""
        variable = field if field.isupper() else f"MODEL_SERVICE_{field.upper()}"
        message = item["msg"].removeprefix("Value error, ")
        problems.append(f"{variable}: {message}" if field else message)
    return "The service is misconfigured: " + "; ".join(problems)
