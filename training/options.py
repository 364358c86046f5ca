"""Everything that a training run can be told."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from app.contract import Task
from training.data import DataSpec, SplitSpec
from training.machine import cpu_limit
from training.settings import Alias, Seed, Settings, Share

# What shapes the trees and has an option of its own, by XGBoost's names.
TREE_PARAMS = ("max_depth", "learning_rate", "subsample", "colsample_bytree", "min_child_weight", "reg_lambda")
_NOT_FREE = {*TREE_PARAMS, "eta", "lambda", "seed", "nthread", "num_class", "device", "booster", "process_type"}


class TrainOptions(Settings):
    """Train an XGBoost model on a table and register it in MLflow as a new version."""

    alias: Literal[""] | Alias = Field(
        default="", description="Alias that names the new version at once, past the gate of `promote`; empty: none."
    )

    data: str = Field(
        default="breast_cancer",
        min_length=1,
        description="CSV or Parquet: a path, s3://, http(s)://; a folder of Parquet; or breast_cancer, wine, diabetes.",
    )
    target: str = Field(default="", description="Column to predict; the built-in data have their own.")
    task: Literal["auto"] | Task = Field(default="auto", description="auto: what the target looks like.")
    group: str = Field(default="", description="Column of a ranking's queries; rows of a group are never split.")
    positive: str = Field(default="", description="Class of two whose probability is predicted; empty: the last one.")
    drop: tuple[str, ...] = Field(default=(), description="Columns to leave out.")
    categorical: tuple[str, ...] = Field(default=(), description="Columns of whole numbers that are categories.")
    skip_unlabelled: bool = Field(default=False, description="Leave out rows without a target instead of refusing.")

    seed: Seed = Field(default=0, description="Seed of row and column sampling, and of the search.")
    split_seed: Seed = Field(
        default=0, description="Seed of the split; the same one keeps versions comparable on one holdout."
    )
    holdout_share: float = Field(default=0.2, gt=0, lt=0.9, description="Share of the rows to measure on.")
    validation_share: float = Field(default=0.2, gt=0, lt=0.9, description="Share of the others that stop the rounds.")
    folds: int = Field(default=1, ge=1, le=100, description="Parts of a cross-validation; 1: one validation part.")

    rounds: int = Field(default=300, ge=1, description="Boosting rounds, or their limit with early stopping.")
    early_stopping_rounds: int = Field(
        default=20,
        ge=0,
        description="Rounds without gain before the search for the round count ends; 0: off.",
    )
    max_depth: int = Field(default=4, ge=1, le=32, description="Depth of a tree.")
    learning_rate: Share = Field(default=0.1, description="Weight of each new tree.")
    subsample: Share = Field(default=0.8, description="Share of the rows each tree sees.")
    colsample_bytree: Share = Field(default=0.8, description="Share of the columns each tree sees.")
    min_child_weight: float = Field(default=1, ge=0, description="Least weight of a leaf.")
    reg_lambda: float = Field(default=1, ge=0, description="L2 regularisation of the leaves.")
    params: dict[str, Any] = Field(default={}, description="More of XGBoost's parameters, as JSON.")
    trials: int = Field(default=0, ge=0, description="Trials of a search for better parameters; 0: no search.")
    nthread: int = Field(default_factory=cpu_limit, ge=1, description="Threads; the model does not depend on it.")

    checkpoints: str = Field(
        default="",
        description="Folder or s3:// for checkpoints, from which a run that was cut off goes on.",
    )
    checkpoint_rounds: int = Field(default=20, ge=1, description="Rounds between two checkpoints.")
    retry_seconds: float = Field(default=300, ge=0, description="How long a lost MLflow is waited for at the end.")
    keep_dir: Path = Field(default=Path("training-kept"), description="Where the files of a run stay that MLflow lost.")

    @field_validator("params")
    @classmethod
    def _params_are_free(cls, params: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(_NOT_FREE & params.keys()):
            raise ValueError(f"{', '.join(taken)} cannot be given here; the others have options of their own")
        return params

    @property
    def data_spec(self) -> DataSpec:
        """What to load."""
        names = ("target", "task", "group", "positive", "drop", "categorical", "skip_unlabelled")
        return DataSpec(source=self.data, **self.model_dump(include=set(names)))

    @property
    def split_spec(self) -> SplitSpec:
        """How to set rows apart."""
        return SplitSpec(
            seed=self.split_seed,
            holdout_share=self.holdout_share,
            validation_share=self.validation_share,
            folds=self.folds,
        )

    @property
    def booster_params(self) -> dict[str, Any]:
        """What shapes the trees, by XGBoost's names."""
        return self.model_dump(include={"seed", *TREE_PARAMS}) | self.params

    @property
    def recorded(self) -> dict[str, Any]:
        """All options, as printed and logged; none of them is a secret."""
        return self.model_dump(mode="json", exclude={"config", "result", "params"}) | {
            f"params.{name}": value for name, value in self.params.items()
        }
