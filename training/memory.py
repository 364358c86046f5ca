"""Errors for lack of memory, which Python, NumPy, Arrow and XGBoost report in different ways."""

from collections.abc import Iterator
from contextlib import contextmanager

from training.errors import ResourceError

_XGBOOST = "bad_alloc"  # XGBoost passes on the name of the exception of C++


def is_lack_of_memory(error: Exception) -> bool:
    """Return whether an allocation failed."""
    return isinstance(error, MemoryError) or _XGBOOST in str(error)


def lack_of_memory(error: Exception) -> ResourceError:
    """Return the error of a command whose allocation failed."""
    return ResourceError(
        f"There is not enough memory ({' '.join(str(error).split())[:200] or 'no details'}): raise the memory limit, "
        "or use fewer rows or columns."
    )


@contextmanager
def enough_memory() -> Iterator[None]:
    """Translate the error of a failed allocation, after which a retry with the same memory fails again.

    Raises:
        ResourceError: There is not enough memory.
    """
    try:
        yield
    except (MemoryError, ValueError) as error:  # XGBoost's errors are ValueErrors
        if not is_lack_of_memory(error):
            raise
        raise lack_of_memory(error) from None
