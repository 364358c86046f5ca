"""The outcome of a repetition, by its differences and predictions."""

import numpy as np
import pytest

from training.reproduction.differences import Change, Difference, change, differing, judge

DATA = Difference("data", "sha256", "a", "b")
MACHINE = Difference("environment", "xgboost-cpu", "3.4.1", "3.3.0")


@pytest.mark.parametrize(
    ("same_bytes", "differences", "changed", "outcome", "sentence"),
    [
        (True, (), 0, "identical", "the model files are identical"),
        (True, (MACHINE,), 0, "identical", "the model files are identical, with differences in the environment"),
        (
            False,
            (MACHINE,),
            0,
            "same predictions",
            "the model files differ, but all 9 predictions are the same, with differences in the e",
        ),
        (
            False,
            (MACHINE,),
            2,
            "differs",
            "2 of 9 predictions differ, by up to 0.25, because of the environment: reprod",
        ),
        (
            False,
            (DATA, DATA, MACHINE),
            2,
            "differs",
            "because of the data and environment: reproduce with the original data",
        ),
        (False, (), 2, "unexplained", "2 of 9 predictions differ, by up to 0.25, but no recorded fact does"),
    ],
)
def test_outcome_depends_on_bytes_differences_and_predictions(
    same_bytes: bool, differences: tuple[Difference, ...], changed: int, outcome: str, sentence: str
) -> None:
    found = judge(same_bytes=same_bytes, differences=differences, predictions=Change(9, changed, 0.25))

    assert found.outcome == outcome
    assert sentence in found.sentence


def test_fact_of_only_one_side_is_a_difference() -> None:
    found = list(differing("environment", {"python": "3.13.1", "image": "x"}, {"python": "3.13.2", "libc": "y"}))

    assert [(each.name, each.recorded, each.here) for each in found] == [
        *(("image", "x", ""), ("libc", "", "y"), ("python", "3.13.1", "3.13.2")),
    ]


def test_change_counts_rows_with_one_and_several_outputs() -> None:
    one, several = np.array([0.5, 0.25]), np.array([[0.5, 0.5], [0.25, 0.75]])

    assert change(one, one) == Change(2, 0, 0)
    assert change(one, np.array([0.5, 0.75])) == Change(2, 1, 0.5)
    assert change(several, several[::-1]) == Change(2, 2, 0.25)
    assert change(one, several) == Change(2, 2, None)
