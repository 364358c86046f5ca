"""Which models can take each other's place."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.contract import CONTRACT_FILE, Contract, ContractColumn
from training.interface import differences, read_contract

AGE = ContractColumn(name="age", type="long")
COLOUR = ContractColumn(name="colour", type="string", required=False, categories=("red", "blue"))
CHURN = Contract(task="binary", target="left", classes=("stays", "leaves"), columns=(AGE, COLOUR))


def changed(column: ContractColumn, **changes: Any) -> Contract:
    other = AGE if column is COLOUR else COLOUR
    return CHURN.model_copy(update={"columns": (other, column.model_copy(update=changes))})


@pytest.mark.parametrize(
    "candidate",
    [
        CHURN,
        CHURN.model_copy(update={"columns": (COLOUR, AGE), "classes": ("leaves", "stays")}),
        changed(AGE, type="double"),
        changed(AGE, required=False),
        changed(COLOUR, categories=("green", "blue", "red")),
        CHURN.model_copy(update={"columns": (AGE, COLOUR, ContractColumn(name="new", required=False))}),
    ],
)
def test_callers_do_not_notice(candidate: Contract) -> None:
    assert list(differences(CHURN, candidate)) == []


@pytest.mark.parametrize(
    ("candidate", "problem"),
    [
        (
            Contract(task="regression", target="left", columns=(AGE, COLOUR)),
            "it answers as regression, the champion as",
        ),
        (CHURN.model_copy(update={"classes": ("stays", "gone")}), "its classes are stays, gone, the champion's stays"),
        (CHURN.model_copy(update={"columns": (AGE,)}), "it takes no column colour"),
        (CHURN.model_copy(update={"columns": (AGE, COLOUR, ContractColumn(name="new"))}), "it needs a column new"),
        (changed(AGE, type="integer"), "its column age is of type integer, the champion's of type long"),
        (changed(AGE, type="string"), "its column age is of type string, the champion's of type long"),
        (changed(COLOUR, required=True), "its column colour may not be left out"),
        (changed(COLOUR, categories=("red",)), "its column colour does not know blue"),
        (changed(COLOUR, categories=()), "its column colour has no categories, other than the champion's"),
    ],
)
def test_callers_would_notice(candidate: Contract, problem: str) -> None:
    found = list(differences(CHURN, candidate))

    assert len(found) == 1
    assert found[0].startswith(problem)


def test_columns_come_from_the_signature_when_the_contract_names_none(tmp_path: Path) -> None:
    contract = CHURN.model_copy(update={"columns": ()})
    (tmp_path / CONTRACT_FILE).write_text(contract.model_dump_json())
    inputs = [{"type": "long", "name": "age", "required": True}]
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"signature": {"inputs": json.dumps(inputs)}}))

    assert read_contract(tmp_path).columns == (AGE,)

    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": {}}))
    with pytest.raises(ValueError, match="no signature with names of columns"):
        read_contract(tmp_path)
