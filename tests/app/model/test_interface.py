"""Differences between contracts that break clients, and those that do not."""

from typing import Any

import pytest

from app.model.contract import Contract, ContractColumn
from app.model.interface import differences

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
        changed(COLOUR, categories=("red",)).model_copy(update={"unknown_category": "missing"}),
        changed(COLOUR, categories=("green", "blue", "red")),
        CHURN.model_copy(update={"columns": (AGE, COLOUR, ContractColumn(name="new", required=False))}),
    ],
)
def test_compatible_candidate_has_no_differences(candidate: Contract) -> None:
    assert list(differences(CHURN, candidate)) == []


@pytest.mark.parametrize(
    ("candidate", "problem"),
    [
        (
            Contract(task="regression", target="left", columns=(AGE, COLOUR)),
            "its task is regression, the champion's is binary",
        ),
        (
            CHURN.model_copy(update={"classes": ("stays", "gone")}),
            "its classes are stays, gone, the champion's are stays",
        ),
        (CHURN.model_copy(update={"columns": (AGE,)}), "it does not accept the column colour"),
        (CHURN.model_copy(update={"columns": (AGE, COLOUR, ContractColumn(name="new"))}), "it requires the column new"),
        (changed(AGE, type="integer"), "its column age has the type integer, the champion's has the type long"),
        (changed(AGE, type="string"), "its column age has the type string, the champion's has the type long"),
        (changed(COLOUR, required=True), "its column colour is required"),
        (changed(COLOUR, categories=("red",)), "its column colour does not know blue"),
        (changed(COLOUR, categories=()), "its column colour has no categories, unlike the champion's"),
    ],
)
def test_breaking_difference_is_described(candidate: Contract, problem: str) -> None:
    found = list(differences(CHURN, candidate))

    assert len(found) == 1
    assert found[0].startswith(problem)
