"""XGBoost models, loaded from their file and predicted with the C interface of XGBoost's library.

The Python package around the library imports scipy, which costs every pod 140 MB of image, 40 MB of memory and most of
its startup time. For one row, it also takes twice as long as the prediction itself. The numbers are the same bit for
bit.

Source: https://xgboost.readthedocs.io/en/release_3.4.0/c.html
"""

import ctypes
import importlib.util
import json
import logging
import math
import re
import weakref
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.model import model_file, structure

Matrix = NDArray[np.float32]
Category = str | int

CATEGORICAL = "c"  # XGBoost's name for the type of a categorical feature
LINEAR = "gblinear"
_BOOSTERS = ("gbtree", "dart", LINEAR)

_FLOATS = ctypes.POINTER(ctypes.c_float)
_SIZES = ctypes.POINTER(ctypes.c_uint64)

log = logging.getLogger(__name__)


class BoosterError(Exception):
    """XGBoost failed; the message is the first line of XGBoost's own message."""


@dataclass(frozen=True)
class Feature:
    """One input of a booster, in XGBoost's terms. A field that the file omits is `None` or empty."""

    name: str | None
    type: str
    categories: tuple[Category, ...]


class Booster:
    """A trained ensemble of trees, or a linear model.

    Args:
        content: Content of a model file, in UBJSON or JSON.
        best_only: Whether to predict only with the trees up to the best iteration, like XGBoost's scikit-learn classes
            after early stopping, or with all trees, like `xgboost.Booster`.
        missing: Number that stands for a missing value, as NaN always does.

    Raises:
        ValueError: The content is incomplete or not an XGBoost model.
        BoosterError: XGBoost cannot load the model.
    """

    def __init__(self, content: bytes, *, best_only: bool = False, missing: float = math.nan) -> None:
        content, best = self._read(content, best_only)
        self._predict = _library().XGBoosterPredictFromDense
        self._handle = ctypes.c_void_p()
        _call("XGBoosterCreate", None, 0, ctypes.byref(self._handle))
        # Not freed at exit, because a thread may still be predicting.
        weakref.finalize(self, _call, "XGBoosterFree", self._handle).atexit = False
        _call("XGBoosterSetParam", self._handle, b"nthread", b"1")  # threads do not speed up small requests
        _call("XGBoosterLoadModelFromBuffer", self._handle, content, len(content))
        arguments = {
            "training": False,
            "iteration_begin": 0,
            "iteration_end": best,
            "missing": missing,
            "strict_shape": True,
            "cache_id": 0,
        }
        self._matrix = json.dumps({"missing": missing, "nthread": 1}).encode()
        self._value, self._margin, self._contributions = (
            json.dumps(arguments | {"type": kind}).encode() for kind in (0, 1, 2)
        )

    def _read(self, content: bytes, best_only: bool) -> tuple[bytes, int]:
        """Check the content, and set everything that is known from it without XGBoost.

        Returns:
            The content in the form that XGBoost recognizes, and the number of iterations that predict; 0 for all.
        """
        parsed, content = model_file.parse(content)
        try:
            learner = parsed["learner"]
            booster = learner["gradient_booster"]
            if (kind := booster["name"]) not in _BOOSTERS:
                raise BoosterError(f"its booster is {str(kind)[:100]}, but only {', '.join(_BOOSTERS)} are supported")
            structure.check(learner)
            parameters = learner["learner_model_param"]
            self._linear = kind == LINEAR
            self.objective: str = learner["objective"]["name"]
            self.class_count = structure.number(parameters["num_class"])
            model = booster.get("gbtree", booster)["model"]
            self.tree_count = len(model.get("trees", ()))
            cats = model.get("cats") or {}
            self.features = _features(learner, cats, structure.number(parameters["num_feature"]))
            best = learner["attributes"].get("best_iteration", "") if best_only and not self._linear else ""
            return content, int(best) + 1 if re.fullmatch("[0-9]{1,9}", best) else 0
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"it is not an XGBoost model ({type(error).__name__})") from None

    def use_threads(self, count: int) -> None:
        """Set the number of threads for large predictions. Do not call this while another thread predicts."""
        _call("XGBoosterSetParam", self._handle, b"nthread", str(count).encode())

    def predict(self, rows: Matrix) -> Matrix:
        """Return the predictions, shape (rows, outputs). Thread-safe.

        Args:
            rows: Inputs, shape (rows, features). NaN is a missing value, and a category is its code.

        Raises:
            BoosterError: XGBoost failed.
        """
        return self._outputs(rows, self._value)

    def margins(self, rows: Matrix) -> Matrix:
        """Return the sums of the trees before the objective transforms them; otherwise as `predict`."""
        return self._outputs(rows, self._margin)

    def contributions(self, rows: Matrix) -> NDArray[np.float32]:
        """Return the contribution of each feature to each margin, shape (rows, margins, features + 1).

        The last value is the base value. A row takes 30 to 90 times as long as in `predict`, without the GIL. Arguments
        and errors are those of `predict`.
        """
        return self._from_matrix(rows, self._contributions)

    def _from_matrix(self, rows: Matrix, arguments: bytes) -> NDArray[np.float32]:
        """Predict from XGBoost's own copy of the rows, which takes longer."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        matrix = ctypes.c_void_p()
        _call("XGDMatrixCreateFromDense", _array(rows), self._matrix, ctypes.byref(matrix))
        try:
            shape, dimensions, values = _SIZES(), ctypes.c_uint64(), _FLOATS()
            results = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(values)
            _call("XGBoosterPredictFromDMatrix", self._handle, matrix, arguments, *results)
            return _copied(values, tuple(shape[: dimensions.value]))
        finally:
            _call("XGDMatrixFree", matrix)

    def _outputs(self, rows: Matrix, arguments: bytes) -> Matrix:
        if self._linear:  # XGBoost predicts linear boosters only in this way
            return self._from_matrix(rows, arguments)
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
    """Return NumPy's array interface of contiguous rows as JSON. The rows must outlive its use."""
    address, (height, width) = rows.__array_interface__["data"][0], rows.shape
    return b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}' % (address, height, width)


