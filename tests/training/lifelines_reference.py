"""A public data set of lifelines, and its own concordance. lifelines needs an older pandas than the tests have.

This file is also the program that writes them. It runs in an environment of its own, which is removed afterwards.
"""

import json
import sys
from pathlib import Path

PYTHON = "3.13"
PACKAGES = ("lifelines==0.30.3",)
SIZES = (2, 5, 50, 333)


def reference() -> Path:
    """Return the folder with rossi.csv, 432 released prisoners, and concordance.json."""
    from tests.own_environment import made_by

    return made_by(Path(__file__), "lifelines", PYTHON, PACKAGES, "concordance.json")


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
