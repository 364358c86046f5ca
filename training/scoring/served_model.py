"""The model of a scoring, loaded by the code of the service, and the place of its data."""

import time
from pathlib import Path
from typing import Literal

from pydantic import Field, StrictInt, StrictStr, ValidationError, field_validator

from app.errors import LoadError
from app.model.contract import UnknownCategory
from app.model.xgboost import BoosterModel
from app.registry.load import load_model
from app.settings import Settings as ServiceSettings
from app.settings import describe
from app.uri import GRAMMAR
from training.csv_settings import CsvSettings
from training.data.storage import Place, download, place
from training.errors import InputError, TrackingError

_LOAD_SECONDS = 120.0


class ModelOptions(CsvSettings):
    """Options that select the model."""

    mlflow_tracking_uri: str = Field(
        default="",
        validation_alias="mlflow_tracking_uri",
        description="Address of the MLflow server; required for models:/, runs:/ and mlflow-artifacts:/ URIs.",
    )
    model_uri: str = Field(description=f"{GRAMMAR}. An alias is resolved once: a continued run keeps its version.")
    model_sha256: str = Field(
        default="", description="Required digest of the model, as GET /model shows it. Empty accepts any."
    )

    model_categories: dict[str, tuple[StrictStr | StrictInt, ...]] = Field(
        default={},
        description="Categories of each categorical feature that the model does not name, as a JSON object of lists.",
    )

    unknown_category: UnknownCategory | Literal[""] = Field(
        default="",
        description="How to take a category that is not in the training data: error refuses its row, missing scores it "
        "as a missing value. Empty: as the model records it.",
    )

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_a_server(cls, uri: str) -> str:
        """Check the address if there is one, because a model in a folder needs none."""
        return super()._is_a_server(uri) if uri else uri


def load(options: ModelOptions, work: Path) -> BoosterModel:
    """Load an XGBoost model as the service does. A registered model is downloaded into `work`.

    Raises:
        InputError: The model cannot be used.
        TrackingError: MLflow does not provide the model.
    """
    uri = options.model_uri
    try:
        service = ServiceSettings(
            model_uri=uri,
            model_sha256=options.model_sha256,
            model_categories=options.model_categories,
            model_unknown_category=options.unknown_category,
            mlflow_tracking_uri=options.mlflow_tracking_uri,
            cache_dir=work,
        )
    except ValidationError as error:
        raise InputError(describe(error).replace("The service", "The model").replace("MODEL_SERVICE_", "")) from None
    try:
        model = load_model(service, time.monotonic() + _LOAD_SECONDS).model
    except LoadError as error:
        wrong = InputError if not error.retryable else TrackingError
        raise wrong(f"Cannot load {uri}: {error}.") from None
    if not isinstance(model, BoosterModel):
        raise InputError(
            f"{uri} is loaded with {model.flavor}, but only XGBoost models can be scored: unset MODEL_FLAVOR."
        )
    return model


def place_of_data(uri: str, work: Path) -> Place:
    """Return the place of the data. Data at an http(s) address are downloaded into `work`."""
    return download(uri, work) if uri.startswith(("http://", "https://")) else place(uri)
