"""Output tensors of the Open Inference Protocol."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from app.model.base import Model


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
    values: Callable[[list[Any]], list[Any]]


Tensors = dict[str, OutputTensor]


def outputs_of(model: Model) -> Tensors:
    """Return the outputs of a model by name: numbers, or label and probabilities of a classifier.

    Records may contain any values, so each record becomes its JSON text.
    """
    output, number = model.output, "FP32" if model.flavor == "xgboost" else "FP64"
    if output.form == "record":
        return {"predictions": OutputTensor("BYTES", (), lambda found: [orjson.dumps(each).decode() for each in found])}
    if output.form == "number":
        return {"predictions": OutputTensor(number, (), list)}
    if output.form == "numbers":
        return {"predictions": OutputTensor(number, (output.width,), lambda found: list(chain.from_iterable(found)))}
    label = OutputTensor("BYTES", (), lambda found: [each["label"] for each in found])
    if output.form == "label":
        return {"label": label}

    def shares(found: list[Any]) -> list[Any]:
        return [each["probabilities"][name] for each in found for name in output.classes]

    return {"label": label, "probabilities": OutputTensor(number, (len(output.classes),), shares)}
