"""Everything that a training run can be told."""

from typing import Any, Literal

from pydantic import Field

from training.settings import Alias, Seed, Settings, Share


class TrainOptions(Settings):
    """Train an XGBoost model on breast_cancer and register it in MLflow."""

    alias: Literal[""] | Alias = Field(
        default="", description="Alias the new version gets, past the gate; empty: none, promote moves it."
    )

    seed: Seed = Field(default=0, description="Seed of row and column sampling.")
    split_seed: Seed = Field(
        default=0, description="Seed of the split; the same one keeps versions comparable on one holdout."
    )
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
    nthread: int = Field(default=1, ge=1, description="Threads; the container's CPU limit. The model is the same.")

    @property
    def booster_params(self) -> dict[str, Any]:
        """What shapes the trees, by XGBoost's names."""
        return self.model_dump(
            include={"seed", "max_depth", "learning_rate", "subsample", "colsample_bytree", "nthread"}
        )

    @property
    def params(self) -> dict[str, Any]:
        """Everything that decides the model, as logged."""
        return self.booster_params | self.model_dump(include={"split_seed", "rounds", "early_stopping_rounds"})
