"""Check of the whole structure of a model file.

XGBoost follows every index in its file without a check. A damaged or hostile file could therefore end the process with
a signal, or make it answer from memory that does not belong to the model. A model that passes this check has trees
whose nodes, features and categories exist, and arrays with the lengths that XGBoost expects.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

MOST_FEATURES = 1_000_000
MOST_LEVELS = 1_000  # of a tree, because explanations use one stack frame per level
_MOST_CATEGORY = 2**24  # XGBoost's own limit, the largest integer that float32 represents with its successors
_MOST_CATEGORY_BYTES = 2**30  # XGBoost keeps one bit per category in each split
_LEAF = -1
_DELETED = (2**31 - 1, 2**32 - 1)  # split index of a node that pruning removed
_DIGITS = re.compile("[0-9]{1,10}")
_NODE_FIELDS = ("left_children", "right_children", "parents", "split_indices", "default_left")
_NODE_NUMBERS = ("split_conditions", "loss_changes", "sum_hessian")


class VectorLeafError(ValueError):
    """Trees with several targets of XGBoost 2.0 to 3.1. XGBoost 3.4 would end the process by a signal."""

    def __init__(self) -> None:
        super().__init__(
            "has trees with several targets in the form of XGBoost before 3.2, which later ones cannot read"
        )


def check(learner: Mapping[str, Any]) -> None:
    """Check the member `learner` of a model file.

    Raises:
        VectorLeafError: It has trees with several targets in an older form.
        ValueError: A part contradicts another. The message names the tree and the array.
        KeyError, TypeError, IndexError: A part is missing or has a different type.
    """
    parameters = learner["learner_model_param"]
    features = number(parameters["num_feature"])
    classes, targets = number(parameters["num_class"]), number(parameters.get("num_target", "1"))
    groups = max(classes, targets, 1)
    if not 1 <= features <= MOST_FEATURES:
        raise ValueError(f"it has {features} features; between 1 and {MOST_FEATURES} are supported")
    for name in ("feature_names", "feature_types"):
        stated = learner.get(name) or []
        if len(stated) not in (0, features) or not all(isinstance(each, str) for each in stated):
            raise ValueError(f"{name} does not have one string per feature")
    softmax = learner["objective"].get("softmax_multiclass_param")
    if softmax and number(softmax["num_class"]) != classes:
        raise ValueError("the objective and the booster have different numbers of classes")
    booster = learner["gradient_booster"]
    if booster["name"] == "gblinear":
        _require(_reals(booster["model"], "weights").size == (features + 1) * groups, "weights has a wrong length")
        return
    model = booster.get("gbtree", booster)["model"]
    trees = model["trees"]
    _check_forest(model, booster.get("weight_drop", model.get("weight_drop")), groups)
    vector = max((number(tree["tree_param"].get("size_leaf_vector", "0")) for tree in trees), default=0)
    _require(vector in (0, 1, targets), "size_leaf_vector is not the number of targets")
    _require(vector > 1 or groups <= max(len(trees), 1), "it has fewer trees than outputs")
    if vector > 1 and not any("leaf_weights" in tree for tree in trees):
        raise VectorLeafError
    if trees:
        _check_nodes(trees, features, vector)
        _check_categories(trees, vector)
    if cats := model.get("cats"):
        _check_names(cats, features)


def number(text: Any) -> int:
    """Return a parameter, which the file contains as text.

    Raises:
        ValueError: It is not a whole number of at most ten digits.
    """
    if not isinstance(text, str) or not _DIGITS.fullmatch(text):
        raise ValueError("a parameter is not a whole number")
    return int(text)


def _check_forest(model: Mapping[str, Any], weights: Any, groups: int) -> None:
    """Check the arrays with one value per tree or per iteration."""
    trees = model["trees"]
    count = number(model["gbtree_model_param"]["num_trees"])
    parallel = number(model["gbtree_model_param"].get("num_parallel_tree", "1"))
    _require(len(trees) == count, f"it has {len(trees)} trees, but num_trees is {count}")
    _require([tree["id"] for tree in trees] == list(range(count)), "the trees are not numbered from 0")
    groups_of = _ints(model, "tree_info")
    _require(len(groups_of) == count and _within(groups_of, 0, groups), "tree_info does not fit the trees and outputs")
    _require(1 <= parallel <= max(count, 1), "num_parallel_tree does not fit the trees")
    if "iteration_indptr" in model:
        ends = _ints(model, "iteration_indptr")
        rising = len(ends) > 0 and ends[0] == 0 and ends[-1] == count and bool((np.diff(ends) >= 0).all())
        _require(rising, "iteration_indptr does not fit the trees")
    if weights is not None:
        _require(np.asarray(weights).shape == (count,), "weight_drop does not have one weight per tree")


def _check_nodes(trees: Sequence[Mapping[str, Any]], features: int, vector: int) -> None:
    """Check that the nodes of each tree form one tree, and that its splits use existing features."""
    sizes = np.array([number(tree["tree_param"]["num_nodes"]) for tree in trees])
    _require(bool((sizes > 0).all()), "a tree has no nodes")
    for name in (*_NODE_FIELDS, *_NODE_NUMBERS):
        lengths = np.array([len(tree[name]) for tree in trees])
        if (wrong := lengths != sizes).any():
            raise ValueError(f"tree {int(wrong.argmax())}: {name} does not have one value per node")
    left, right, parents, splits, _ = (np.concatenate([_ints(tree, name) for tree in trees]) for name in _NODE_FIELDS)
    for name in _NODE_NUMBERS:
        for tree in trees:
            _reals(tree, name)
    start = np.repeat(np.cumsum(sizes) - sizes, sizes)  # position of each node's root
    size = np.repeat(sizes, sizes)
    place = np.arange(len(left)) - start
    split, root = left != _LEAF, place == 0
    deleted = np.isin(splits, _DELETED) & ~root & ~split

    def require(good: NDArray[np.bool_], what: str) -> None:
        if not good.all():
            first = int(good.argmin())
            tree = int(np.searchsorted(np.cumsum(sizes), first, side="right"))
            raise ValueError(f"tree {tree}, node {int(place[first])}: {what}")

    require(~split | ((left > 0) & (left < size) & (right > 0) & (right < size) & (left != right)), "no such child")
    require(root | ((parents >= 0) & (parents < size)), "no such parent")
    require(~split | ((splits >= 0) & (splits < features)), "no such feature")
    nodes = np.flatnonzero(split)
    for children in (left, right):
        below = start[nodes] + children[nodes]
        good = np.ones_like(split)
        good[nodes] = (parents[below] == place[nodes]) & ~deleted[below]
        require(good, "a child has a different parent")
    _check_leaves(trees, vector, left, right, require)
    reached, level = 0, np.flatnonzero(root)
    for _ in range(MOST_LEVELS):
        reached += len(level)
        level = level[split[level]]
        if not len(level):
            break
        level = np.concatenate([start[level] + left[level], start[level] + right[level]])
    else:
        raise ValueError(f"a tree has more than {MOST_LEVELS} levels")
    _require(reached + int(deleted.sum()) == len(left), "a node does not belong to a tree")


def _check_leaves(trees: Sequence[Mapping[str, Any]], vector: int, left: Ints, right: Ints, require: Any) -> None:
    """Check the values of leaves: one per node, or for several targets a row per leaf, which its right child names."""
    if vector <= 1:
        require((left != _LEAF) | (right == _LEAF), "a leaf has a child")
        for place, tree in enumerate(trees):
            _require(
                _reals(tree, "base_weights").size == len(tree["parents"]),
                f"tree {place}: base_weights does not have one value per node",
            )
        return
    leaves = np.array([int((_ints(tree, "left_children") == _LEAF).sum()) for tree in trees])
    limit = np.repeat(leaves, [len(tree["parents"]) for tree in trees])
    require((left != _LEAF) | ((right >= 0) & (right < limit)), "a leaf has no values")
    for place, tree in enumerate(trees):
        weights, nodes = _reals(tree, "base_weights").size, len(tree["parents"])
        fits = number(tree["tree_param"]["size_leaf_vector"]) == vector
        fits = fits and weights % nodes == 0 and 1 <= weights // nodes <= vector
        fits = fits and _reals(tree, "leaf_weights").size == leaves[place] * vector
        _require(fits, f"tree {place}: base_weights or leaf_weights has a wrong length")


def _check_categories(trees: Sequence[Mapping[str, Any]], vector: int) -> None:
    """Check the categories of categorical splits, which files of XGBoost before 1.3 lack."""
    used = 0
    for place, tree in enumerate(trees):
        if "split_type" not in tree and vector <= 1:
            continue
        types, nodes = _ints(tree, "split_type"), _ints(tree, "categories_nodes")
        categories = _ints(tree, "categories")
        segments, sizes = _ints(tree, "categories_segments"), _ints(tree, "categories_sizes")
        where = f"tree {place}: "
        _require(len(types) == len(tree["parents"]) and _within(types, 0, 2), where + "split_type is wrong")
        _require(np.array_equal(nodes, np.flatnonzero(types)), where + "categories_nodes differs from split_type")
        _require(len(segments) == len(sizes) == len(nodes), where + "categories_segments has a wrong length")
        _require(_within(categories, 0, _MOST_CATEGORY), where + "no such category")
        count = len(categories)
        fits = _within(segments, 0, count) and _within(sizes, 1, count + 1) and _within(segments + sizes, 0, count + 1)
        _require(fits, where + "categories_segments or categories_sizes exceeds categories")
        used += sum(
            int(categories[begin : begin + size].max()) // 8 + 8 for begin, size in zip(segments, sizes, strict=True)
        )
    _require(used <= _MOST_CATEGORY_BYTES, "the categories of its splits need more than 1 GiB")


def _check_names(cats: Mapping[str, Any], features: int) -> None:
    """Check the names of categories, which XGBoost 3.1 and newer write for data frames."""
    counts = []
    for encoding in cats["enc"]:
        values = _ints(encoding, "values")
        if "offsets" not in encoding:
            counts.append(len(values))
            continue
        ends = _ints(encoding, "offsets")
        fits = not len(ends) or (ends[0] == 0 and ends[-1] == len(values) and bool((np.diff(ends) >= 0).all()))
        _require(fits, "the names of its categories are damaged")
        counts.append(max(len(ends) - 1, 0))
    segments, order = _ints(cats, "feature_segments"), _ints(cats, "sorted_idx")
    _require(len(counts) in (0, features), "cats does not have one entry per feature")
    expected = [0, *np.cumsum(counts)] if counts else []
    _require(segments.tolist() in (expected, []), "feature_segments does not fit the categories")
    total = sum(counts)
    _require(len(order) in (0, total) and _within(order, 0, max(total, 1)), "sorted_idx does not fit the categories")


def _ints(part: Mapping[str, Any], name: str) -> Ints:
    """Return an array of whole numbers."""
    found = np.asarray(part[name])
    if found.size and found.dtype.kind not in "iub":
        raise ValueError(f"{name} does not consist of whole numbers")
    _require(found.ndim == 1, f"{name} is not an array")
    return found.astype(np.int64)


def _reals(part: Mapping[str, Any], name: str) -> NDArray[Any]:
    """Return an array of numbers."""
    found = np.asarray(part[name])
    if found.ndim != 1 or found.dtype.kind not in "iuf":
        raise ValueError(f"{name} does not consist of numbers")
    return found


def _within(values: Ints, low: int, end: int) -> bool:
    """Whether all values are at least `low` and less than `end`."""
    return bool(((values >= low) & (values < end)).all())


def _require(good: bool, problem: str) -> None:
    if not good:
        raise ValueError(problem)
