"""Differences between two contracts that break the clients of a model.

The rule: the candidate accepts every request that is valid for the champion, and its responses contain nothing that the
champion's clients do not know.
"""

from collections.abc import Iterator, Sequence

from app.model.contract import Contract, ContractColumn

# Types that accept every value of a type.
_WIDER = {
    "integer": {"integer", "long", "float", "double"},
    "long": {"long", "float", "double"},
    "float": {"float", "double"},
    "double": {"double", "float"},  # XGBoost converts both to float32
}


def differences(champion: Contract, candidate: Contract) -> Iterator[str]:
    """Yield the differences that break clients of the champion."""
    if champion.task != candidate.task:
        yield f"its task is {candidate.task}, the champion's is {champion.task}"
    elif set(champion.classes) != set(candidate.classes):
        yield f"its classes are {_listed(candidate.classes)}, the champion's are {_listed(champion.classes)}"
    if candidate.unknown_category == "error" != champion.unknown_category:
        yield "it refuses unknown categories, which the champion takes as missing values"
    known = {column.name: column for column in champion.columns}
    new = {column.name: column for column in candidate.columns}
    for name, column in known.items():
        if name not in new:
            yield f"it does not accept the column {name}"
        else:
            yield from _column_differences(column, new[name], refuses=candidate.unknown_category == "error")
    yield from (
        f"it requires the column {n}, which clients do not send" for n in new if n not in known and new[n].required
    )


def _column_differences(old: ContractColumn, new: ContractColumn, *, refuses: bool) -> Iterator[str]:
    """Yield the differences of a column. `refuses`: Whether the candidate refuses unknown categories."""
    if new.type not in _WIDER.get(old.type, {old.type}):
        yield f"its column {old.name} has the type {new.type}, the champion's has the type {old.type}"
    if new.required and not old.required:
        yield f"its column {old.name} is required"
    if bool(old.categories) != bool(new.categories):
        has = "has categories" if new.categories else "has no categories"
        yield f"its column {old.name} {has}, unlike the champion's"
    elif refuses and (unknown := [each for each in old.categories if each not in new.categories]):
        yield f"its column {old.name} does not know {_listed(unknown)}"


def _listed(values: Sequence[str | int]) -> str:
    return ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")
