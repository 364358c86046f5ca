"""The command `score`: write predictions for a data set to Parquet files, with the model that the service would serve.

After a kill, and after any exit code except 0, the same command continues where the last run ended.
"""

import logging
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from app.model.base import Model
from app.model.xgboost import BoosterModel
from training.data.chunks import ChunkedData
from training.data.csv_format import AUTO
from training.data.storage import Place, place
from training.errors import InputError
from training.scoring.parts import Parts, started
from training.scoring.score import columns_of, score
from training.scoring.served_model import ModelOptions, place_of_data, served

log = logging.getLogger("training")


class Options(ModelOptions):
    """Score a data set to Parquet files in bounded memory. A restarted command continues where the last one ended."""

    data: str = Field(
        description="CSV or Parquet file, or a folder of either, as a local path or s3://. A file may also be at "
        "http(s)://."
    )
    output: str = Field(description="Folder for the predictions of one run: a local path or s3://.")
    keep: tuple[str, ...] = Field(
        default=(), description="Columns to copy to the predictions, separated by commas, such as a customer number."
    )
    on_error: Literal["fail", "skip"] = Field(
        default="fail",
        description="How to handle a cell that is not valid for the model. fail ends the run with an error that "
        "names the cell. skip leaves out the prediction of its row, and the column `error` contains the reason.",
    )
    part_rows: int = Field(
        default=100_000, ge=1, le=10_000_000, description="Number of rows of each file with predictions."
    )
    nthread: int = Field(default=1, ge=1, description="Number of threads, usually the CPU limit of the container.")


def run(options: Options) -> dict[str, Any]:
    """Score one data set, and return the output folder, the number of rows and the model.

    Raises:
        TrainingError: Not all rows are scored.
    """
    output = place(options.output)
    before = started(output)
    with tempfile.TemporaryDirectory() as work, served(_continued(options, before), Path(work)) as running:
        return _run(options, running.model, output, Path(work))


def _run(options: Options, model: Model, output: Place, work: Path) -> dict[str, Any]:
    source = place_of_data(options.data, work)
    if isinstance(model, BoosterModel):
        model.booster.use_threads(options.nthread)
    words = model.contract.null_words if model.contract else None
    data = ChunkedData(source, model.signature.columns, options.keep, words, options.csv_format)
    if clash := sorted({*options.keep} & {*columns_of(model.output), "error"}):
        raise InputError(f"--keep={clash[0]} is the name of a column that scoring adds: rename it in the data.")
    plan = {
        "data": {"uri": options.data, "files": data.identity()},
        "model": {
            "asked_for": options.model_uri,
            "uri": model.provenance.uri,
            "version": model.provenance.version,
            "sha256": model.sha256,
        }
        | ({"categories": options.model_categories} if options.model_categories else {})
        | ({"unknown_category": options.unknown_category} if options.unknown_category else {})
        | ({"flavor": options.model_flavor} if options.model_flavor != "xgboost" else {}),
        "part_rows": options.part_rows,
        "keep": list(options.keep),
        "on_error": options.on_error,
    }
    if options.csv_format != AUTO:
        plan["csv"] = options.csv_format.model_dump()
    parts = Parts(output, plan)
    begin = time.monotonic()
    if complete := parts.complete:
        log.info("%s is already complete: %d rows", options.output, complete["rows"])
        rows = int(complete["rows"])
    else:
        skip = options.on_error == "skip"
        rows = score(model, data, parts, options.part_rows, options.keep, skip=skip)
        log.info("%d rows in %.1f s", rows, time.monotonic() - begin)
    return {"output": options.output, "rows": rows, "model": plan["model"]}


def _continued(options: Options, before: dict[str, Any] | None) -> Options:
    """Return the options with the version of the run that is continued, even if the alias has moved."""
    known = (before or {}).get("model", {})
    if known.get("asked_for") != options.model_uri or options.worker_socket:
        return options
    sha256 = options.model_sha256 or str(known["sha256"])
    return options.model_copy(update={"model_uri": str(known["uri"]), "model_sha256": sha256})
