"""Say whether a model can take another's place without its callers noticing.

The rule: whatever the champion's callers may send, the candidate takes; whatever it answers, they know.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from app.contract import CONTRACT_FILE, Contract, ContractColumn

# A value of the one type is a value of each of these.
_WIDER = {
    "integer": {"integer", "long", "float", "double"},
    "long": {"long", "float", "double"},
    "float": {"float", "double"},
    "double": {"double", "float"},  # XGBoost takes both as float32
}


def read_contract(folder: Path) -> Contract:
    """Return the contract of a model's folder, with the columns of MLflow's signature when it names none.

    Raises:
        OSError: there is none.
        ValueError: it is none, or nothing names the columns.
    """
    contract = Contract.model_validate_json((folder / CONTRACT_FILE).read_bytes())
    if contract.columns:
        return contract
    signature = yaml.safe_load((folder / "MLmodel").read_bytes()).get("signature") or {}
    columns = [ContractColumn.model_validate(entry) for entry in json.loads(signature.get("inputs") or "[]")]
    if not columns:
        raise ValueError("the model has no signature with names of columns")
    return contract.model_copy(update={"columns": tuple(columns)})


def differences(champion: Contract, candidate: Contract) -> Iterator[str]:
    """Yield why callers of the champion would notice the candidate; nothing when they would not."""
    if champion.task != candidate.task:
        yield f"it answers as {candidate.task}, the champion as {champion.task}"
    elif set(champion.classes) != set(candidate.classes):
        yield f"its classes are {_listed(candidate.classes)}, the champion's {_listed(champion.classes)}"
    known = {column.name: column for column in champion.columns}
    new = {column.name: column for column in candidate.columns}
    for name, column in known.items():
        if name not in new:
            yield f"it takes no column {name}"
        else:
            yield from _column_differences(column, new[name])
    yield from (f"it needs a column {n}, which callers do not send" for n in new if n not in known and new[n].required)


def _column_differences(old: ContractColumn, new: ContractColumn) -> Iterator[str]:
    if new.type not in _WIDER.get(old.type, {old.type}):
        yield f"its column {old.name} is of type {new.type}, the champion's of type {old.type}"
    if new.required and not old.required:
        yield f"its column {old.name} may not be left out"
    if bool(old.categories) != bool(new.categories):
        kind = "categories" if new.categories else "no categories"
        yield f"its column {old.name} has {kind}, other than the champion's"
    elif unknown := [each for each in old.categories if each not in new.categories]:
        yield f"its column {old.name} does not know {_listed(unknown)}"


def _listed(values: Sequence[str | int]) -> str:
    return ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")
