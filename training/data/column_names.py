"""Names of columns: checks, and lists of names for messages."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from training.errors import InputError

LISTED = 20
_WILDCARDS = re.compile(r"[*?\[]")
_INDEX = re.compile(r"__index_level_\d+__")  # an index without a name, as pandas writes it to Parquet
_SAVED_INDEX = "Unnamed: 0"  # an index without a name, as pandas reads it from CSV


def check_names(names: Sequence[str], uri: str) -> None:
    """Refuse columns without a unique name.

    Raises:
        InputError: The message names the columns by their numbers, counted from 1.
    """
    for i, name in enumerate(names):
        if not name:
            raise InputError(f"Column {i + 1} of {uri} has no name.")
        if name in names[:i]:
            raise InputError(f"Columns {names.index(name) + 1} and {i + 1} of {uri} are both called {name}.")
        if name[0].isspace() or name[-1].isspace():
            raise InputError(f"Column {name!r} of {uri} has a name with leading or trailing blanks; remove them.")


def check_present(known: Sequence[str], names: Iterable[str], option: str) -> None:
    """Refuse names of columns that do not exist.

    Raises:
        InputError: The message names the option.
    """
    for name in names:
        if name not in known:
            raise InputError(f"{option}: column {name} does not exist; the columns are {listed(known)}.")


def matching(known: Sequence[str], patterns: Iterable[str], option: str) -> tuple[str, ...]:
    """Return the columns that are named or that match a pattern such as `tmp_*`.

    Raises:
        InputError: A column does not exist, or nothing matches a pattern. The message names the option.
    """
    found: list[str] = []
    for pattern in patterns:
        if pattern in known or not _WILDCARDS.search(pattern):
            check_present(known, [pattern], option)
            found.append(pattern)
        elif names := [name for name in known if fnmatchcase(name, pattern)]:
            found += names
        else:
            raise InputError(f"{option}: no column matches {pattern}; the columns are {listed(known)}.")
    return tuple(dict.fromkeys(found))


def index_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that contain the index of a pandas data frame, which is not a feature."""
    first = names[:1] if names[:1] == [_SAVED_INDEX] else []
    return (*first, *(name for name in names if _INDEX.fullmatch(name)))


def listed(names: Sequence[str]) -> str:
    """Return the names for a sentence, shortened if there are many."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
