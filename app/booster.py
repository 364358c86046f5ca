"""Read an XGBoost model from its file and predict with XGBoost's own library.

By its C interface: the Python package around it imports scipy, which costs every pod 140 MB of image, 40 MB of memory
and most of its start, and takes twice the time of the prediction itself for one row. The numbers are the package's
own, bit for bit.

Source: https://xgboost.readthedocs.io/en/release_3.4.0/c.html
"""

import ctypes
import importlib.util
import json
import logging
import math
import weakref
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import ubjson

Matrix = NDArray[np.float32]
Category = str | int

CATEGORICAL = "c"  # XGBoost's name for the type of a categorical feature
_TREES = ("gbtree", "dart")
# What a file holds besides what is read here; most of its bytes are in the trees.
_UNREAD = frozenset({"trees", "tree_info", "iteration_indptr", "weight_drop", "sorted_idx"})

_FLOATS = ctypes.POINTER(ctypes.c_float)
_SIZES = ctypes.POINTER(ctypes.c_uint64)

log = logging.getLogger(__name__)


class BoosterError(Exception):
    """XGBoost refused or failed; the text is its own first line."""


@dataclass(frozen=True)
class Feature:
    """One input of a booster, by XGBoost's words; what the file does not say is empty."""

    name: str
    type: str
    categories: tuple[Category, ...]


class Booster:
    """A trained ensemble of trees.

    Args:
        content: the bytes of a UBJSON file.
        best_only: predict with the trees up to the best iteration alone, as XGBoost's scikit-learn classes do after
            early stopping; else with all, as `xgboost.Booster` does.

    Raises:
        ValueError: it is no whole UBJSON, or no XGBoost model.
        BoosterError: XGBoost cannot read it.
    """

    def __init__(self, content: bytes, *, best_only: bool = False) -> None:
        try:
            learner = ubjson.read(content, _UNREAD)["learner"]
            gradient_booster = learner["gradient_booster"]
            if (kind := gradient_booster["name"]) not in _TREES:
                raise BoosterError(f"its booster is {kind}, and only {' and '.join(_TREES)} are served")
            model = gradient_booster.get("gbtree", gradient_booster)["model"]
            parameters = learner["learner_model_param"]
            self.objective: str = learner["objective"]["name"]
            self.class_count = int(parameters["num_class"])
            self.features = _features(learner, model.get("cats") or {}, int(parameters["num_feature"]))
            best: str = learner["attributes"].get("best_iteration", "") if best_only else ""
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"it is no XGBoost model ({type(error).__name__})") from None
        self._predict = _library().XGBoosterPredictFromDense
        self._handle = ctypes.c_void_p()
        _call("XGBoosterCreate", None, 0, ctypes.byref(self._handle))
        # Not at exit: a thread may still predict then, and the memory goes anyway.
        weakref.finalize(self, _call, "XGBoosterFree", self._handle).atexit = False
        _call("XGBoosterSetParam", self._handle, b"nthread", b"1")  # one row does not share; more pods do
        _call("XGBoosterLoadModelFromBuffer", self._handle, content, len(content))
        arguments = {
            "training": False,
            "iteration_begin": 0,
            "iteration_end": int(best) + 1 if best.isdecimal() else 0,
            "missing": math.nan,
            "strict_shape": True,
            "cache_id": 0,
        }
        self._value, self._margin, self._contributions = (
            json.dumps(arguments | {"type": kind}).encode() for kind in (0, 1, 2)
        )

    def use_threads(self, count: int) -> None:
        """Predict with this many threads from now on, for many rows at once; not while another thread predicts."""
        _call("XGBoosterSetParam", self._handle, b"nthread", str(count).encode())

    def predict(self, rows: Matrix) -> Matrix:
        """Return what the objective answers, shape (rows, outputs). Safe in several threads at once.

        Args:
            rows: shape (rows, features), NaN is missing, a category is its number.

        Raises:
            BoosterError: XGBoost failed.
        """
        return self._outputs(rows, self._value)

    def margins(self, rows: Matrix) -> Matrix:
        """Return what the trees add up to, before the objective makes it an answer; else as `predict`."""
        return self._outputs(rows, self._margin)

    def contributions(self, rows: Matrix) -> NDArray[np.float32]:
        """Return what each feature adds to each margin, shape (rows, margins, features + 1); the last: the base value.

        Takes 30 to 90 times as long a row as `predict`, without the GIL. Args and errors as there.
        """
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        matrix = ctypes.c_void_p()
        _call("XGDMatrixCreateFromDense", _array(rows), b'{"missing": NaN, "nthread": 1}', ctypes.byref(matrix))
        try:
            shape, dimensions, values = _SIZES(), ctypes.c_uint64(), _FLOATS()
            results = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(values)
            _call("XGBoosterPredictFromDMatrix", self._handle, matrix, self._contributions, *results)
            return _copied(values, tuple(shape[: dimensions.value]))
        finally:
            _call("XGDMatrixFree", matrix)

    def _outputs(self, rows: Matrix, arguments: bytes) -> Matrix:
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        shape, dimensions, values = _SIZES(), ctypes.c_uint64(), _FLOATS()
        results = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(values)
        if self._predict(self._handle, _array(rows), arguments, None, *results):
            raise BoosterError(_complaint())
        return _copied(values, (shape[0], shape[1]))


