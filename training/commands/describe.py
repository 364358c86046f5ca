"""The command `describe`: write the contract.json of a model that was logged elsewhere, with a reference profile.

`train` writes this file for its own models.
"""

import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field

from app.model.contract import CONTRACT_FILE
from training.errors import ResourceError
from training.scoring.reference_contract import ReferenceOptions, describe


class Options(ReferenceOptions):
    """Profile reference data with a model, and write the contract.json for the folder of the model."""

    output: Path = Field(default=Path(CONTRACT_FILE), description="File to write.")


def run(options: Options) -> dict[str, Any]:
    """Write the contract, and return its path and a summary.

    Raises:
        TrainingError: The model or the data cannot be used, or the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as work:
        contract, profile, sha256 = describe(options, Path(work))
    try:
        options.output.write_text(contract.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ResourceError(
            f"--output (TRAINING_OUTPUT): {options.output} cannot be written ({error.strerror})."
        ) from None
    return {
        "output": str(options.output),
        "model_sha256": sha256,
        "rows": next(each.samples for each in (*profile.features, *profile.predictions)),
        "features": len(profile.features),
        "predictions": [each.name for each in profile.predictions],
    }
