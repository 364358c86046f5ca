"""Plots of a booster and its holdout, which MLflow shows with the run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xgboost as xgb
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_curve

from training.data.dataset import Data, Matrix
from training.data.split import Rows
from training.fitting.evaluate import importance

MOST_BARS = 20  # features in the plot of the importance
MOST_NUMBERS = 12  # classes up to which the confusion matrix contains numbers
_CALIBRATION_BINS = 10
_INCHES, _DPI = (6.4, 4.8), 100


def draw(
    data: Data, rows: Rows, output: Matrix, booster: xgb.Booster, history: Mapping[str, Sequence[float]], folder: Path
) -> None:
    """Write the plots of the task as PNG files."""
    truth = data.target[rows]
    weights = np.ones(len(rows), dtype=np.float32) if data.weights is None else data.weights[rows]
    _save(folder / "importance.png", lambda axes: _importance(axes, booster))
    _save(folder / "rounds.png", lambda axes: _rounds(axes, history))
    if data.task == "binary":
        _save(folder / "roc.png", lambda axes: _roc(axes, truth, output, weights))
        _save(folder / "calibration.png", lambda axes: _calibration(axes, truth, output, weights))
    if data.classes:
        labels = output >= 0.5 if output.ndim == 1 else output.argmax(axis=1)
        _save(folder / "confusion.png", lambda axes: _confusion(axes, truth, labels.astype(int), weights, data.classes))
    if data.task == "regression":
        _save(folder / "residuals.png", lambda axes: _residuals(axes, truth, output))


def _save(path: Path, paint: Callable[[Axes], None]) -> None:
    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    paint(figure.add_subplot())
    figure.savefig(path, format="png", metadata={"Software": None})


def _importance(axes: Axes, booster: xgb.Booster) -> None:
    gains = sorted(importance(booster).items(), key=lambda item: item[1])[-MOST_BARS:]
    total = sum(gain for _, gain in gains) or 1.0
    # Without the escape, matplotlib reads a $ in a name as the start of a formula.
    axes.barh([name[:40].replace("$", r"\$") for name, _ in gains], [gain / total for _, gain in gains])
    axes.set(title="Feature importance", xlabel="share of the total gain")


def _rounds(axes: Axes, history: Mapping[str, Sequence[float]]) -> None:
    for name, values in history.items():
        axes.plot(np.arange(1, len(values) + 1), values, label=name)
    axes.set(title="Loss by round", xlabel="round")
    axes.legend()


def _roc(axes: Axes, truth: Matrix, output: Matrix, weights: Matrix) -> None:
    false_positive, true_positive, _ = roc_curve(truth, output, sample_weight=weights)
    axes.plot(false_positive, true_positive)
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(title="ROC of the holdout", xlabel="false positive rate", ylabel="true positive rate")


def _calibration(axes: Axes, truth: Matrix, output: Matrix, weights: Matrix) -> None:
    place = np.minimum((output * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    bins = np.unique(place)
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    means = [[np.average(each[place == k], weights=weights[place == k]) for k in bins] for each in (output, truth)]
    axes.plot(*means, marker="o")
    axes.set(title="Calibration of the holdout", xlabel="mean probability", ylabel="share of the positive class")


def _confusion(axes: Axes, truth: Matrix, labels: NDArray[np.int64], weights: Matrix, classes: Sequence[str]) -> None:
    names, known = [name[:20].replace("$", r"\$") for name in classes], list(range(len(classes)))
    counts = confusion_matrix(truth.astype(int), labels, labels=known, sample_weight=weights)
    axes.imshow(counts, cmap="Blues")
    if len(classes) <= MOST_NUMBERS:
        axes.set_xticks(range(len(classes)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(classes)), names)
        dark = counts > counts.max() / 2
        for (row, column), count in np.ndenumerate(counts):
            axes.text(
                column, row, f"{count:.6g}", ha="center", va="center", color="white" if dark[row, column] else "black"
            )
    axes.set(title="Confusion of the holdout", xlabel="predicted", ylabel="true")


def _residuals(axes: Axes, truth: Matrix, output: Matrix) -> None:
    axes.scatter(output, truth - output, s=6)
    axes.axhline(0, linestyle=":", color="grey")
    axes.set(title="Residuals of the holdout", xlabel="predicted", ylabel="true - predicted")