def version() -> str:
    """Return the version of the library."""
    parts = [ctypes.c_int() for _ in range(3)]
    _library().XGBoostVersion(*map(ctypes.byref, parts))
    return ".".join(str(part.value) for part in parts)


def _array(rows: Matrix) -> bytes:
    """Describe contiguous rows by NumPy's array interface, in JSON. They must live as long as it is used."""
    address, (height, width) = rows.__array_interface__["data"][0], rows.shape
    return b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}' % (address, height, width)


def _copied(values: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the library's numbers as our own: they are this thread's until its next call."""
    return np.frombuffer(ctypes.string_at(values, math.prod(shape) * 4), dtype=np.float32).reshape(shape)


def _features(learner: dict[str, Any], categories: dict[str, Any], width: int) -> tuple[Feature, ...]:
    names = learner["feature_names"] or [""] * width
    types = learner["feature_types"] or [""] * width
    encodings = [_categories(each) for each in categories.get("enc") or []] or [()] * width
    return tuple(Feature(*each) for each in zip(names, types, encodings, strict=True))


def _categories(encoding: dict[str, list[int]]) -> tuple[Category, ...]:
    """Return a feature's categories in the order of their numbers: integers, or strings as Arrow keeps them."""
    if "offsets" not in encoding:
        return tuple(encoding["values"])
    text, ends = bytes(value & 0xFF for value in encoding["values"]), encoding["offsets"]
    return tuple(text[start:end].decode() for start, end in pairwise(ends))


@cache
def _library() -> ctypes.CDLL:
    """Load the library from its package, which is not imported."""
    package = importlib.util.find_spec("xgboost")
    if package is None or package.origin is None:
        raise ImportError("the package xgboost or xgboost-cpu is not installed")
    library = ctypes.CDLL(str(Path(package.origin).parent / "lib" / "libxgboost.so"))
    library.XGBGetLastError.restype = ctypes.c_char_p
    library.XGBoosterLoadModelFromBuffer.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64)
    library.XGBoosterPredictFromDense.argtypes = (
        *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p),
        *(ctypes.POINTER(_SIZES), _SIZES, ctypes.POINTER(_FLOATS)),
    )
    library.XGBRegisterLogCallback(_LOG)
    return library


def _log(message: bytes) -> None:
    """Take what XGBoost would write to standard error."""
    log.warning(message.decode("utf-8", "replace").strip())


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_log)  # kept: the library calls it as long as it lives


def _call(function: str, *arguments: Any) -> None:
    if getattr(_library(), function)(*arguments):
        raise BoosterError(_complaint())


def _complaint() -> str:
    """Return the reason of the last failure in this thread, without the C++ stack that XGBoost appends."""
    text: bytes = _library().XGBGetLastError()
    return text.decode("utf-8", "replace").strip().partition("\n")[0]
