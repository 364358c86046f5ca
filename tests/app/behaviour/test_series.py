"""Number of series and size of a scrape by the number of features, which docs/reference/drift.md documents."""

import gzip
import urllib.request
from pathlib import Path

import pytest

from app.model.contract import MODEL_FILE
from tests.app.harness import running_service
from tools.bench.models import train

# Numeric feature: two series for each of up to ten bins and for missing values, plus samples, importance and sides.
PER_FEATURE = 26


def scraped(address: str, encoding: str = "identity") -> bytes:
    request = urllib.request.Request(f"{address}/metrics", headers={"Accept-Encoding": encoding})  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
        content: bytes = answer.read()
        return content


@pytest.mark.parametrize(("features", "counted"), [(20, 20), (200, 20), (200, 200)])
def test_series_grow_by_a_fixed_number_per_counted_feature(features: int, counted: int, tmp_path: Path) -> None:
    model = train(tmp_path / "model", features, 20)
    assert (model.folder / MODEL_FILE).exists()
    with running_service(model.folder.as_uri(), tmp_path, MODEL_SERVICE_DRIFT_MAX_FEATURES=str(counted)) as service:
        text = scraped(service.address).decode()
        packed = scraped(service.address, "gzip")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    of_features = [line for line in lines if 'role="feature"' in line or "model_feature_" in line]
    print(
        f"{counted} of {features} features: {len(lines)} series, {len(text) / 1024:.0f} KiB, "
        f"{len(packed) / 1024:.1f} KiB packed"
    )

    assert gzip.decompress(packed)
    assert len(of_features) == counted * PER_FEATURE
    assert len(lines) - len(of_features) < 260, "what a pod has whatever its model is"
    assert len(text) < 60_000 + 4_400 * counted
