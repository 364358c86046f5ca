"""Define `contract.json`, what a model says about its own output.

Written by training beside the model in its MLflow folder, read by the service: this is the only
definition of the format. Inputs are described by MLflow's own signature; what it lacks may stand here.
"""

import math
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

CONTRACT_FILE = "contract.json"
MODEL_FILE = "model.ubj"

MOST_BINS = 10  # of a variable: each is two series in every pod
SCORE_BINS = 20  # of a score with its label: an AUC from ten bins is 0.004 too low, from twenty 0.001

Task = Literal["binary", "multiclass", "regression", "ranking"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def _ascending(edges: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in pairwise(edges)):
        raise ValueError("the edges must ascend")
    return edges


class ContractColumn(BaseModel):
    """One input, for a model that was logged without a signature or with categories that the booster does not name."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1)
    type: str = Field(default="double", description="As MLflow's signatures name it.")
    required: bool = Field(default=True, description="False: it may be left out or null.")
    categories: tuple[StrictStr | StrictInt, ...] = Field(
        default=(), description="Of a categorical feature, in the order of the booster's numbers."
    )


class Variable(BaseModel):
    """How a feature or a prediction was distributed in the reference data: a share per bin.

    A number falls into the first bin whose edge is not below it, or into the last. A category has a bin of its own, or
    shares `other` with those that have none. Edges lie at quantiles of the reference, so that an outlier moves none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1)
    edges: Annotated[tuple[Finite, ...], AfterValidator(_ascending)] = Field(
        default=(), max_length=MOST_BINS - 1, description="Of a number: upper bounds of all bins but the last, float32."
    )
    categories: tuple[StrictStr | StrictInt, ...] = Field(
        default=(), max_length=MOST_BINS, description="Of a category: those with a bin of their own."
    )
    shares: tuple[Share, ...] = Field(description="Of the rows, by bin in the order of edges or categories.")
    other: Share = Field(default=0, description="Share of the rows in other known categories.")
    missing: Share = Field(default=0, description="Share of the rows without a value.")
    samples: int = Field(ge=1, description="Rows in the reference.")
    minimum: Finite | None = Field(default=None, description="Of a number: the least value in training.")
    maximum: Finite | None = Field(default=None, description="Of a number: the greatest value in training.")
    importance: Share = Field(default=0, description="Of a feature: its share of the total gain of all splits.")
    positive: tuple[Share, ...] = Field(
        default=(), description="Of a binary model's score: share of the second class among the rows of each bin."
    )

    @model_validator(mode="after")
    def _shares_fit_the_bins(self) -> Self:
        bins = len(self.categories) if self.categories else len(self.edges) + 1
        if self.edges and self.categories:
            raise ValueError(f"{self.name} has edges and categories; a variable is a number or a category")
        if len(self.shares) != bins or len(self.positive) not in (0, bins):
            raise ValueError(f"{self.name} has {bins} bins, but other numbers of shares")
        if not math.isclose(total := sum(self.shares) + self.other + self.missing, 1, abs_tol=1e-3):
            raise ValueError(f"the shares of {self.name} sum up to {total:g}, not to 1")
        return self


class Profile(BaseModel):
    """The reference that live requests are compared with: features as trained on, predictions on held-out rows."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    created_at: datetime
    features: tuple[Variable, ...] = ()
    predictions: tuple[Variable, ...] = ()
    score_edges: Annotated[tuple[Finite, ...], AfterValidator(_ascending)] = Field(
        default=(),
        max_length=SCORE_BINS - 1,
        description="Of a binary model: bounds by which labels that come later are counted; finer than its bins.",
    )


class Contract(BaseModel):
    """What the model's numbers mean.

    Fields of a later minor addition are ignored, so that an older service reads a newer model; a change of
    meaning raises `schema_version`, which an older service refuses.

    Raises:
        pydantic.ValidationError: unknown task or schema version, or classes that do not fit the task.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    task: Task
    target: str = Field(min_length=1, description="Name of the predicted column.")
    classes: tuple[str, ...] = Field(
        default=(),
        description="Class names in the order of the model's output. Binary: the booster's number is the "
        "probability of the second.",
    )
    columns: tuple[ContractColumn, ...] = Field(default=(), description="Inputs in the order of the features.")
    example_output: tuple[tuple[float, ...], ...] = Field(
        default=(), description="What the booster answered to the input example in training: its numbers for each row."
    )
    metrics: dict[str, float] = Field(default={}, description="Of the held-out rows, e.g. auc or rmse.")
    profile: Profile | None = Field(default=None, description="Reference distributions; without them no drift is seen.")

    @model_validator(mode="after")
    def _classes_fit_the_task(self) -> Self:
        count = len(self.classes)
        if self.task in ("regression", "ranking") and count:
            raise ValueError(f"a {self.task} has no classes, but {count} are given")
        if self.task == "binary" and count != 2:
            raise ValueError(f"a binary model has 2 classes, not {count}")
        if self.task == "multiclass" and count < 3:
            raise ValueError(f"a multiclass model has at least 3 classes, not {count}")
        if len(set(self.classes)) != count:
            raise ValueError(f"the classes are not unique: {list(self.classes)}")
        return self
