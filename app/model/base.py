"""The interface of every model that the service can serve."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

from app.model.compatibility import Mismatch
from app.model.contract import Contract
from app.model.digest import digest_of
from app.model.files import Provenance
from app.model.output import Output
from app.model.parameters import NO_PARAMETERS, Parameters
from app.model.signature import Cells, Signature


@dataclass(frozen=True)
class Model(ABC):
    """A model that has predicted its own input example, with its metadata."""

    flavor: ClassVar[str]
    explainable: ClassVar[bool]  # supports explanations per column

    provenance: Provenance
    signature: Signature
    output: Output
    contract: Contract | None
    example: dict[str, Any] | None
    files: Mapping[str, str]  # SHA-256 digest by path, of every file that can decide an answer
    trained_at: datetime | None  # as recorded by MLflow when the model was logged
    loaded_at: datetime
    mismatches: tuple[Mismatch, ...] | None  # packages whose versions differ from the model's; None: not checked

    @cached_property
    def sha256(self) -> str:
        """The digest of the model (app.model.digest)."""
        return digest_of(self.files)

    @abstractmethod
    def predict(self, rows: Cells, parameters: Parameters = NO_PARAMETERS) -> list[Any]:
        """Return one JSON value per row, as `output` describes it.

        Args:
            rows: Cells made by the signature, shape (rows, columns).
            parameters: The model's own parameters, checked and completed with defaults.

        Raises:
            Exception: The model failed, or its output cannot be represented in JSON.
        """

    @property
    def problem(self) -> str:
        """Why the model cannot predict now, or "" if it can."""
        return ""

    @property
    @abstractmethod
    def objective(self) -> str | None:
        """Training objective, as the library names it."""

    def document(self) -> dict[str, Any]:
        """Return everything known about the model as JSON."""
        return asdict(self.provenance) | {
            "sha256": self.sha256,
            "files": dict(sorted(self.files.items())),
            "flavor": self.flavor,
            "task": self.output.task,
            "objective": self.objective,
            "target": self.contract.target if self.contract else None,
            "classes": list(self.output.classes),
            "signature": self.signature.document(),
            "params": [each.document() for each in self.signature.parameters],
            "input_example": self.example,
            "trained_at": self.trained_at.isoformat(timespec="seconds") if self.trained_at else None,
            "loaded_at": self.loaded_at.isoformat(timespec="seconds"),
            "mismatches": None if self.mismatches is None else [asdict(each) for each in self.mismatches],
        }
