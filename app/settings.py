"""Settings of the service, read from environment variables."""

import json
import math
import os
import re
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, SecretStr, StrictInt, StrictStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app import key_files, quota_file
from app.uri import GRAMMAR, ModelFolder, OnServer, RegisteredModel, Source, WebFolder, source_of

# Dense below 10 ms, because a booster predicts one row in less than 1 ms; Prometheus' own default starts at 5 ms.
LATENCY_BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_ORIGIN = re.compile(r"\*|https?://[a-z0-9.\[\]:-]+")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Settings(BaseSettings):
    """Settings of the service: MODEL_SERVICE_<FIELD>, and MLflow's credentials under MLflow's own names.

    Raises:
        pydantic.ValidationError: A value is missing, malformed or contradicts another. The error contains no values.
    """

    model_config = SettingsConfigDict(
        env_prefix="MODEL_SERVICE_",
        env_ignore_empty=True,  # charts render an empty variable for an unset value
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # a tracking URI may contain a password
    )

    model_uri: str = Field(default="", description=f"URI of the model to serve (required): {GRAMMAR}.")
    model_name: str = Field(default="", description="Name in responses and metrics; empty: the name in the URI.")
    model_sha256: str = Field(
        default="",
        description="Pinned digest of the files that decide an answer, 64 hexadecimal digits; pyfunc: of all files.",
    )
    model_max_bytes: int = Field(
        default=536_870_912, ge=1, description="Maximum size of the downloaded model, in bytes, all files together."
    )
    model_flavor: Literal["xgboost", "pyfunc"] = Field(
        default="xgboost", description="With pyfunc, a worker loads the model with MLflow in the model's own Python."
    )
    worker_socket: Path = Field(
        default=Path("/run/model-service/socket"),
        description="Unix socket of the worker that runs a model of the flavor pyfunc.",
    )
    worker_python: str = Field(
        default="",
        description="Minor version of Python in the worker's container, such as 3.12; a model that was logged with a "
        "different one is refused. Empty: any.",
    )
    worker_batch_rows: int = Field(
        default=256,
        ge=1,
        description="Maximum number of rows of several requests that the worker predicts in one call; 1: each request "
        "on its own, for models whose rows depend on each other.",
    )
    model_compatibility: Literal["off", "warn", "fail"] = Field(
        default="warn", description="What to do if the package versions differ from those the model was logged with."
    )
    model_categories: Annotated[dict[str, tuple[StrictStr | StrictInt, ...]], NoDecode] = Field(
        default={},
        description="Categories of each categorical feature that the model does not name, in the order of training, as "
        "a JSON object of lists. XGBoost before 3.1 does not save them.",
    )
    model_unknown_category: Literal["", "error", "missing"] = Field(
        default="",
        description="How to take a category that is not in the training data: error refuses the request, missing "
        "predicts it as a missing value. Empty: as the contract of the model says, which refuses by default.",
    )
    mlflow_tracking_uri: str = Field(
        default="",
        description="Address of the MLflow server; required for models:/, runs:/ and mlflow-artifacts:/ URIs.",
    )
    cache_dir: Path = Field(
        default=Path("/var/cache/model-service"), description="Folder for downloads, used only by this process."
    )
    peers_host: str = Field(
        default="",
        description="Host name that leads to the other pods of the release, which offer each other the model; empty: "
        "pods obtain it from MLflow only.",
    )
    peers_port: int = Field(default=8001, ge=1, le=65535, description="Port on which pods offer each other the model.")
    peers_patience_seconds: float = Field(
        default=10,
        ge=0,
        description="Seconds without a response from MLflow after which a copy of an earlier rollout is served.",
    )
    revision: str = Field(
        default="", description="ReplicaSet of the pod, whose pods serve one version; empty outside Kubernetes."
    )
    follow_poll_seconds: float = Field(
        default=0,
        ge=0,
        description="Seconds between two calls that ask MLflow which version the alias names; another version is "
        "tried and then served. 0: the alias is read when the service starts.",
    )
    follow_stagger_seconds: float = Field(
        default=60, ge=0, description="Maximum random wait before a pod serves another version, in seconds."
    )
    follow_watch_seconds: float = Field(
        default=300,
        ge=0,
        description="Seconds during which the earlier model stays in memory, and returns if the new one fails.",
    )
    follow_max_error_ratio: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of requests on which the new model may fail, from 20 requests on, before the earlier one "
        "returns.",
    )
    candidate_poll_seconds: float = Field(
        default=0,
        ge=0,
        description="Seconds between two calls that ask MLflow for the newest version of the model and the decision of "
        "the gate, which are exported as a metric. 0: never.",
    )
    challenger_uri: str = Field(
        default="",
        description="URI of a challenger, which predicts the same requests in the background and answers none: "
        "models:/<name>/<version>, models:/<name>@<alias> or file:///<folder>; empty: none.",
    )
    challenger_sha256: str = Field(
        default="", description="Pinned digest of the challenger's deciding files, 64 hexadecimal digits."
    )
    challenger_sample_ratio: float = Field(
        default=1, ge=0, le=1, description="Share of the requests that the challenger predicts too."
    )
    challenger_queue_rows: int = Field(
        default=4096, ge=256, description="Maximum number of rows that wait for the challenger; beyond it, left out."
    )
    challenger_poll_seconds: float = Field(
        default=60, gt=0, description="Seconds between two calls that ask MLflow which version its alias names."
    )
    challenger_tolerance: float = Field(
        default=0.1,
        ge=0,
        description="Difference between two numbers, in units of their spread in training, up to which they agree.",
    )
    challenger_labels: bool = Field(
        default=False,
        description="Predict with the challenger before the response, so that labels are scored for both models. "
        "Requires feedback.",
    )
    load_timeout_seconds: float = Field(
        default=120, gt=0, description="Time limit for loading the model, in seconds, after which the process exits."
    )
    max_rows: int = Field(default=1000, ge=1, description="Maximum number of rows per request.")
    max_explain_rows: int = Field(default=100, ge=1, description="Maximum number of rows per request to /explain.")
    max_body_bytes: int = Field(
        default=1_048_576,
        ge=1,
        description="Maximum size of a request body, in bytes; if it is compressed, also of its content.",
    )
    max_concurrency: int = Field(default=32, ge=1, description="Maximum number of concurrent predictions.")
    queue_size: int = Field(default=128, ge=0, description="Maximum number of waiting requests; beyond it, 503.")
    queue_timeout_seconds: float = Field(
        default=5, gt=0, description="Maximum wait in the queue, in seconds; beyond it, 503."
    )
    request_timeout_seconds: float = Field(
        default=30, gt=0, description="Maximum time from the complete body to the response, in seconds; beyond it, 504."
    )
    body_timeout_seconds: float = Field(
        default=10,
        gt=0,
        description="Time limit in seconds for receiving the headers, for receiving the body (beyond it, 408), and for "
        "sending the response.",
    )
    keep_alive_seconds: int = Field(
        default=75,
        ge=1,
        description="Seconds until an idle connection is closed; must exceed the keep-alive timeout of any proxy in "
        "front of the service.",
    )
    saturation_seconds: float = Field(
        default=0, ge=0, description="Seconds of continuous overload before readiness fails; 0: it never does."
    )
    mlflow_protocol: bool = Field(
        default=True, description="Serve MLflow's protocol: /invocations, /ping and /version."
    )
    open_inference_protocol: bool = Field(default=True, description="Serve the Open Inference Protocol: /v2.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest severity that is logged."
    )
    otlp_endpoint: str = Field(
        default="",
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Address of the OpenTelemetry collector for traces (OTLP over HTTP); empty: tracing is off.",
    )
    payload_sample_ratio: float = Field(
        default=0, ge=0, le=1, description="Share of requests whose rows and predictions are logged; 0: none."
    )
    payload_redact: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Columns whose values are redacted in the payload log, as a JSON list."
    )
    payload_dir: Path | None = Field(
        default=None,
        description="Folder for the segments of the inference log, which `python -m training ship` turns into Parquet "
        "files; empty: payloads are lines on standard output.",
    )
    payload_flush_seconds: float = Field(
        default=1, gt=0, description="Seconds between two writes of the inference log, which are lost on a kill."
    )
    payload_rotate_seconds: float = Field(
        default=300, gt=0, description="Age at which a segment of the inference log is complete, in seconds."
    )
    payload_rotate_bytes: int = Field(
        default=16_777_216, ge=1, description="Size from which a segment of the inference log is complete, in bytes."
    )
    payload_buffer_bytes: int = Field(
        default=268_435_456,
        ge=1,
        description="Maximum size of all segments that wait for their shipping, in bytes; beyond it, records are "
        "dropped and counted.",
    )
    latency_buckets: Annotated[tuple[float, ...], NoDecode] = Field(
        default=LATENCY_BUCKETS_SECONDS,
        description="Bounds of the request latency histogram, in seconds: a JSON list or separated by commas.",
    )
    latency_objective_seconds: float = Field(
        default=0.25, gt=0, description="Extra histogram bucket, in seconds, used by the latency SLO alerts."
    )
    drift_max_features: int = Field(
        default=20, ge=0, description="Maximum number of features counted for drift, by importance; 0: no drift counts."
    )
    feedback_keys_dir: Path | None = Field(
        default=None,
        description="Folder with one key per file. The last key signs the tokens that are returned with predictions; "
        "empty: no tokens, and labels are not accepted.",
    )
    feedback_max_age_seconds: int = Field(
        default=2_592_000, ge=1, description="Maximum age of a prediction whose label is accepted, in seconds."
    )
    pages_enabled: bool = Field(default=True, description="Serve the web pages / and /docs.")
    image: str = Field(default="", description="Reference of the running image, returned by GET /model.")
    git_commit: str = Field(default="", validation_alias="GIT_COMMIT", description="Git commit of the service.")
    app_name: str = Field(
        default="model-service", description="Value of the label app_name of the HTTP metrics: the release."
    )
    shutdown_seconds: int = Field(
        default=30, ge=1, description="Time limit for requests in flight after SIGTERM, in seconds."
    )
    termination_message_path: Path = Field(
        default=Path("/dev/termination-log"), description="File for the reason when the process exits with an error."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins whose pages may call the API from a browser, as a JSON list such as "
        '["https://shop.example.com"]; ["*"]: all; []: none.',
    )
    api_keys_dir: Path | None = Field(
        default=None,
        description="Folder with one API key per file, one of which every client must send; empty: no key is required.",
    )
    jwt_issuer: str = Field(
        default="",
        description="Issuer whose access tokens (JWT) are accepted, like API keys: its address, exactly as in the "
        "tokens; empty: none.",
    )
    jwt_audience: str = Field(default="", description="Audience that a token must name; required with an issuer.")
    jwt_jwks_uri: str = Field(
        default="", description="Address of the issuer's keys (JWKS); empty: as its discovery document says."
    )
    jwt_jwks_file: Path | None = Field(
        default=None, description="File with the issuer's keys (JWKS), instead of an address."
    )
    jwt_owner_claim: str = Field(
        default="sub", min_length=1, description="Claim of a token with the name of the caller."
    )
    jwt_required_scopes: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Scopes that a token must have, as a JSON list."
    )
    jwt_leeway_seconds: int = Field(
        default=30,
        ge=0,
        le=300,
        description="Tolerated difference between the issuer's clock and this one, in seconds.",
    )
    quotas_file: Path | None = Field(
        default=None,
        description="JSON file with the quotas of callers, which is read again when it changes; empty: no quotas.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Networks of the proxies whose X-Forwarded-For names the client, as a JSON list in CIDR notation; "
        "[]: the client is the peer of the connection.",
    )
    host: str = Field(default="", description="Address to listen on; empty: all addresses, IPv4 and IPv6.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    monitoring_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of /metrics and /health, which the other port then does not serve; empty: one port for all.",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of the Open Inference Protocol over gRPC; empty: gRPC is off.",
    )
    root_path: str = Field(default="", pattern="^(/[^/]+)*$", description="Path prefix that a proxy strips.")

    tracking_username: SecretStr = Field(
        default=SecretStr(""), validation_alias="MLFLOW_TRACKING_USERNAME", description="User name for MLflow."
    )
    tracking_password: SecretStr = Field(
        default=SecretStr(""), validation_alias="MLFLOW_TRACKING_PASSWORD", description="Password for MLflow."
    )
    tracking_token: SecretStr = Field(
        default=SecretStr(""), validation_alias="MLFLOW_TRACKING_TOKEN", description="Bearer token for MLflow."
    )

    @field_validator("model_sha256", "challenger_sha256")
    @classmethod
    def _digest_is_whole(cls, value: str) -> str:
        if value and not _SHA256.fullmatch(value):
            raise ValueError("must be the 64 hexadecimal digits of a sha256 digest")
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
            found, unusable = key_files.read(value)
        except OSError as error:
            raise ValueError(f"the folder cannot be read ({error.strerror}); mount the Secret there") from None
        if not found:
            raise ValueError("; ".join(["the folder must contain at least one file with a usable key", *unusable]))
        return value

    @field_validator("payload_dir")
    @classmethod
    def _segments_can_be_written(cls, value: Path | None) -> Path | None:
        if value is not None and not (value.is_dir() and os.access(value, os.W_OK | os.X_OK)):
            raise ValueError("the folder does not exist or cannot be written; mount a volume there")
        return value

    @field_validator("quotas_file")
    @classmethod
    def _quotas_are_usable(cls, value: Path | None) -> Path | None:
        if value is not None:
            quota_file.read(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks_are_usable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            try:
                ip_network(each, strict=False)
            except ValueError as error:
                raise ValueError(f"{error}; write CIDR notation, such as 10.0.0.0/8") from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_complete(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_ORIGIN.fullmatch(each) for each in value):
            raise ValueError('each must be "*" or an origin without a path, such as https://shop.example.com')
        return value

    @field_validator("jwt_issuer", "jwt_jwks_uri")
    @classmethod
    def _issuer_is_an_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", value):
            raise ValueError("must be an http:// or https:// address without credentials")
        return value

    @field_validator(
        "payload_redact", "model_categories", "cors_origins", "trusted_proxies", "jwt_required_scopes", mode="before"
    )
    @classmethod
    def _read_json(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("latency_buckets", mode="before")
    @classmethod
    def _split_buckets(cls, value: Any) -> Any:
        """Parse a JSON list, which Helm's toJson renders, or a comma-separated list."""
        if not isinstance(value, str):
            return value
        return json.loads(value) if value.lstrip().startswith("[") else value.split(",")

    @field_validator("latency_buckets")
    @classmethod
    def _buckets_rise(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        rising = all(a < b for a, b in pairwise(value))
        if not value or not rising or value[0] <= 0 or not math.isfinite(value[-1]):
            raise ValueError("must be finite bounds above 0 in increasing order")
        return value

    @model_validator(mode="after")
    def _flavor_has_categories(self) -> Self:
        if self.model_categories and self.model_flavor != "xgboost":
            raise ValueError("MODEL_SERVICE_MODEL_CATEGORIES requires MODEL_SERVICE_MODEL_FLAVOR=xgboost")
        if self.model_unknown_category and self.model_flavor != "xgboost":
            raise ValueError("MODEL_SERVICE_MODEL_UNKNOWN_CATEGORY requires MODEL_SERVICE_MODEL_FLAVOR=xgboost")
        return self

    @model_validator(mode="after")
    def _issuer_is_complete(self) -> Self:
        if self.jwt_issuer and not self.jwt_audience:
            raise ValueError(
                "MODEL_SERVICE_JWT_ISSUER requires MODEL_SERVICE_JWT_AUDIENCE, because the issuer's tokens for other "
                "services must not be accepted"
            )
        if self.jwt_audience and not self.jwt_issuer:
            raise ValueError("MODEL_SERVICE_JWT_AUDIENCE requires MODEL_SERVICE_JWT_ISSUER")
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        others = [self.port] + [self.peers_port] * bool(self.peers_host)
        for name in ("monitoring_port", "grpc_port"):
            if (port := getattr(self, name)) in others:
                raise ValueError(f"MODEL_SERVICE_{name.upper()} must differ from the other ports")
            others += [port] * bool(port)
        return self

    @model_validator(mode="after")
    def _waits_fit(self) -> Self:
        if self.queue_timeout_seconds > self.request_timeout_seconds:
            raise ValueError(
                "MODEL_SERVICE_QUEUE_TIMEOUT_SECONDS must not exceed MODEL_SERVICE_REQUEST_TIMEOUT_SECONDS, "
                "which includes the time in the queue"
            )
        return self

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        source = self.source  # raises ValueError if the URI is malformed
        if isinstance(source, WebFolder):
            if not self.model_sha256:
                raise ValueError("an https:// URI requires MODEL_SERVICE_MODEL_SHA256, the digest of the model")
            if self.model_flavor == "pyfunc":
                raise ValueError(
                    "an https:// URI requires MODEL_SERVICE_MODEL_FLAVOR=xgboost, because a web server does not list "
                    "the files of a pyfunc model"
                )
        if not self.mlflow_tracking_uri:
            if isinstance(source, OnServer):
                scheme = self.model_uri.partition(":")[0]
                raise ValueError(f"a {scheme}:/ URI requires MODEL_SERVICE_MLFLOW_TRACKING_URI, the address of MLflow")
            return self
        url = self._split_tracking_uri()
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("MODEL_SERVICE_MLFLOW_TRACKING_URI must be an http:// or https:// address")
        return self

    @model_validator(mode="after")
    def _alias_can_be_followed(self) -> Self:
        if not self.follows:
            return self
        if not isinstance(self.source, RegisteredModel) or not self.source.alias:
            raise ValueError(
                "MODEL_SERVICE_FOLLOW_POLL_SECONDS requires a model URI with an alias, models:/<name>@<alias>"
            )
        if self.model_flavor != "xgboost":
            raise ValueError("MODEL_SERVICE_FOLLOW_POLL_SECONDS requires MODEL_SERVICE_MODEL_FLAVOR=xgboost")
        if self.model_sha256:
            raise ValueError(
                "MODEL_SERVICE_FOLLOW_POLL_SECONDS contradicts MODEL_SERVICE_MODEL_SHA256, which allows one version"
            )
        return self

    @model_validator(mode="after")
    def _log_is_sampled(self) -> Self:
        if self.payload_dir and not self.payload_sample_ratio:
            raise ValueError("MODEL_SERVICE_PAYLOAD_DIR requires MODEL_SERVICE_PAYLOAD_SAMPLE_RATIO above 0")
        return self

    @model_validator(mode="after")
    def _candidates_are_registered(self) -> Self:
        if self.candidate_poll_seconds and not isinstance(self.source, RegisteredModel):
            raise ValueError(
                "MODEL_SERVICE_CANDIDATE_POLL_SECONDS requires a model URI of the registry, models:/<name>…"
            )
        return self

    @model_validator(mode="after")
    def _challenger_can_be_compared(self) -> Self:
        if not self.challenger_uri:
            return self
        try:
            challenger = source_of(self.challenger_uri)
        except ValueError:
            challenger = None
        if not isinstance(challenger, RegisteredModel | ModelFolder):
            raise ValueError(
                "MODEL_SERVICE_CHALLENGER_URI must be models:/<name>/<version>, models:/<name>@<alias> or "
                "file:///<folder>"
            )
        if self.model_flavor != "xgboost":
            raise ValueError("MODEL_SERVICE_CHALLENGER_URI requires MODEL_SERVICE_MODEL_FLAVOR=xgboost")
        if isinstance(challenger, RegisteredModel) and not self.mlflow_tracking_uri:
            raise ValueError(
                "MODEL_SERVICE_CHALLENGER_URI requires MODEL_SERVICE_MLFLOW_TRACKING_URI, the address of MLflow"
            )
        if self.challenger_labels and not self.feedback_keys_dir:
            raise ValueError("MODEL_SERVICE_CHALLENGER_LABELS requires MODEL_SERVICE_FEEDBACK_KEYS_DIR")
        served = self.source
        registered = isinstance(challenger, RegisteredModel) and isinstance(served, RegisteredModel)
        if registered and challenger.name != served.name:
            raise ValueError(
                f"MODEL_SERVICE_CHALLENGER_URI must be a version of the registered model {served.name}, so that "
                "version numbers are unique"
            )
        return self

    @property
    def follows(self) -> bool:
        """Whether the service follows the alias in the model URI."""
        return self.follow_poll_seconds > 0

    @property
    def source(self) -> Source:
        """Origin of the model.

        Raises:
            ValueError: The URI does not match the grammar.
        """
        return source_of(self.model_uri)

    @property
    def source_address(self) -> str:
        """Address of the MLflow server that the model comes from, without credentials; empty if there is none."""
        return self.tracking_address if isinstance(self.source, OnServer) else ""

    @property
    def authenticates(self) -> bool:
        """Whether requests need an API key or an access token."""
        return bool(self.api_keys_dir or self.jwt_issuer)

    @property
    def served_name(self) -> str:
        """Name of the model in responses and metrics."""
        return self.model_name or self.source.name

    @property
    def tracking_address(self) -> str:
        """Tracking URI without credentials; logs and messages contain only this form."""
        url = self._split_tracking_uri()
        return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")

    @property
    def tracking_user(self) -> tuple[str, str]:
        """User name and password from MLflow's variables, otherwise from the URI; empty if there are none."""
        if name := self.tracking_username.get_secret_value():
            return name, self.tracking_password.get_secret_value()
        url = self._split_tracking_uri()
        return unquote(url.username or ""), unquote(url.password or "")

    def _split_tracking_uri(self) -> SplitResult:
        url = urlsplit(self.mlflow_tracking_uri)
        try:
            _ = url.port  # parsed on access
        except ValueError:
            raise ValueError("MODEL_SERVICE_MLFLOW_TRACKING_URI has an invalid port") from None
        return url


def describe(error: ValidationError) -> str:
    """Return one message that names the invalid variables, without their values."""
    problems = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(item["loc"][0]) if item["loc"] else ""
        variable = field if field.isupper() else f"MODEL_SERVICE_{field.upper()}"
        message = item["msg"].removeprefix("Value error, ")
        problems.append(f"{variable}: {message}" if field else message)
    return "The service is misconfigured: " + "; ".join(problems)
