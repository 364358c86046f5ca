"""The check of a model file's structure, and files that are damaged at random."""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from app.model.booster import Booster
from tests.app.harness import ROOT
from tests.app.kinds import KINDS

DAMAGED = ("binary", "multiclass", "categorical", "dart", "targets in one tree", "linear")
MUTATIONS = 10_200  # in the long test, shared by the kinds and formats


@pytest.fixture(params=[(kind, form) for kind in DAMAGED for form in ("ubj", "json")], ids=" as ".join)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kind, form = request.param
    path = tmp_path / f"model.{form}"
    with warnings.catch_warnings(action="ignore"):
        path.write_bytes(KINDS[kind].train(KINDS[kind].frame).save_raw(form))
    return path


def survive(path: Path, first: int, end: int) -> None:
    """Load and predict damaged files in a separate process, which must not end by a signal."""
    arguments = [sys.executable, "-m", "tests.app.model.mutations", str(path), str(first), str(end)]
    found = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    last = found.stdout.split("\n")[-2:-1]
    assert found.returncode == 0, f"mutation {last} of {path.name}: exit {found.returncode}\n{found.stderr[-2000:]}"
    assert "refused" in found.stdout
    assert "served" in found.stdout  # otherwise nothing was predicted


def test_damaged_file_never_ends_the_process(saved: Path) -> None:
    survive(saved, 0, 60)


