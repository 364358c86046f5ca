"""Log lines about refused callers: their number, and the memory for them."""

import pytest

from app import audit
from app.audit import Audit


def test_audit_counts_refusals_and_bounds_lines_and_memory(caplog: pytest.LogCaptureFixture) -> None:
    lines = Audit()

    for second in range(130):
        lines.refused("web", "refused", float(second))
    for number in range(3 * audit.MOST_CALLERS):
        lines.refused(f"10.0.{number // 256}.{number % 256}", "refused", 1000.5)

    refusals = [record.refusals for record in caplog.records if record.caller == "web"]  # type: ignore[attr-defined]
    assert refusals == [1, 60, 60]
    assert len(caplog.records) == len(refusals) + audit.MOST_LINES
    assert len(lines._callers) == audit.MOST_CALLERS
