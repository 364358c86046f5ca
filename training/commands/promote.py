"""The command `promote`: let the gate judge a version, and move the alias if it passes."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import mlflow
from pydantic import AfterValidator, BaseModel, Field, HttpUrl, SecretStr, TypeAdapter, ValidationError, model_validator
from pydantic_settings import CliPositionalArg

from training.errors import InputError, RefusedError, ResourceError
from training.gate.decision import report
from training.gate.promote import promote
from training.gate.promotion import LiveRules, NamedData, Promotion, Rules, Verification
from training.metrics.catalog import METRIC_NAMES, metric_of
from training.scoring.served_model import ModelOptions, WorkerSettings
from training.settings import Alias, Seed
from training.tracking import registered
from training.tracking.mlflow_errors import mlflow_at

# A label matcher of PromQL without quotes and backslashes in its value.
_MATCHER = r'[a-zA-Z_][a-zA-Z0-9_]*(=|!=|=~|!~)"[^"\\]*"'
_HTTP_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)
_METRICS = ", ".join(METRIC_NAMES)


def _prometheus_address(given: str) -> str:
    url = _HTTP_URL.validate_python(given) if given else None
    if url and (url.username or url.password or url.query or url.fragment):
        raise ValueError("must be http://<host> or https://<host>, without credentials; use TRAINING_LIVE_TOKEN")
    return given.rstrip("/")


LiveAddress = Annotated[str, AfterValidator(_prometheus_address)]


class Options(WorkerSettings):
    """Move the alias to a version that is better than the champion on the same held-out rows.

    With --data, any two versions are compared, of any flavor and however they were trained.
    """

    uri: CliPositionalArg[str] = Field(
        default="", description="models:/<name>/<version>, as an alternative to --candidate."
    )
    candidate: Path | None = Field(default=None, description="Result file of `train --result`.")
    verification: Path | None = Field(default=None, description="Result file of `python -m app.tools.verify`.")
    alias: Alias = Field(default="champion", description="Alias to move.")
    metric: str = Field(
        default="",
        description=f"Metric of the comparison: {_METRICS}. The default is that of `train --metric` or of the "
        "objective, otherwise auc, logloss, rmse or ndcg, by task.",
    )
    margin: float = Field(
        default=0, description="Gain that the candidate must exceed. A negative margin accepts a worse model."
    )
    limits: dict[str, float] = Field(
        default={}, description='Worst allowed value per metric, as JSON: {"auc": 0.9, "logloss": 0.3}.'
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        default=0.95, description="Confidence of the paired bootstrap that the gain exceeds the margin."
    )
    resamples: int = Field(default=1000, ge=100, le=100_000, description="Number of bootstrap resamples.")
    bootstrap_seed: Seed = Field(default=0, description="Seed of the bootstrap.")
    same_holdout: bool = Field(
        default=True,
        description="Compare only on rows that neither model was trained on. Without it, both predict the candidate's.",
    )
    max_group_loss: float | None = Field(
        default=None,
        ge=0,
        description="Largest loss in a group of `train --group-metrics`, in the unit of the metric. The gate refuses "
        "if a group loses more with the confidence. Empty allows any loss.",
    )
    live: LiveAddress = Field(
        default="",
        description="Address of a Prometheus. The gate then also requires what pods measured with the version as their "
        "challenger. Empty checks nothing.",
    )
    live_window: str = Field(
        default="1d", pattern="^[1-9][0-9]*[smhd]$", description="Time up to now from which measurements count."
    )
    live_selector: str = Field(
        default="",
        pattern=f"^({_MATCHER}(,{_MATCHER})*)?$",
        description='Further label matchers, such as namespace="prod",job="churn-model-service". Empty for all pods.',
    )
    live_token: SecretStr = Field(
        default=SecretStr(""), description="Bearer token for Prometheus. Set TRAINING_LIVE_TOKEN instead of the flag."
    )
    live_min_rows: int = Field(default=1000, ge=1, description="Fewest rows that both versions must have predicted.")
    live_max_error_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Largest share of rows on which the version may fail."
    )
    live_max_disagreement: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Largest share of rows on which the version may disagree with the champion. Empty allows any.",
    )
    live_min_labels: int = Field(default=100, ge=30, description="Fewest labels, if --live-min-gain is given.")
    live_min_gain: float | None = Field(
        default=None,
        description="Smallest mean gain on live labels: the champion's squared error (of a number or a score) or share "
        "of wrong classes, minus the version's. A negative gain accepts a worse model. Empty needs no labels.",
    )
    data: str = Field(
        default="",
        description="Data set on which both versions are compared: a CSV or Parquet file, or a folder of either, as a "
        "local path or s3://. A file may also be at http(s)://. Empty takes the held-out rows of the training.",
    )
    target: str = Field(default="", description="Column of --data with the true values.")
    group: str = Field(default="", description="Column of --data with the query of a ranking.")
    rows: int = Field(
        default=1_000_000, ge=1, le=100_000_000, description="Maximum number of rows of --data, from the first on."
    )
    model_flavor: Literal["xgboost", "pyfunc"] = Field(
        default="xgboost",
        description="pyfunc runs a version without the flavor xgboost, and so code that came with it, in its own "
        "Python.",
    )
    champion_python: Path | None = Field(default=None, description="The same as --model-python, for the champion.")
    dry_run: bool = Field(default=False, description="Show the decision without changing anything.")
    once: bool = Field(
        default=False,
        description="Keep an earlier decision about the version, unless there is no champion. "
        "Used by Jobs, which may run again.",
    )
    accept_refusal: bool = Field(default=False, description="Exit with 0 if the gate refuses, as in a Job.")
    message: Path | None = Field(
        default=None, description="File for the outcome in one sentence, such as /dev/termination-log."
    )

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if bool(self.uri) == bool(self.candidate):
            raise ValueError("give either models:/<name>/<version> or --candidate")
        given = self.model_fields_set
        if not self.live and (unused := sorted(name for name in given if name.startswith("live_"))):
            raise ValueError(f"{unused[0]} requires --live, the address of a Prometheus")
        if bool(self.data) != bool(self.target):
            raise ValueError("--data and --target belong together; give both, or neither for the rows of the training")
        if self.data and self.max_group_loss is not None:
            raise ValueError("--max-group-loss needs the groups of a training; leave it out with --data")
        for name in filter(None, (self.metric, *self.limits)):
            metric_of(name)
        return self


class _Candidate(BaseModel):
    uri: str


def run(options: Options) -> dict[str, Any]:
    """Judge the version, move the alias if it passes, and return the decision.

    Raises:
        RefusedError: The gate refused.
        TrainingError: The version could not be judged.
    """
    uri = options.uri or _read(options.candidate, "candidate", _Candidate).uri
    try:
        name, version = registered.parse(uri)
    except ValueError as error:
        raise InputError(f"{error}.") from None
    promotion = Promotion(
        name=name,
        version=version,
        alias=options.alias,
        rules=Rules(
            metric=options.metric,
            margin=options.margin,
            limits=options.limits,
            confidence=options.confidence,
            resamples=options.resamples,
            seed=options.bootstrap_seed,
            same_holdout=options.same_holdout,
            max_group_loss=options.max_group_loss,
        ),
        verification=_read(options.verification, "verification", Verification) if options.verification else None,
        live=_live(options) if options.live else None,
        dry_run=options.dry_run,
        once=options.once,
        data=_named_data(options) if options.data else None,
    )
    with mlflow_at(options.mlflow_tracking_uri):
        decision = promote(mlflow.MlflowClient(), promotion)
    if options.message:
        _write(options.message, decision.sentence(version))
    try:
        return report(decision, version)
    except RefusedError as error:
        error.exit_code = 0 if options.accept_refusal else error.exit_code
        raise


def _live(options: Options) -> LiveRules:
    return LiveRules(
        address=options.live,
        window=options.live_window,
        selector=options.live_selector,
        min_rows=options.live_min_rows,
        max_error_ratio=options.live_max_error_ratio,
        max_disagreement=options.live_max_disagreement,
        min_labels=options.live_min_labels,
        min_gain=options.live_min_gain,
        confidence=options.confidence,
        token=options.live_token.get_secret_value(),
    )


def _named_data(options: Options) -> NamedData:
    def run(uri: str, champion: bool) -> ModelOptions:
        return ModelOptions.model_construct(  # of values that are valid, and without the environment's
            mlflow_tracking_uri=options.mlflow_tracking_uri,
            model_uri=uri,
            model_flavor=options.model_flavor,
            model_python=options.champion_python if champion else options.model_python,
            allow_source=options.allow_source,
        )

    return NamedData(options.data, options.target, options.group, options.rows, options.csv_format, run)


def _write(path: Path, sentence: str) -> None:
    try:
        path.write_text(sentence + "\n", encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"--message (TRAINING_MESSAGE): {path} cannot be written ({error.strerror}).") from None


def _read[Form: BaseModel](path: Path | None, option: str, form: type[Form]) -> Form:
    try:
        return form.model_validate_json(Path(path or "").read_bytes())
    except OSError as error:
        raise InputError(f"--{option}: {path} cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "its text"
        raise InputError(f"--{option}: {path} is not a valid result file ({place}).") from None
