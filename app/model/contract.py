"""The format of `contract.json`, which describes the output of a model.

Training writes the file to the model's MLflow folder, and the service reads it. MLflow's signature describes the
inputs; the contract adds what the signature cannot express.
"""

import math
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

CONTRACT_FILE = "contract.json"
MODEL_FILE = "model.ubj"

MOST_BINS = 10  # per variable, because each bin is two series in every pod
SCORE_BINS = 20  # of scores with labels: AUC is 0.004 too low with ten bins, and 0.001 with twenty

# A survival model predicts a relative risk (higher means earlier), or the time until the event.
Task = Literal["binary", "multiclass", "regression", "ranking", "survival_risk", "survival_time"]
UnknownCategory = Literal["error", "missing"]
DatePart = Literal["year", "month", "day", "weekday", "hour", "days"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def _ascending(edges: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in pairwise(edges)):
        raise ValueError("the edges must be in ascending order")
    return edges


class ContractColumn(BaseModel):
    """One input, for models without a signature or with categories that the booster does not name."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1)
    type: str = Field(default="double", description="Type, as named in MLflow's signatures.")
    required: bool = Field(default=True, description="Whether the column must be present and not null.")
    categories: tuple[StrictStr | StrictInt, ...] = Field(
        default=(), description="Categories of a categorical feature, in the order of the booster's codes."
    )
    parts: tuple[DatePart, ...] = Field(
        default=(), description="Features that are made from a date, in the order of the booster's features."
    )

    @model_validator(mode="after")
    def _only_dates_have_parts(self) -> Self:
        if self.parts and self.type != "datetime":
            raise ValueError(f"{self.name} has parts of a date, but the type {self.type}")
        if len(set(self.parts)) != len(self.parts):
            raise ValueError(f"a part of {self.name} appears twice")
        return self


class Platt(BaseModel):
    """A line through the log odds of the booster's probability, which keeps the order of the rows."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: Literal["platt"] = "platt"
    slope: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    intercept: Finite


class Isotonic(BaseModel):
    """A rising curve through points. Between two points it is a line, and beyond the last ones it is constant."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: Literal["isotonic"] = "isotonic"
    scores: Annotated[tuple[Share, ...], AfterValidator(_ascending)] = Field(
        min_length=1, description="The booster's probabilities of the points."
    )
    values: tuple[Share, ...] = Field(description="The calibrated probabilities of the points.")

    @model_validator(mode="after")
    def _values_rise(self) -> Self:
        if len(self.scores) != len(self.values) or any(a > b for a, b in pairwise(self.values)):
            raise ValueError("an isotonic calibration needs a value for each score, and the values must not fall")
        return self


class Variable(BaseModel):
    """Reference distribution of a feature or a prediction, as the share of rows per bin.

    A number belongs to the first bin whose edge is not below it, otherwise to the last bin. A category has its own bin
    or belongs to `other`. Edges are quantiles of the reference, so outliers do not move them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1)
    edges: Annotated[tuple[Finite, ...], AfterValidator(_ascending)] = Field(
        default=(),
        max_length=MOST_BINS - 1,
        description="Upper bounds of all numeric bins except the last, as float32.",
    )
    categories: tuple[StrictStr | StrictInt, ...] = Field(
        default=(), max_length=MOST_BINS, description="Categories with their own bin."
    )
    shares: tuple[Share, ...] = Field(description="Share of the rows in each bin, in the order of edges or categories.")
    others: tuple[StrictStr | StrictInt, ...] = Field(
        default=(), description="Known categories without a bin, of a model whose signature does not list them."
    )
    other: Share = Field(default=0, description="Share of the rows in all other known categories.")
    missing: Share = Field(default=0, description="Share of the rows without a value.")
    samples: int = Field(ge=1, description="Number of rows in the reference.")
    minimum: Finite | None = Field(default=None, description="Smallest number in the training data.")
    maximum: Finite | None = Field(default=None, description="Largest number in the training data.")
    importance: Share = Field(default=0, description="Share of a feature in the total gain of all splits.")
    positive: tuple[Share, ...] = Field(
        default=(), description="Share of the second class among the rows in each score bin of a binary model."
    )

    @model_validator(mode="after")
    def _shares_fit_the_bins(self) -> Self:
        bins = len(self.categories) if self.categories else len(self.edges) + 1
        if self.edges and self.categories:
            raise ValueError(f"{self.name} has both edges and categories, but a variable is a number or a category")
        if len(self.shares) != bins or len(self.positive) not in (0, bins):
            raise ValueError(f"{self.name} has {bins} bins, but a different number of shares")
        if not math.isclose(total := sum(self.shares) + self.other + self.missing, 1, abs_tol=1e-3):
            raise ValueError(f"the shares of {self.name} sum to {total:g}, not to 1")
        return self


