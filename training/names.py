"""Check the names of a table's columns, and name columns in a sentence."""

from collections.abc import Iterable, Sequence

from training.errors import InputError

LISTED = 20


def named(names: Sequence[str], uri: str) -> None:
    """Refuse columns that have no name of their own.

    Raises:
        InputError: names the columns by their numbers, from 1.
    """
    for i, name in enumerate(names):
        if not name:
            raise InputError(f"Column {i + 1} of {uri} has no name.")
        if name in names[:i]:
            raise InputError(f"Columns {names.index(name) + 1} and {i + 1} of {uri} are both called {name}.")
        if name[0].isspace() or name[-1].isspace():
            raise InputError(f"Column {name!r} of {uri} has a name with blanks around it; take them away.")


def present(known: Sequence[str], names: Iterable[str], option: str) -> None:
    """Refuse a column that is not there.

    Raises:
        InputError: names the option.
    """
    for name in names:
        if name not in known:
            raise InputError(f"{option}: there is no column {name}; there are {listed(known)}.")


def listed(names: Sequence[str]) -> str:
    """The names, the first ones of many."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
