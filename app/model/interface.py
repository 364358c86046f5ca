"""Differences between two models that break the clients of the first.

The rule: the candidate accepts every request that is valid for the champion, and its responses contain nothing that the
champion's clients do not know. The champion is the model that is served until now.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from app.model.base import Model
from app.model.contract import Contract
from app.model.output import Output


class Input(Protocol):
    """One input column, of a contract or of a loaded model."""

    @property
    def name(self) -> str:
        """Name of the column."""

    @property
    def type(self) -> str:
        """MLflow's name of the type."""

    @property
    def required(self) -> bool:
        """Whether the column must be present."""

    @property
    def categories(self) -> tuple[str | int, ...]:
        """Categories, in the order of the booster's codes."""


# Types that accept every value of a type.
_WIDER = {
    "integer": {"integer", "long", "float", "double"},
    "long": {"long", "float", "double"},
    "float": {"float", "double"},
    "double": {"double", "float"},  # XGBoost converts both to float32
}


def differences(champion: Contract, candidate: Contract) -> Iterator[str]:
    """Yield the differences between two contracts that break clients of the champion."""
    yield from _output_differences(champion.task, champion.classes, candidate.task, candidate.classes)
    if candidate.unknown_category == "error" != champion.unknown_category:
        yield "it refuses unknown categories, which the champion takes as missing values"
    lenient = {column.name for column in candidate.columns if candidate.unknown_category == "missing"}
    yield from _columns_differences(champion.columns, candidate.columns, lenient)


def model_differences(champion: Model, candidate: Model) -> Iterator[str]:
    """Yield the differences between two loaded models that break clients of the champion."""
    old, new = champion.output, candidate.output
    yield from _output_differences(old.task, old.classes, new.task, new.classes)
    if old.task == new.task and _form(old) != _form(new):
        yield f"it predicts {new.width} values per row as {new.form}, the champion predicts {old.width} as {old.form}"
    known = {column.name: column for column in champion.signature.columns}
    for column in candidate.signature.columns:
        if (before := known.get(column.name)) is None:
            continue
        if before.nullable and not column.nullable and column.required <= before.required:
            yield f"its column {column.name} does not accept null"
        if column.unknown == "error" != before.unknown and column.categories:
            yield f"its column {column.name} refuses unknown categories, which the champion takes as missing values"
        if column.dtype not in ("", before.dtype) and column.type == before.type:
            yield f"its column {column.name} has the type {column.dtype}, the champion's has the type {before.dtype}"
    lenient = {column.name for column in candidate.signature.columns if column.unknown == "missing"}
    columns = candidate.signature.columns
    if candidate.flavor == "pyfunc":  # its signature lists no categories, because it accepts any value of the type
        categories = {name: column.categories for name, column in known.items()}
        columns = tuple(replace(column, categories=categories.get(column.name, ())) for column in columns)
    yield from _columns_differences(champion.signature.columns, columns, lenient)


def _form(output: Output) -> tuple[str, int]:
    """Return the form of the JSON value and, if it has one, its number of values."""
    return output.form, output.width if output.form in ("numbers", "record") else 1


def _output_differences(
    old_task: str, old_classes: tuple[str, ...], new_task: str, new_classes: tuple[str, ...]
) -> Iterator[str]:
    if old_task != new_task:
        yield f"its task is {new_task}, the champion's is {old_task}"
    elif set(old_classes) != set(new_classes):
        yield f"its classes are {_listed(new_classes)}, the champion's are {_listed(old_classes)}"


def _columns_differences(old: Sequence[Input], candidates: Sequence[Input], lenient: Container[str]) -> Iterator[str]:
    """Yield the differences of the columns. `lenient`: Those that take unknown categories as missing values."""
    known = {column.name: column for column in old}
    new = {column.name: column for column in candidates}
    for name, column in known.items():
        if name not in new:
            yield f"it does not accept the column {name}"
        else:
            yield from _column_differences(column, new[name], refuses=name not in lenient)
    yield from (
        f"it requires the column {n}, which clients do not send" for n in new if n not in known and new[n].required
    )


def _column_differences(old: Input, new: Input, *, refuses: bool) -> Iterator[str]:
    """Yield the differences of a column. `refuses`: Whether the candidate refuses unknown categories."""
    if new.type not in _WIDER.get(old.type, {old.type}):
        yield f"its column {old.name} has the type {new.type}, the champion's has the type {old.type}"
    if new.required and not old.required:
        yield f"its column {old.name} is required"
    accepts_any = not old.categories and not refuses and old.type == new.type
    if bool(old.categories) != bool(new.categories) and not accepts_any:
        has = "has categories" if new.categories else "has no categories"
        yield f"its column {old.name} {has}, unlike the champion's"
    elif refuses and (unknown := [each for each in old.categories if each not in new.categories]):
        yield f"its column {old.name} does not know {_listed(unknown)}"


def _listed(values: Sequence[str | int]) -> str:
    return ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")