class Profile(BaseModel):
    """The reference for live requests: features of the training rows, and predictions on holdout rows."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    created_at: datetime
    features: tuple[Variable, ...] = ()
    predictions: tuple[Variable, ...] = ()
    score_edges: Annotated[tuple[Finite, ...], AfterValidator(_ascending)] = Field(
        default=(),
        max_length=SCORE_BINS - 1,
        description="Bounds of the score bins of a binary model, in which later labels are counted.",
    )


class Contract(BaseModel):
    """The meaning of a model's numbers.

    Unknown fields are ignored, so that an older service can load a newer model. A change of meaning increases
    `schema_version`, which an older service rejects.

    Raises:
        pydantic.ValidationError: The task or schema version is unknown, or the classes do not fit the task.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1, 2] = Field(default=1, description="2 for a model with a calibration.")
    task: Task
    target: str = Field(min_length=1, description="Name of the predicted column.")
    classes: tuple[str, ...] = Field(
        default=(),
        description="Class names in the order of the model's output. A binary booster predicts the probability of the "
        "second class. Empty for a regression, and for a multiclass model that returns labels which are not known.",
    )
    columns: tuple[ContractColumn, ...] = Field(default=(), description="Inputs in the order of the features.")
    null_words: tuple[str, ...] | None = Field(
        default=None, description="Words that stand for a missing value in tables. null: those of CSV files by default."
    )
    unknown_category: UnknownCategory = Field(
        default="error",
        description="How to take a category that is not in the training data: refuse it, or as missing.",
    )
    metric: str = Field(
        default="", description="Metric by which the model is compared with others. Empty for the default of its task."
    )
    calibration: Annotated[Platt | Isotonic, Field(discriminator="method")] | None = Field(
        default=None,
        description="Map from the booster's probability of the second class to the calibrated one, which is predicted.",
    )
    example_output: tuple[tuple[float, ...], ...] = Field(
        default=(), description="The booster's predictions for the input example after training, as numbers per row."
    )
    metrics: dict[str, float] = Field(default={}, description="Metrics on the holdout rows, such as auc or rmse.")
    profile: Profile | None = Field(default=None, description="Reference distributions, required to detect drift.")

    @model_validator(mode="after")
    def _older_services_refuse_a_calibration(self) -> Self:
        if self.calibration and (self.task, self.schema_version) != ("binary", 2):
            raise ValueError("a calibration needs the task binary and schema_version 2")
        return self

    @model_validator(mode="after")
    def _classes_fit_the_task(self) -> Self:
        count = len(self.classes)
        if self.task not in ("binary", "multiclass") and count:
            raise ValueError(f"a {self.task} model has no classes, but {count} are given")
        if self.task == "binary" and count != 2:
            raise ValueError(f"a binary model has 2 classes, not {count}")
        if self.task == "multiclass" and 0 < count < 3:
            raise ValueError(f"a multiclass model has at least 3 classes, not {count}")
        if len(set(self.classes)) != count:
            raise ValueError(f"the classes are not unique: {list(self.classes)}")
        return self
