"""Locks of a model's requirements: each package with its version and the hashes of its files."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.errors import InputError
from training.packages import uv

# The oldest C library that the Python images of the last years have.
_PLATFORM = "{}-manylinux_2_28"
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)

Architecture = Literal["x86_64", "aarch64"]


@dataclass(frozen=True)
class Lock:
    """A lock.

    Args:
        text: Requirements with hashes, as pip reads them.
        packages: Version by package.
    """

    text: str
    packages: dict[str, str]


def lock(
    requirements: str, python: str, architectures: Sequence[Architecture], title: str, *, allow_source: bool = False
) -> Lock:
    """Resolve requirements, and return the lock. It contains the hashes of the files of all platforms.

    Args:
        requirements: Content of a requirements.txt.
        python: Minor version of Python, such as 3.11.
        architectures: Processors of the nodes. Their locks must be the same.
        title: First line of the lock, a comment.
        allow_source: Accept packages that have no wheel.

    Raises:
        InputError: The requirements cannot be met, or the locks of two architectures differ.
        TrainingError: The package index is unreachable.
    """
    found = {each: _resolved(requirements, python, each, allow_source=allow_source) for each in architectures}
    first, *others = (Lock(f"# {title}\n{text}", dict(_PINNED.findall(text))) for text in found.values())
    for name, other in zip(architectures[1:], others, strict=True):
        if other.text != first.text:
            differing = sorted({n for n, _ in first.packages.items() ^ other.packages.items()})
            raise InputError(
                f"--architectures (TRAINING_ARCHITECTURES): {architectures[0]} and {name} need different packages "
                f"({', '.join(differing[:10])}): write a lock for each."
            )
    return first


def _resolved(requirements: str, python: str, architecture: Architecture, *, allow_source: bool) -> str:
    with tempfile.TemporaryDirectory() as folder:
        (listed := Path(folder, "requirements.in")).write_text(requirements, encoding="utf-8")
        platform = _PLATFORM.format(architecture)
        options = ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        return uv.run(
            ["pip", "compile", listed, *options, "--python-version", python, "--python-platform", platform],
            allow_source=allow_source,
        )
