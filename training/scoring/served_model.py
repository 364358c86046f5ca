"""The model of a scoring, loaded by the code of the service, and the place of its data."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, StrictInt, StrictStr, ValidationError, field_validator

from app.errors import InvalidInputError, LoadError, ProblemError
from app.loading import Times
from app.model import pyfunc
from app.model.base import Model
from app.model.booster import BoosterError
from app.model.contract import UnknownCategory
from app.model.signature import Cells, Signature
from app.model.worker import WorkerOptions
from app.model.worker_connection import ModelError
from app.registry import staged
from app.registry.load import load_model
from app.settings import Settings as ServiceSettings
from app.settings import describe
from app.stage import stage
from app.tools.local_worker import local_worker
from app.uri import GRAMMAR
from training.csv_settings import CsvSettings
from training.data.storage import Place, download, place
from training.errors import InputError, ResourceError, TrackingError, TrainingError
from training.packages.model_environment import check_interpreter, interpreter_of

_LOAD_SECONDS = 120.0
_WORKER_LOAD_SECONDS = 900.0  # importing the packages of a model can take minutes on a busy machine
_CALL_SECONDS = 600.0


class WorkerSettings(CsvSettings):
    """Options of the commands that run models of other flavors."""

    model_python: Path | None = Field(
        default=None,
        description="Interpreter of an environment with the packages of a model of another flavor. Empty makes the "
        "environment from the model's requirements.txt and Python with uv, and keeps it in the cache.",
    )
    allow_source: bool = Field(
        default=False, description="Build packages that have no wheel. This runs code of the package."
    )


class ModelOptions(WorkerSettings):
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
    model_flavor: Literal["xgboost", "pyfunc"] = Field(
        default="xgboost",
        description="pyfunc runs a model of any MLflow flavor, and so code that came with it, in its own Python.",
    )
    worker_socket: Path | None = Field(
        default=None,
        description="Unix socket of a worker that runs the model already, in a pod of the chart. Its model was staged "
        "in --cache-dir.",
    )
    cache_dir: Path | None = Field(default=None, description="Folder with the staged model for --worker-socket.")

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


@dataclass(frozen=True)
class Running:
    """A model that can predict, and its folder in MLflow's format."""

    model: Model
    folder: Path


@contextmanager
def served(
    options: ModelOptions, work: Path, rows_for: Callable[[Signature], Cells] | None = None
) -> Iterator[Running]:
    """Load a model as the service does, and yield it until the caller is done.

    Args:
        options: The model.
        work: Folder for a downloaded model.
        rows_for: Returns rows to predict for a model of another flavor that has no input example.

    Raises:
        InputError: The model cannot be used, or fails in the body.
        TrackingError: MLflow does not provide the model.
        TrainingError: The process of the model ended.
    """
    with ExitStack() as ended:
        try:
            yield _loaded(options, work, rows_for, ended)
        except LoadError as error:
            wrong = InputError if not error.retryable else TrackingError
            reason = str(error).replace("model.flavor=", "--model-flavor=")
            raise wrong(f"Cannot load {options.model_uri}: {reason}.") from None
        except (BoosterError, ModelError, InvalidInputError) as error:
            raise InputError(f"The model cannot predict: {str(error).rstrip('.')}.") from None
        except ProblemError as error:  # the process of the model ended or hung
            raise TrainingError(f"The model cannot predict now: {str(error).rstrip('.')}; see the log.") from None


def _loaded(
    options: ModelOptions, work: Path, rows_for: Callable[[Signature], Cells] | None, ended: ExitStack
) -> Running:
    service = _settings(options, work)
    if options.model_flavor == "xgboost":
        found = load_model(service, time.monotonic() + _LOAD_SECONDS)
        return Running(found.model, found.folder)
    deadline = time.monotonic() + _WORKER_LOAD_SECONDS
    if options.worker_socket:
        ready, path = staged.read(service), options.worker_socket
    else:
        if options.model_python:
            check_interpreter(options.model_python)
        ready = stage(service, Times(time.monotonic(), float("inf"), deadline))
        python = options.model_python or interpreter_of(ready.folder, allow_source=options.allow_source)
        try:
            path = ended.enter_context(local_worker(service.cache_dir, python))
        except OSError as error:
            raise ResourceError(f"{python} cannot be started ({error.strerror}).") from None
    model = pyfunc.load(
        ready.folder,
        ready.provenance,
        service.model_sha256,
        options=WorkerOptions(path, _CALL_SECONDS),
        deadline=deadline,
        rows_for=rows_for,
    )
    ended.callback(model.worker.close)
    return Running(model, ready.folder)


def _settings(options: ModelOptions, work: Path) -> ServiceSettings:
    try:
        return ServiceSettings(
            model_uri=options.model_uri,
            model_flavor=options.model_flavor,
            model_sha256=options.model_sha256,
            model_categories=options.model_categories,
            model_unknown_category=options.unknown_category,
            mlflow_tracking_uri=options.mlflow_tracking_uri,
            cache_dir=options.cache_dir if options.worker_socket and options.cache_dir else work,
        )
    except ValidationError as error:
        raise InputError(describe(error).replace("The service", "The model").replace("MODEL_SERVICE_", "")) from None


def place_of_data(uri: str, work: Path) -> Place:
    """Return the place of the data. Data at an http(s) address are downloaded into `work`."""
    return download(uri, work) if uri.startswith(("http://", "https://")) else place(uri)
