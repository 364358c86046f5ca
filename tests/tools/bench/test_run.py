"""Tests that a failing rival is left out with a reason of one line."""

import pytest

from tools.bench.run import reason

UV = """nice failed with status 1:
Using Python 3.13.0 environment at: /home/somebody/.cache/model-service/bench/ray-1
error: No solution found when resolving dependencies
  cause: Because there is no version of ray==999.0 and you require ray==999.0, they are unsatisfiable.
(all of it: /home/somebody/.cache/model-service/logs/bench-ray.log)
Check the network and uv's index settings, and the log; then run again."""
SERVER = """naive did not answer within 60 s; last: [Errno 111] Connection refused; its log:
  File "/home/somebody/lib/python3.13/site-packages/xgboost/core.py", line 3297, in _validate_features
ModuleNotFoundError: No module named 'x' in /home/somebody/lib/x.py"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (UV, "cause: Because there is no version of ray==999.0 and you require ray==999.0, they are unsatisfiable."),
        (SERVER, "ModuleNotFoundError: No module named 'x' in …/x.py"),
        ("ray, body-100 x 16: 7 of 7 requests failed.", "ray, body-100 x 16: 7 of 7 requests failed."),
    ],
    ids=["install", "start", "load"],
)
def test_reason_is_the_line_with_the_cause(text: str, expected: str) -> None:
    assert reason(text) == expected