def _copied(values: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a copy of the library's result, which the next call in this thread overwrites."""
    return np.frombuffer(ctypes.string_at(values, math.prod(shape) * 4), dtype=np.float32).reshape(shape)


def _features(learner: dict[str, Any], categories: dict[str, Any], width: int) -> tuple[Feature, ...]:
    names = learner.get("feature_names") or [None] * width
    types = learner.get("feature_types") or [""] * width
    encodings = [_categories(each) for each in categories.get("enc") or []] or [()] * width
    return tuple(Feature(*each) for each in zip(names, types, encodings, strict=True))


def _categories(encoding: dict[str, Any]) -> tuple[Category, ...]:
    """Return a feature's categories by code: integers, or strings in Arrow's layout."""
    values = np.asarray(encoding["values"], dtype=np.int64)
    if "offsets" not in encoding:
        return tuple(values.tolist())
    text, ends = values.astype(np.uint8).tobytes(), list(encoding["offsets"])
    return tuple(text[start:end].decode() for start, end in pairwise(ends))


@cache
def _library() -> ctypes.CDLL:
    """Load the library from its Python package without importing the package."""
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
    """Log a message that XGBoost would write to standard error."""
    log.warning(message.decode("utf-8", "replace").strip())


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(_log)  # a global, because the library keeps a pointer to it


def _call(function: str, *arguments: Any) -> None:
    if getattr(_library(), function)(*arguments):
        raise BoosterError(_complaint())


def _complaint() -> str:
    """Return the reason of the last failure in this thread, without the C++ stack that XGBoost appends."""
    text: bytes = _library().XGBGetLastError()
    return text.decode("utf-8", "replace").strip().partition("\n")[0]
