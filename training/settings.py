"""Define everything a training run can be told, by flag or environment variable; flags win."""

import re
from typing import Annotated, Any

from pydantic import Field, HttpUrl, TypeAdapter, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_ALIAS = r"^[A-Za-z0-9_-]+$"
_HTTP_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)

Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Settings(BaseSettings):
    """Train an XGBoost model on breast_cancer and register it in MLflow.

    Every option is also an environment variable: TRAINING_MAX_DEPTH, ...; without the prefix only
    MLFLOW_TRACKING_URI and GIT_COMMIT, which are not of our making. The last line on stdout is JSON.
    """

    model_config = SettingsConfigDict(
        env_prefix="TRAINING_",
        # An empty variable is what a chart renders for "not set".
        env_ignore_empty=True,
        cli_prog_name="python -m training",
        cli_kebab_case=True,
        frozen=True,
    )

    mlflow_tracking_uri: str = Field(
        validation_alias="mlflow_tracking_uri", description="MLflow server, http:// or https://."
    )
    git_commit: str = Field(
        default="",
        validation_alias="git_commit",
        description="Commit of this code, when it runs without .git.",
    )
    model_name: str = Field(
        default="breast-cancer", pattern=_MODEL_NAME, description="Registered model; also the experiment."
    )
    alias: str = Field(default="champion", pattern=_ALIAS, description="Alias the new version gets, last of all.")

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

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_a_server(cls, uri: str) -> str:
        """Refuse paths and databases (MLflow would quietly write to the container's own disk), and passwords.

        MLflow prints the URI in links and errors, so what stands in it ends in logs.
        """
        url = _HTTP_URL.validate_python(uri)
        if url.username or url.password:
            raise ValueError(
                "credentials belong in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, not in the URI"
            )
        return uri.rstrip("/")

    @field_validator("alias")
    @classmethod
    def _alias_is_free(cls, alias: str) -> str:
        """Refuse what MLflow reserves now, not after the training."""
        if alias.lower() == "latest" or re.fullmatch(r"v\d+", alias, re.IGNORECASE):
            raise ValueError("MLflow reserves 'latest' and 'v<number>'; choose another alias")
        return alias

    @classmethod
    def variable(cls, field: str) -> str:
        """Return the environment variable of a field."""
        return field.upper() if cls.model_fields[field].validation_alias else f"TRAINING_{field.upper()}"

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
