"""CPU time that the inference log adds to a request, without the noise of a server: `python -m tools.bench.log_cost`.

`python -m tools.bench log` compares whole servers, which takes an idle machine to show a difference of a few percent.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from app.model.files import Provenance
from app.model.output import Predictions
from app.model.rows import Reader
from app.model.xgboost import load
from app.monitoring.inference_log import InferenceLog
from app.monitoring.segment_writer import RECORD_BYTES, WAKE_BYTES, SegmentWriter
from app.settings import Settings
from tools.bench.models import SIZES, Model, encode, train

ROUNDS = 30


def cost(model: Model, rows: int, *, as_json: bool) -> float:
    """Return the CPU time of a request in µs, in the queue and in its segment: the median of the rounds.

    Args:
        model: The model.
        rows: Rows of the request.
        as_json: Log rows as JSON, like those with a date or an unknown category.
    """
    with tempfile.TemporaryDirectory() as folder:
        known = load(model.folder, Provenance("model", "1", ""))
        settings = Settings(model_uri="file:///model", payload_dir=Path(folder), payload_sample_ratio=1)
        writer = SegmentWriter(Path(folder), settings)
        log = InferenceLog(settings, known, writer)
        body = encode({"columns": model.columns, "data": model.rows(rows)})
        read = Reader(known.signature, rows).read(body)
        if as_json:
            read.unseen.append(model.columns[0])
        count = max(1, WAKE_BYTES // (RECORD_BYTES + log.row_bytes(as_matrix=not as_json) * rows))
        return statistics.median(_round(log, writer, known, read, count) for _ in range(ROUNDS)) * 1e6


def _round(log: InferenceLog, writer: SegmentWriter, known: Any, read: Any, count: int) -> float:
    """Return the seconds of a request, of as many as the writer takes at once."""
    asked = [(matrix := read.matrix().copy(), Predictions(known.output, known.answer(matrix))) for _ in range(count)]
    begin = time.process_time()
    for matrix, predictions in asked:
        log.add(read, matrix, predictions, 0.001)
    writer.flush()
    return (time.process_time() - begin) / count


def main() -> int:
    features, trees = SIZES[0]
    with tempfile.TemporaryDirectory() as folder:
        model = train(Path(folder) / "model", features, trees)
        for rows in (1, 100):
            found = [cost(model, rows, as_json=as_json) for as_json in (False, True)]
            print(f"{rows} rows of {features} columns: {found[0]:.1f} µs, as JSON {found[1]:.1f} µs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
