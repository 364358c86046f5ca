"""Output tensors of the Open Inference Protocol."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.model.base import Model
from app.model.output import Predictions

Values = NDArray[Any] | list[Any]


@dataclass(frozen=True)
class OutputTensor:
    """One output.

    Args:
        datatype: Datatype, as the protocol names it.
        shape: Shape of one row.
        values: Returns the flat values of predictions.
    """

    datatype: str
    shape: tuple[int, ...]
    values: Callable[[Predictions], Values]


Tensors = dict[str, OutputTensor]


def outputs_of(model: Model) -> Tensors:
    """Return the outputs of a model by name: numbers, or label and probabilities of a classifier.

    Records may contain any values, so each record becomes its JSON text.
    """
    output, number = model.output, "FP32" if model.flavor == "xgboost" else "FP64"
    if output.form == "record":
        return {"predictions": OutputTensor("BYTES", (), _records)}
    if output.form == "number":
        return {"predictions": OutputTensor(number, (), _numbers)}
    if output.form == "numbers":
        return {"predictions": OutputTensor(number, (output.width,), _numbers)}
    label = OutputTensor("BYTES", (), _labels)
    if output.form == "label":
        return {"label": label}
    return {"label": label, "probabilities": OutputTensor(number, (len(output.classes),), _probabilities)}


def _records(found: Predictions) -> Values:
    return [orjson.dumps(each).decode() for each in found.values]


def _numbers(found: Predictions) -> Values:
    if found.numbers is not None:
        return found.numbers.ravel()
    return list(chain.from_iterable(found.values)) if found.output.form == "numbers" else found.values


def _labels(found: Predictions) -> Values:
    if found.numbers is not None:
        return [found.output.classes[place] for place in found.output.labels(found.numbers)]
    return [each["label"] for each in found.values]


def _probabilities(found: Predictions) -> Values:
    if (numbers := found.numbers) is None:
        return [each["probabilities"][name] for each in found.values for name in found.output.classes]
    return numbers.ravel() if numbers.shape[1] > 1 else np.column_stack((1 - numbers, numbers)).ravel()
