"""The command `promote`: let the gate judge a version, and move the alias when it passes."""

from pathlib import Path
from typing import Annotated, Any, Self

import mlflow
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_settings import CliPositionalArg

from training import registered
from training.compare import METRICS
from training.decision import report
from training.errors import InputError
from training.gate import Rules
from training.promotion import promote
from training.settings import Alias, Seed, Settings
from training.tracking import answering

_METRICS = ", ".join(METRICS)


class Options(Settings):
    """Move the alias to a version that beats the champion on the same held-out rows; say why, or why not."""

    uri: CliPositionalArg[str] = Field(default="", description="models:/<name>/<version>, instead of --candidate.")
    candidate: Path | None = Field(default=None, description="File that `train --result` wrote.")
    verification: Path | None = Field(default=None, description="File that `python -m app.verify --result` wrote.")
    alias: Alias = Field(default="champion", description="Alias that moves.")
    metric: str = Field(
        default="", description=f"Of the comparison: {_METRICS}; empty: auc, logloss, rmse or ndcg, by task."
    )
    margin: float = Field(
        default=0, description="The gain has to be above this; below 0: how much worse a newer model may be."
    )
    limits: dict[str, float] = Field(
        default={}, description='Worst value allowed of a metric, as JSON: {"auc": 0.9, "logloss": 0.3}.'
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        default=0.95, description="With which the gain is above the margin, by a paired bootstrap."
    )
    resamples: int = Field(default=1000, ge=100, le=100_000, description="Of the bootstrap.")
    bootstrap_seed: Seed = Field(default=0, description="Of the bootstrap.")
    same_holdout: bool = Field(
        default=True, description="Compare only models with the same held-out rows; else on the candidate's."
    )
    dry_run: bool = Field(default=False, description="Judge and say what would be done; change nothing.")

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if bool(self.uri) == bool(self.candidate):
            raise ValueError("give either models:/<name>/<version> or --candidate")
        for name in filter(None, (self.metric, *self.limits)):
            if name not in METRICS:
                raise ValueError(f"{name!r} is no metric; known are {_METRICS}")
        return self


class _Candidate(BaseModel):
    uri: str


class _Model(BaseModel):
    sha256: str


class _Check(BaseModel):
    name: str
    passed: bool
    detail: str


class _Verification(BaseModel):
    """What is read of the verification; app.verify writes more."""

    passed: bool
    model: _Model
    service: dict[str, Any]
    checks: list[_Check]


def run(options: Options) -> dict[str, Any]:
    """Judge and promote; return the decision.

    Raises:
        RefusedError: the gate refused.
        TrainingError: it could not be judged.
    """
    uri = options.uri or _read(options.candidate, "candidate", _Candidate)["uri"]
    try:
        name, version = registered.parse(uri)
    except ValueError as error:
        raise InputError(f"{error}.") from None
    verification = _read(options.verification, "verification", _Verification) if options.verification else None
    rules = Rules(
        metric=options.metric,
        margin=options.margin,
        limits=options.limits,
        confidence=options.confidence,
        resamples=options.resamples,
        seed=options.bootstrap_seed,
        same_holdout=options.same_holdout,
    )
    with answering(options.mlflow_tracking_uri):
        client = mlflow.MlflowClient()
        decision = promote(client, name, version, options.alias, rules, verification, dry_run=options.dry_run)
    return report(decision, version)


def _read(path: Path | None, option: str, form: type[BaseModel]) -> dict[str, Any]:
    try:
        return form.model_validate_json(Path(path or "").read_bytes()).model_dump()
    except OSError as error:
        raise InputError(f"--{option}: {path} cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "its text"
        raise InputError(f"--{option}: {path} is not what is expected here ({place}).") from None
