"""The command `score`: a data set to Parquet files of predictions, with the model that the service would serve.

After any exit code but 0, and after a kill, the same command goes on where it ended.
"""

import logging
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from app.booster import BoosterError
from app.errors import LoadError
from app.model import BoosterModel
from app.obtain import obtain
from app.settings import Settings as ServiceSettings
from app.settings import describe
from training.errors import InputError, TrackingError, TrainingError
from training.parts import Parts, started
from training.scoring import columns_of, score
from training.settings import Settings
from training.storage import Place, download, place
from training.tables import DataSet

_LOAD_SECONDS = 120.0

log = logging.getLogger("training")


class Loading(Settings):
    """The options that say which model is loaded, as the service loads it."""

    mlflow_tracking_uri: str = Field(
        default="", validation_alias="mlflow_tracking_uri", description="MLflow server; needed by models:/ URIs."
    )
    model_uri: str = Field(
        description="models:/<name>@<alias>, models:/<name>/<version> or file:///<folder>. An alias is looked up once: "
        "a run that goes on keeps its version."
    )
    model_sha256: str = Field(default="", description="Digest that model.ubj must have; empty: any.")

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_a_server(cls, uri: str) -> str:
        """Check it where there is one: a model in a folder needs none."""
        return super()._is_a_server(uri) if uri else uri


class Options(Loading):
    """Score a data set to Parquet files, in bounded memory; the same command goes on where a killed one ended."""

    data: str = Field(
        description="CSV or Parquet file, or a folder of either: a local path or s3://; a file also by http(s)://."
    )
    output: str = Field(description="Folder for the predictions: a local path or s3://. It holds one scoring.")
    keep: tuple[str, ...] = Field(
        default=(), description="Columns to copy to the predictions, separated by commas, such as a customer's number."
    )
    on_error: Literal["fail", "skip"] = Field(
        default="fail",
        description="What a cell that does not fit the model does. fail: it ends the run, which names it. skip: its "
        "row gets no prediction, and the column `error` says why.",
    )
    part_rows: int = Field(default=100_000, ge=1, le=10_000_000, description="Rows of each file of predictions.")
    nthread: int = Field(default=1, ge=1, description="Threads; the container's CPU limit.")


def run(options: Options) -> dict[str, Any]:
    """Score one data set; return where the predictions are, how many, and of which model.

    Raises:
        TrainingError: not all rows are scored.
    """
    try:
        with tempfile.TemporaryDirectory() as work:
            return _run(options, Path(work))
    except BoosterError as error:
        raise TrainingError(f"XGBoost failed: {error}.") from None


def _run(options: Options, work: Path) -> dict[str, Any]:
    output = place(options.output)
    before = started(output)
    source = place_of_data(options.data, work)
    model = _model(options, before, work)
    model.booster.use_threads(options.nthread)
    data = DataSet(source, model.signature.columns, options.keep)
    if clash := sorted({*options.keep} & {*columns_of(model.output), "error"}):
        raise InputError(f"--keep={clash[0]} has the name of a column that is added: rename it in the data.")
    plan = {
        "data": {"uri": options.data, "files": data.identity()},
        "model": {
            "asked_for": options.model_uri,
            "uri": model.provenance.uri,
            "version": model.provenance.version,
            "sha256": model.sha256,
        },
        "part_rows": options.part_rows,
        "keep": list(options.keep),
        "on_error": options.on_error,
    }
    parts = Parts(output, plan)
    begin = time.monotonic()
    if complete := parts.complete:
        log.info("%s is complete already: %d rows", options.output, complete["rows"])
        rows = int(complete["rows"])
    else:
        skip = options.on_error == "skip"
        rows = score(model, data, parts, options.part_rows, options.keep, skip=skip)
        log.info("%d rows in %.1f s", rows, time.monotonic() - begin)
    return {"output": options.output, "rows": rows, "model": plan["model"]}


def place_of_data(uri: str, work: Path) -> Place:
    """Return where the data is, after a download into `work` when it is at an http(s) address."""
    return download(uri, work) if uri.startswith(("http://", "https://")) else place(uri)


def _model(options: Options, before: dict[str, Any] | None, work: Path) -> BoosterModel:
    """Load the model; a run that goes on keeps the version that it began with, wherever the alias is now."""
    known = (before or {}).get("model", {})
    if known.get("asked_for") != options.model_uri:
        return load(options, work)
    sha256 = options.model_sha256 or str(known["sha256"])
    return load(options.model_copy(update={"model_uri": str(known["uri"]), "model_sha256": sha256}), work)


def load(options: Loading, work: Path) -> BoosterModel:
    """Load a model of XGBoost's as the service does, a registered one into `work`.

    Raises:
        InputError: it cannot be used.
        TrackingError: MLflow does not give it out now.
    """
    uri = options.model_uri
    try:
        service = ServiceSettings(
            model_uri=uri,
            model_sha256=options.model_sha256,
            mlflow_tracking_uri=options.mlflow_tracking_uri,
            cache_dir=work,
        )
    except ValidationError as error:
        raise InputError(describe(error).replace("The service", "The model").replace("MODEL_SERVICE_", "")) from None
    try:
        model = obtain(service, time.monotonic() + _LOAD_SECONDS)
    except LoadError as error:
        wrong = InputError if not error.retryable else TrackingError
        raise wrong(f"Cannot load {uri}: {error}.") from None
    if not isinstance(model, BoosterModel):
        raise InputError(f"{uri} is loaded by {model.flavor}, and only XGBoost models are scored: unset MODEL_FLAVOR.")
    return model
