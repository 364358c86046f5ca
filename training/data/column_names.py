"""Names of columns: checks, and lists of names for messages."""

from collections.abc import Iterable, Sequence

from training.errors import InputError

LISTED = 20


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


def listed(names: Sequence[str]) -> str:
    """Return the names for a sentence, shortened if there are many."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