@pytest.mark.long
def test_ten_thousand_damaged_files_never_end_the_process(saved: Path) -> None:
    survive(saved, 1000, 1000 + MUTATIONS // (2 * len(DAMAGED)))


def document(kind: str) -> dict[str, Any]:
    with warnings.catch_warnings(action="ignore"):
        model = KINDS[kind].train(KINDS[kind].frame)
    found: dict[str, Any] = json.loads(model.save_raw("json"))
    return found


def set_in_tree(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Return a change of the first value of an array in a tree, or of the whole array."""

    def change(model: dict[str, Any], _: dict[str, Any]) -> None:
        tree = next(each for each in model["trees"] if each[name] or not name.startswith("categories"))
        tree[name] = value if isinstance(value, list) else [value, *tree[name][1:]]

    return change


def set_in(place: str, name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Return a change of one member of the model or of the learner."""

    def change(model: dict[str, Any], learner: dict[str, Any]) -> None:
        part = {"model": model, "learner": learner} | model | learner
        part[place][name] = value

    return change


@pytest.mark.parametrize(
    ("kind", "change", "problem"),
    [
        ("binary", set_in_tree("left_children", 10**6), "tree 0, node 0: no such child"),
        ("binary", set_in_tree("left_children", 0), "tree 0, node 0: no such child"),
        ("binary", set_in_tree("left_children", -2), "tree 0, node 0: no such child"),
        ("binary", set_in_tree("left_children", -1), "tree 0, node 0: a leaf has a child"),
        ("binary", set_in_tree("right_children", 1), "tree 0, node 0: no such child"),
        ("binary", set_in_tree("right_children", 3), "tree 0, node 0: a child has a different parent"),
        ("binary", set_in_tree("split_indices", 3), "tree 0, node 0: no such feature"),
        ("binary", set_in_tree("split_indices", -1), "tree 0, node 0: no such feature"),
        ("binary", set_in_tree("split_indices", 2**31 - 1), "tree 0, node 0: no such feature"),
        ("binary", set_in_tree("split_indices", 0.5), "split_indices does not consist of whole numbers"),
        ("binary", set_in_tree("parents", [0]), "tree 0: parents does not have one value per node"),
        ("binary", set_in_tree("base_weights", []), "tree 0: base_weights does not"),
        ("binary", set_in_tree("loss_changes", [[1]]), "loss_changes does not have one value per node"),
        ("binary", set_in_tree("split_conditions", "x"), "split_conditions does not consist of numbers"),
        ("binary", set_in_tree("split_type", 1), "tree 0: categories_nodes differs from split_type"),
        ("categorical", set_in_tree("categories", [2**31 - 1] * 50), "no such category"),
        ("categorical", set_in_tree("categories", []), "categories_sizes exceeds categories"),
        ("categorical", set_in_tree("categories_sizes", 0), "categories_sizes exceeds categories"),
        ("categorical", set_in_tree("categories_segments", -1), "categories_sizes exceeds categories"),
        ("categorical", set_in_tree("categories_segments", [2**62] * 99), "categories_segments has a wrong length"),
        ("categorical", set_in("cats", "sorted_idx", [99]), "sorted_idx does not fit the categories"),
        ("categorical", set_in("cats", "feature_segments", [0, 9]), "feature_segments does not fit"),
        ("categorical", set_in("cats", "enc", [{"values": [1]}]), "cats does not have one entry per feature"),
        ("multiclass", set_in("model", "tree_info", [3] * 18), "tree_info does not fit the trees and outputs"),
        ("multiclass", set_in("model", "iteration_indptr", [0, 99, 18]), "iteration_indptr does not fit the trees"),
        ("multiclass", set_in("learner_model_param", "num_class", "4"), "different numbers of classes"),
        ("binary", set_in("learner_model_param", "num_class", "2000000000"), "it has fewer trees than outputs"),
        ("binary", set_in("learner_model_param", "num_feature", "4000000000"), "between 1 and 1000000 are supported"),
        ("binary", set_in("learner_model_param", "num_feature", "٣"), "a parameter is not a whole number"),
        ("binary", set_in("gbtree_model_param", "num_parallel_tree", "0"), "num_parallel_tree does not fit"),
        ("binary", set_in("gbtree_model_param", "num_trees", "7"), "it has 6 trees, but num_trees is 7"),
        ("binary", set_in("learner", "feature_names", ["a"]), "feature_names does not have one string per feature"),
        ("dart", set_in("model", "weight_drop", [1.0]), "weight_drop does not have one weight per tree"),
        ("targets in one tree", set_in_tree("leaf_weights", [1.0]), "leaf_weights has a wrong length"),
    ],
)
def test_contradiction_is_named(
    kind: str, change: Callable[[dict[str, Any], dict[str, Any]], None], problem: str
) -> None:
    whole = document(kind)
    change(whole["learner"]["gradient_booster"]["model"], whole["learner"])

    with pytest.raises(ValueError, match=problem):
        Booster(json.dumps(whole).encode())


def test_leaf_of_several_targets_names_existing_values() -> None:
    whole = document("targets in one tree")
    tree = whole["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["right_children"][tree["left_children"].index(-1)] = 99

    with pytest.raises(ValueError, match="a leaf has no values"):
        Booster(json.dumps(whole).encode())


def test_tree_of_several_targets_needs_its_split_types() -> None:
    whole = document("targets in one tree")
    del whole["learner"]["gradient_booster"]["model"]["trees"][0]["split_type"]  # XGBoost would abort

    with pytest.raises(ValueError, match="it is not an XGBoost model"):
        Booster(json.dumps(whole).encode())


def test_tree_that_is_too_deep_is_rejected() -> None:
    whole = document("binary")
    model = whole["learner"]["gradient_booster"]["model"]
    levels = 1000
    nodes = 2 * levels + 1
    inner = np.arange(0, nodes - 1, 2)
    left, right, parents = np.full(nodes, -1), np.full(nodes, -1), np.full(nodes, 2**31 - 1)
    left[inner], right[inner] = inner + 1, inner + 2
    parents[inner + 1] = parents[inner + 2] = inner
    tree = model["trees"][0] | {"tree_param": model["trees"][0]["tree_param"] | {"num_nodes": str(nodes)}}
    tree |= {"left_children": left.tolist(), "right_children": right.tolist(), "parents": parents.tolist()}
    for name in ("split_indices", "split_type", "default_left"):
        tree[name] = [0] * nodes
    for name in ("split_conditions", "loss_changes", "sum_hessian", "base_weights"):
        tree[name] = [0.5] * nodes
    model["trees"][0] = tree

    with pytest.raises(ValueError, match="a tree has more than 1000 levels"):
        Booster(json.dumps(whole).encode())


def test_pruned_nodes_are_accepted() -> None:
    rows = np.random.default_rng(0).random((50, 3), dtype=np.float32)
    matrix = xgb.DMatrix(rows, label=rows[:, 0])
    trained = xgb.train({"tree_method": "exact", "gamma": 0.1, "max_depth": 5, "nthread": 1}, matrix, 3)
    tree = json.loads(trained.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"][0]
    assert int(tree["tree_param"]["num_deleted"]) > 0

    found = Booster(bytes(trained.save_raw("ubj"))).predict(rows)

    assert np.array_equal(found[:, 0], trained.inplace_predict(rows))
