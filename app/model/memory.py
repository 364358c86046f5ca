"""Memory that a model needs, compared with the limit of the container before the model is read."""

from pathlib import Path

from app.errors import LoadError

# Peak memory while a model loads, in multiples of its file, by the file's suffix.
FACTORS = {".json": 13.0}
FACTOR = 3.7

CGROUP = Path("/sys/fs/cgroup")
_MIB = 2**20
_HEADROOM = 1.2  # in the advised limit, for requests
_UNLIMITED = 2**60  # cgroup v1 reports nearly 2**63 for no limit


def limit() -> int | None:
    """Return the memory limit of this container, in bytes, or None if it has none."""
    for path in (CGROUP / "memory.max", CGROUP / "memory" / "memory.limit_in_bytes"):  # version 2, version 1
        try:
            found = int(path.read_text())
        except (OSError, ValueError):  # ValueError: "max"
            continue
        return found if found < _UNLIMITED else None
    return None


def require(file: Path) -> None:
    """Check that a model file can be loaded within the container's limit.

    Raises:
        LoadError: The model needs more memory. The error names the value to set.
    """
    require_beside(file, 0)


def require_beside(file: Path, others: int) -> int:
    """Check that a model file can be loaded within the limit while another process of the container uses memory.

    Args:
        file: File of the model.
        others: Memory of the other process, in bytes.

    Returns:
        Memory that the container has left for loading the model, in bytes; 0: it has no limit.

    Raises:
        LoadError: The model needs more memory. The error names the value to set.
    """
    if (most := limit()) is None:
        return 0
    try:
        size = file.stat().st_size
    except OSError:  # reading the file gives the reason
        size = 0
    used = _resident() + others
    peak = used + size * FACTORS.get(file.suffix, FACTOR)
    if size and peak > most:
        advised = -(-int(peak * _HEADROOM) // (64 * _MIB)) * 64
        raise LoadError(
            f"{file.name} has {size / _MIB:.0f} MiB, and to load it the process needs about {peak / _MIB:.0f} MiB of "
            f"memory, but the container's limit is {most / _MIB:.0f} MiB",
            f"set resources.limits.memory to {advised}Mi or more",
        )
    return max(most - used, 1)


def _resident() -> int:
    """Return the memory of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
