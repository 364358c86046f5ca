"""The shipping of segments: each becomes Parquet files in the place of the log, and is deleted only after that.

The names of the files follow from the pod and the segment, and their content from the segment. So a segment that is
shipped twice, because a process ended before it deleted the segment, replaces the same files.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as parquet

from app.monitoring import segments
from training.data.inference_log import LABELS, PREDICTIONS
from training.data.log_store import LogStore
from training.shipping.segment_tables import Part, parts_of

BROKEN = ".broken"  # suffix of a segment that cannot be read, which stays for an inspection

log = logging.getLogger("training")


def ship(folder: Path, store: LogStore, pod: str) -> int:
    """Ship all complete segments, oldest first, and return their number.

    Raises:
        TrainingError: The place of the log is unreachable; the segment stays.
    """
    count = 0
    for path in segments.closed(folder):
        try:
            parts = list(parts_of(path.read_bytes()))
        except Exception:  # a segment that cannot be read must not hold up the others
            log.exception("%s cannot be read, and stays as %s", path.name, path.with_suffix(BROKEN).name)
            path.rename(path.with_suffix(BROKEN))
            continue
        for part in parts:
            store.put(_name(part, pod, path), _content(part))
        path.unlink()
        count += 1
        rows = sum(part.table.num_rows for part in parts)
        log.info("shipped %s: %d rows in %d files", path.name, rows, len(parts))
    return count


def take_open(folder: Path) -> None:
    """Complete the segments of a service that has ended without completing them."""
    for path in folder.glob(f"*{segments.OPEN}"):
        path.rename(path.with_suffix(segments.CLOSED))


def expire(store: LogStore, days: int) -> int:
    """Delete the files of days that are older than `days`, and return their number.

    Raises:
        TrainingError: The place of the log is unreachable.
    """
    first = datetime.now(UTC).date() - timedelta(days=days)
    count = 0
    for name in _dated(store):
        with suppress(ValueError):  # the folder of no day
            if date.fromisoformat(name.split("/")[1].removeprefix("day=")) < first:
                store.delete(name)
                count += 1
    return count


def _dated(store: LogStore) -> Iterator[str]:
    for kind in (PREDICTIONS, LABELS):
        yield from store.names(kind)


def _name(part: Part, pod: str, path: Path) -> str:
    end = f"-{part.model}" if part.model else ""
    return f"{part.kind}/day={part.day}/{pod}-{path.stem}{end}.parquet"


def _content(part: Part) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(part.table, buffer, compression="zstd")
    return buffer.getvalue()
