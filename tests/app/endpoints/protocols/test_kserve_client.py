"""KServe's inference client runs against the service, in JSON and with binary tensors."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.app.harness import ROOT, running_service
from tests.app.kinds import KINDS
from tools.bench.entries import ENTRIES
from tools.bench.environments import environment


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_kserves_client_gets_xgboosts_own_numbers(kind: str, tmp_path: Path) -> None:
    model = KINDS[kind].save(tmp_path / "model")
    frame = KINDS[kind].frame
    own = KINDS[kind].own(model, frame)
    python = environment(next(each for each in ENTRIES if each.name == "kserve")) / "bin" / "python"
    script, rows = str(ROOT / "tests/app/endpoints/protocols/kserve_client.py"), json.dumps(frame.to_numpy().tolist())

    with running_service((tmp_path / "model").as_uri(), tmp_path) as here:
        ran = subprocess.run([python, script, here.address], input=rows, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert {name: found[name] for name in ("live", "ready", "model ready", "other model ready")} == {
        "live": True,
        "ready": True,
        "model ready": True,
        "other model ready": False,
    }
    for form in ("JSON", "binary"):
        assert found[form]["id"] == "mine"
        outputs = found[form]["outputs"]
        wanted = np.c_[1 - own, own] if kind == "binary" else own
        numbers = outputs["probabilities" if kind == "binary" else "predictions"]
        np.testing.assert_array_equal(np.array(numbers, dtype=np.float32).reshape(wanted.shape), wanted)
    assert "inputs must be a list of at least one tensor" in found["error"]
