"""A public data set of lifelines, and its own concordance. lifelines needs an older pandas than the tests have.

This file is also the program that writes them. It runs in an environment of its own, which is removed afterwards.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PYTHON = "3.13"
PACKAGES = ("lifelines==0.30.3",)
SIZES = (2, 5, 50, 333)


def reference() -> Path:
    """Return the folder with rossi.csv, 432 released prisoners, and concordance.json."""
    from tools.bench.environments import AS_OF, interpreter, uv
    from tools.cluster.cache import CACHE, key_of
    from tools.cluster.programs import only_one

    program = Path(__file__)
    folder = CACHE / f"lifelines-{key_of([program], AS_OF, PYTHON, *PACKAGES)}"
    with only_one("lifelines"):
        if not (folder / "concordance.json").exists():
            for old in CACHE.glob("lifelines-*/"):
                shutil.rmtree(old)
            python = folder / "environment" / "bin" / "python"
            kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
            commands: list[list[str | Path]] = [
                [uv(), "venv", "--python", interpreter(PYTHON), folder / "environment"],
                [uv(), "pip", "install", "--python", python, "--exclude-newer", AS_OF, *PACKAGES],
                [python, program, folder],
            ]
            for command in commands:
                subprocess.run(command, env=kept, check=True)
            shutil.rmtree(folder / "environment")
    return folder


def make(folder: Path) -> None:
    """Write the data set, and the concordance of random predictions with many ties."""
    import numpy as np
    from lifelines.datasets import load_rossi
    from lifelines.utils import concordance_index

    load_rossi().to_csv(folder / "rossi.csv", index=False)
    draw = np.random.default_rng(0)
    cases = []
    for size in SIZES:
        times, predictions = draw.integers(1, 30, size), draw.integers(1, 12, size)
        observed = draw.random(size) < 0.6
        observed[times.argmin()] = True  # otherwise two rows may have no pair
        found = concordance_index(times, predictions, observed)
        case = {"times": times.tolist(), "observed": observed.tolist(), "predictions": predictions.tolist()}
        cases.append(case | {"concordance": float(found)})
    (folder / "concordance.json").write_text(json.dumps(cases))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
