"""The command `erase`: delete the rows of one subject from an inference log.

A file that contains such rows is replaced by one without them. Rows that still wait in a pod are not found: run the
command again once their segments are shipped.
"""

from typing import Any

from pydantic import Field

from training.data.log_store import LogStore
from training.shipping.erase import erase
from training.shipping.options import LogOptions


class Options(LogOptions):
    """Delete the rows of one subject from an inference log, with the labels of these rows."""

    column: str = Field(
        description="Column that identifies the subject: input_<column of the model>, owner or request_id."
    )
    values: tuple[str, ...] = Field(min_length=1, description="Values of the subject in this column, as a JSON list.")


def run(options: Options) -> dict[str, Any]:
    """Delete the rows, and return their number by kind.

    Raises:
        InputError: The log has no such column.
        TrainingError: The place of the log is unreachable.
    """
    return {"log": options.log_uri, "deleted": erase(LogStore(options.log_uri), options.column, options.values)}
