"""Quotas in a JSON file: inheritance from the default, and files that cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest

from app import quota_file
from app.quota_file import Policy, Quota


def write(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_owner_inherits_what_it_does_not_set(tmp_path: Path) -> None:
    found = quota_file.read(
        write(
            tmp_path / "quotas.json",
            default={"requestsPerSecond": 10, "rowsPerSecond": 1000, "burstSeconds": 5},
            owners={"batch": {"rowsPerSecond": 50_000}, "web": {"requestsPerSecond": 0.5, "rowsPerSecond": 0}},
        )
    )

    assert found.of("nobody") == Quota(Policy("requests", 10, 50), Policy("rows", 1000, 5000))
    assert found.of("batch") == Quota(Policy("requests", 10, 50), Policy("rows", 50_000, 250_000))
    assert found.of("web") == Quota(Policy("requests", 0.5, 2), None)


@pytest.mark.parametrize(
    ("rate", "seconds", "header"),
    [
        (0.29, 100, '"rows";q=29;w=100;qu="rows"'),  # 0.29 * 100 is less than 29
        (3 / 3600, 3600, '"rows";q=3;w=3600;qu="rows"'),
        (0.3, 1, '"rows";q=1;w=4;qu="rows"'),
        (1234.5, 10, '"rows";q=12345;w=10;qu="rows"'),
    ],
)
def test_burst_is_not_changed_by_rounding(tmp_path: Path, rate: float, seconds: int, header: str) -> None:
    path = write(tmp_path / "quotas.json", default={"rowsPerSecond": rate, "burstSeconds": seconds})

    assert quota_file.read(path).default.rows.header == header  # type: ignore[union-attr]


def test_burst_is_ten_seconds_by_default_and_at_least_one_request(tmp_path: Path) -> None:
    found = quota_file.read(write(tmp_path / "quotas.json", owners={"slow": {"requestsPerSecond": 0.01}}))

    assert found.default == Quota(None, None)
    assert found.of("slow") == Quota(Policy("requests", 0.01, 1), None)
    assert found.of("slow").requests.seconds == 100  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "the file: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        ('{"defaults": {}}', "defaults: Extra inputs are not permitted"),
        ('{"default": {"requestsPerSecond": -1}}', "default.requestsPerSecond: Input should be greater than or equal"),
        ('{"default": {"requests": 1}}', "default.requests: Extra inputs are not permitted"),
        ('{"owners": {"web": {"burstSeconds": 0}}}', "owners.web.burstSeconds: Input should be greater than or equal"),
        ('{"owners": {"web": {"rowsPerSecond": "many"}}}', "owners.web.rowsPerSecond: Input should be a valid number"),
        ('{"default": {"rowsPerSecond": NaN}}', "default.rowsPerSecond: Input should be a finite number"),
    ],
)
def test_unusable_file_is_explained(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "quotas.json").write_text(content)

    with pytest.raises(ValueError, match=r"quotas\.json") as failed:
        quota_file.read(tmp_path / "quotas.json")

    assert f"quotas.json: {problem}" in str(failed.value)


def test_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read \(No such file or directory\); mount the ConfigMap there"):
        quota_file.read(tmp_path / "quotas.json")
