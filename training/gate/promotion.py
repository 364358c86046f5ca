"""A promotion: the version that is to become the champion, and the rules that it has to pass."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict

from app.model.contract import Contract, Task
from training.data.csv_format import CsvFormat
from training.errors import InputError
from training.metrics.catalog import DEFAULT_METRIC, metric_of, names_for

if TYPE_CHECKING:  # it loads models
    from training.scoring.served_model import ModelOptions


@dataclass(frozen=True)
class Rules:
    """Thresholds of the gate.

    Args:
        metric: Metric of the comparison; empty for the one by which the candidate was trained, or the default of its
            task.
        margin: Gain that the candidate must exceed, in the metric's unit. A negative margin accepts a worse model.
        limits: Worst allowed value per metric.
        confidence: Confidence of the bootstrap's bounds.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        max_group_loss: Largest allowed loss in a group of rows, in the metric's unit. None allows any.
        same_holdout: Compare only on rows that neither model was trained on. Without it, both predict the candidate's
            held-out rows, which favours a champion that was trained on some of them.
    """

    metric: str
    margin: float
    limits: dict[str, float]
    confidence: float
    resamples: int
    seed: int
    same_holdout: bool = True
    max_group_loss: float | None = None

    def for_model(self, candidate: Contract) -> Self:
        """Return the rules with the metric that the comparison uses for this model.

        Raises:
            InputError: A metric does not apply to the task.
        """
        return self.for_task(candidate.task, candidate.metric)

    def for_task(self, task: Task, metric: str = "") -> Self:
        """Return the rules with the metric of a comparison of two models of this task.

        Args:
            task: Task of the models.
            metric: Metric by which the candidate was trained, if any.

        Raises:
            InputError: A metric does not apply to the task.
        """
        rules = replace(self, metric=self.metric or metric or DEFAULT_METRIC[task])
        for name in (rules.metric, *rules.limits):
            if task not in metric_of(name).tasks:
                raise InputError(f"{name} is not a metric of a {task} model. Use one of {names_for(task)}.")
        return rules


@dataclass(frozen=True)
class LiveRules:
    """Thresholds for what pods measured.

    Args:
        address: Prometheus.
        window: Time up to now from which rows and labels count, such as 1d.
        selector: Further label matchers, such as those of a release; empty for all pods that serve the model.
        min_rows: Fewest rows that both models must have predicted.
        max_error_ratio: Largest share of rows on which the candidate may fail.
        max_disagreement: Largest share of rows on which the models may disagree; None allows any.
        min_labels: Fewest labels that must have been scored for both models, if `min_gain` is given.
        min_gain: Smallest mean of the champion's loss minus the candidate's, in the unit of the loss: squared error of
            a number or a score, share of wrong classes. None needs no labels.
        confidence: Confidence of each bound.
        token: Bearer token for Prometheus; empty for none.
    """

    address: str
    window: str
    selector: str
    min_rows: int
    max_error_ratio: float
    max_disagreement: float | None
    min_labels: int
    min_gain: float | None
    confidence: float
    token: str = field(default="", repr=False)


class VerifiedModel(BaseModel):
    """The model file that was verified."""

    model_config = ConfigDict(frozen=True)

    sha256: str


class VerificationCheck(BaseModel):
    """One check of the verification."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    detail: str


class Verification(BaseModel):
    """The fields of the result of `python -m app.tools.verify` that the gate uses."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    model: VerifiedModel
    service: dict[str, Any]
    checks: tuple[VerificationCheck, ...]

    @property
    def verified_by(self) -> str:
        """Version, commit and image of the service that verified the model."""
        return " ".join(filter(None, (self.service.get(key) for key in ("version", "git_commit", "image"))))


@dataclass(frozen=True)
class NamedData:
    """A data set on which any two versions are compared, and how they run.

    Args:
        source: File or folder, as the user names it.
        target: Column with the true values.
        group: Column with the query of a ranking.
        rows: Maximum number of rows, from the first on.
        csv: Format of CSV files.
        run: Returns the options of a version, given its URI and whether it is the champion.
    """

    source: str
    target: str
    group: str
    rows: int
    csv: CsvFormat
    run: "Callable[[str, bool], ModelOptions]"


@dataclass(frozen=True)
class Promotion:
    """A request to move an alias of a registered model to a version, the candidate.

    Args:
        name: Registered model.
        version: The candidate.
        alias: Alias to move.
        rules: Thresholds that the candidate must pass.
        verification: Result of `python -m app.tools.verify` for the candidate.
        dry_run: Decide, and change nothing.
        live: Thresholds for what pods measured with the candidate as their challenger; None checks nothing.
        once: Keep an earlier decision about the candidate, unless there is no champion.
        data: Data set of the comparison. None: the held-out rows of the candidate's training.
    """

    name: str
    version: str
    alias: str
    rules: Rules
    verification: Verification | None = None
    live: LiveRules | None = None
    dry_run: bool = False
    once: bool = False
    data: NamedData | None = None
