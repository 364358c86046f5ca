"""Rows of one model as another model expects them: its own order of columns and its own codes of categories."""

import numpy as np
from numpy.typing import NDArray

from app.errors import LoadError
from app.model.booster import Matrix
from app.model.columns import Column
from app.model.xgboost import BoosterModel

INSTALL = "install the challenger as a release of its own"


class Translation:
    """The translation of rows from the model that read them to another one.

    Args:
        source: Model whose signature made the rows.
        target: Model that is to predict them. Its predictions must have the form of those of the source.

    Raises:
        LoadError: The rows do not contain what the target needs, or the classes of both are in different orders.
    """

    def __init__(self, source: BoosterModel, target: BoosterModel) -> None:
        known_features, features = source.signature.features, target.signature.features
        place = {name: i for i, name in enumerate(source.signature.feature_names)}
        names = target.signature.feature_names
        if unknown := [name for name in names if name not in place]:
            raise LoadError(f"it has the column {unknown[0]}, which the served model does not have", INSTALL)
        if source.output.classes != target.output.classes:
            raise LoadError("its classes are in a different order than those of the served model", INSTALL)
        order = [place[name] for name in names]
        self._order = None if order == list(range(len(place))) else order
        self._codes: list[tuple[int, NDArray[np.float32]]] = []
        for i, column in enumerate(features):
            known = known_features[order[i]]
            if known.categories and known.categories != column.categories:
                self._codes.append((i, _table(known, column)))

    def __call__(self, rows: Matrix) -> Matrix:
        """Return the rows for the target, shape (rows, features). The given rows are not changed."""
        if self._order is not None:
            rows = rows[:, self._order]
        elif self._codes:
            rows = rows.copy()
        for i, table in self._codes:
            codes = np.nan_to_num(rows[:, i], nan=-1).astype(np.intp)
            rows[:, i] = table[codes]
        return rows


def _table(source: Column, target: Column) -> NDArray[np.float32]:
    """Return the target's code for each code of the source. The last value is that of the code -1, a missing value."""
    codes = [target.codes.get((type(category), category), np.nan) for category in source.categories]
    return np.array([*codes, np.nan], dtype=np.float32)
