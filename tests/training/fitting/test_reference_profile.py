"""The reference profile: shares, bins at quantiles, and unusual distributions."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.model.contract import MOST_BINS, Contract, Variable
from training.fitting.reference_profile import Feature, predictions_of, profile_of, score_edges_of

GREATEST = float(np.finfo(np.float32).max)


def feature(values: list[float], *categories: str) -> Variable:
    rows = np.array(values, dtype=np.float32)[:, None]
    return profile_of([Feature("x", categories)], rows.T, {"x": 2.0}, ()).features[0]


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(width=32)))
@example(np.array([-np.inf, -GREATEST, 0, GREATEST, np.inf, np.nan], dtype=np.float32))
def test_shares_of_any_column_match_its_values(values: np.ndarray) -> None:
    found = feature(values.tolist())
    assert len(found.shares) == len(found.edges) + 1 <= MOST_BINS
    known = np.clip(values[~np.isnan(values)], -GREATEST, GREATEST)
    edges = np.array(found.edges, dtype=np.float32)
    bounds = pairwise([-np.inf, *edges, np.inf])
    counted = [((known > low) & (known <= high)).sum() for low, high in bounds]
    assert np.allclose(np.array(counted) / len(values), found.shares)
    assert found.missing == pytest.approx(np.isnan(values).mean())
    assert (found.minimum, found.maximum) == ((known.min(), known.max()) if len(known) else (None, None))


def test_outlier_does_not_move_the_bins() -> None:
    values = np.sort(np.random.default_rng(1).normal(size=1000)).tolist()
    assert feature(values).edges == feature([*values[:-1], 1e30]).edges
    assert feature(values).shares == (0.1,) * 10


def test_edges_equal_the_quantiles_of_numpy() -> None:
    values = np.random.default_rng(5).normal(size=997).astype(np.float32)
    quantiles = np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf")
    assert feature(values.tolist()).edges == tuple(quantiles.tolist())


def test_infinite_prediction_becomes_the_greatest_number() -> None:
    (found,) = predictions_of("regression", (), np.array([-np.inf, -3, 2, np.inf], dtype=np.float32))
    assert (found.minimum, found.maximum, found.missing) == (-GREATEST, GREATEST, 0)
    assert found.shares == (0.25,) * 4


def test_few_distinct_values_have_a_bin_each() -> None:
    found = feature([0.0] * 30 + [1.0] * 60 + [2.0] * 10)
    assert (found.edges, found.shares) == ((0.0, 1.0), (0.3, 0.6, 0.1))


def test_constant_has_a_bin_below_and_above() -> None:
    found = feature([3.0] * 10)
    assert found.shares == (0.0, 1.0, 0.0)
    assert found.edges[0] < 3.0 == found.edges[1]


def test_rare_categories_share_a_bin() -> None:
    names = [f"c{i}" for i in range(12)]
    found = feature([0.0] * 3 + [float(i) for i in range(12)] * 2 + [float("nan")], *names)
    assert found.categories == tuple(names[:10])
    assert found.shares[0] == pytest.approx(5 / 28)
    assert [found.other, found.missing] == pytest.approx([4 / 28, 1 / 28])


def test_importance_is_a_share_and_zero_without_a_split() -> None:
    rows = np.zeros((2, 3), dtype=np.float32)
    found = profile_of([Feature(name) for name in "abc"], rows.T, {"a": 30.0, "b": 10.0}, ()).features
    assert [each.importance for each in found] == [0.75, 0.25, 0.0]


def test_binary_score_has_its_calibration() -> None:
    score = (np.arange(100) // 10 / 10).astype(np.float32)
    truth = (np.arange(100) % 10 < 3).astype(np.float32)
    (found,) = predictions_of("binary", ("no", "yes"), score, truth)
    assert found.name == "score"
    assert found.positive == pytest.approx((0.3,) * 10)


@pytest.mark.parametrize("only", [0, 1])
def test_reference_of_a_single_class_has_a_calibration_and_outer_bins(only: int) -> None:
    scores, truth = np.full(20, 0.2 + only / 2, dtype=np.float32), np.full(20, only, dtype=np.float32)
    (found,) = predictions_of("binary", ("no", "yes"), scores, truth)
    assert (found.shares, found.positive) == ((0.0, 1.0, 0.0), (0.0, float(only), 0.0))
    assert score_edges_of(scores) == ()


@pytest.mark.parametrize(
    ("output", "shares"),
    [
        (np.eye(3, dtype=np.float32)[[0, 1, 1, 2]], (0.25, 0.5, 0.25)),
        (np.array([0, 1, 1, 2], dtype=np.float32), (0.25, 0.5, 0.25)),  # labels without probabilities
        (np.eye(3, dtype=np.float32)[[1, 1]], (0.0, 1.0, 0.0)),  # a reference of one class
    ],
)
def test_classes_are_categories(output: np.ndarray, shares: tuple[float, ...]) -> None:
    (found,) = predictions_of("multiclass", ("a", "b", "c"), output)
    assert (found.name, found.categories, found.shares) == ("label", ("a", "b", "c"), shares)


def test_each_output_is_a_variable() -> None:
    found = predictions_of("regression", (), np.array([[-1, 5], [-2, 6]], dtype=np.float32))
    assert [(each.name, each.minimum) for each in found] == [("value_0", -2.0), ("value_1", 5.0)]


def test_profile_survives_serialisation() -> None:
    rows = np.random.default_rng(2).normal(size=(50, 2)).astype(np.float32)
    predictions = predictions_of("regression", (), rows[:, 0])
    profile = profile_of([Feature("a"), Feature("b")], rows.T, {"a": 1.0}, predictions)
    contract = Contract(task="regression", target="y", profile=profile)
    assert Contract.model_validate_json(contract.model_dump_json()) == contract


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"shares": (0.5, 0.4)}, "sum to 0.9"),
        ({"shares": (1.0,)}, "has 2 bins, but a different number"),
        ({"edges": (2.0, 1.0), "shares": (0.5, 0.25, 0.25)}, "must be in ascending order"),
        ({"categories": ("a", "b")}, "edges and categories"),
        ({"edges": (float("inf"),)}, "finite number"),
    ],
)
def test_invalid_profile_is_refused(change: dict[str, object], problem: str) -> None:
    right = {"name": "x", "edges": (1.0,), "shares": (0.5, 0.5), "samples": 10}
    assert Variable.model_validate(right).shares == (0.5, 0.5)
    with pytest.raises(ValueError, match=problem):
        Variable.model_validate(right | change)
