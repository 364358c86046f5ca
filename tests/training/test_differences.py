"""What a repetition shows, from what differs and from the predictions."""

import numpy as np
import pytest

from training.differences import Change, Difference, change, differing, judge

DATA = Difference("data", "sha256", "a", "b")
MACHINE = Difference("environment", "xgboost-cpu", "3.4.1", "3.3.0")


@pytest.mark.parametrize(
    ("same_bytes", "differences", "changed", "outcome", "sentence"),
    [
        (True, (), 0, "identical", "the same bytes"),
        (True, (MACHINE,), 0, "identical", "the same bytes, with differences in the environment"),
        (
            False,
            (MACHINE,),
            0,
            "same predictions",
            "other bytes, but all 9 predictions are the same; there are differences in the e",
        ),
        (
            False,
            (MACHINE,),
            2,
            "differs",
            "2 of 9 predictions differ, by up to 0.25, because of the environment: reprod",
        ),
        (False, (DATA, DATA, MACHINE), 2, "differs", "because of the data and environment: reproduce from the data as"),
        (False, (), 2, "unexplained", "2 of 9 predictions differ, by up to 0.25, and nothing that was recorded does"),
    ],
)
def test_outcome(
    same_bytes: bool, differences: tuple[Difference, ...], changed: int, outcome: str, sentence: str
) -> None:
    found = judge(same_bytes=same_bytes, differences=differences, predictions=Change(9, changed, 0.25))

    assert found.outcome == outcome
    assert sentence in found.sentence


def test_what_is_known_on_one_side_alone_differs_too() -> None:
    found = list(differing("environment", {"python": "3.13.1", "image": "x"}, {"python": "3.13.2", "libc": "y"}))

    assert [(each.name, each.recorded, each.here) for each in found] == [
        *(("image", "x", ""), ("libc", "", "y"), ("python", "3.13.1", "3.13.2")),
    ]


def test_predictions_of_one_and_of_several_numbers() -> None:
    one, several = np.array([0.5, 0.25]), np.array([[0.5, 0.5], [0.25, 0.75]])

    assert change(one, one) == Change(2, 0, 0)
    assert change(one, np.array([0.5, 0.75])) == Change(2, 1, 0.5)
    assert change(several, several[::-1]) == Change(2, 2, 0.25)
    assert change(one, several) == Change(2, 2, None)
