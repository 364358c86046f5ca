"""A page about the training data, which MLflow shows with the run: one HTML file without scripts or other files.

For each feature it contains the type, the missing values, the distribution and the relation to the target. A sample of
the training rows is enough for these, and bounds time, memory and size of the page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from app.model.contract import ContractColumn
from app.model.dates import feature_names
from training.data.dataset import Data, Matrix
from training.data.preprocessing import numbers
from training.fitting.pipeline import Trained

REPORT_FILE = "data_report.html"
MOST_ROWS = 50_000
_BINS = 20
_MOST_CATEGORIES = 12  # with a bar of their own
_TAIL = 0.01  # share of the numbers at each end that the first and the last bar collect
_BAR, _HEIGHT = 9, 40  # pixels

_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;width:100%}th,td{padding:.35rem .6rem;text-align:left;border-bottom:1px solid #d8dee4}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}th{position:sticky;top:0;background:#fff}
td.name{overflow-wrap:anywhere;max-width:20rem}.hint{color:#57606a}svg{display:block}
.bars{fill:#54aeff}.missing{fill:#afb8c1}.line{fill:none;stroke:#bc4c00;stroke-width:1.5}
"""


@dataclass(frozen=True)
class _Bins:
    """The sampled rows of a variable by bin.

    Args:
        place: Bin of each row, shape (rows,). The last one contains missing values.
        count: Number of bins, without that of missing values.
        text: What the bins contain.
    """

    place: NDArray[np.int64]
    count: int
    text: str


def page(trained: Trained, run_id: str) -> str:
    """Return the page.

    Args:
        trained: The trained model with its data. Of several workers, it has the rows of one.
        run_id: Run in MLflow.
    """
    data, parts = trained.data, trained.parts
    rows = parts.rest[:: max(1, -(-len(parts.rest) // MOST_ROWS))]
    of = f"{len(rows):,} of {len(parts.rest):,} training rows"
    if trained.identity.workers > 1:
        of += f" of worker 0, one of {trained.identity.workers}"
    facts = {
        "Run": run_id,
        "Data": data.spec.source.partition("?")[0],
        "Digest of the prepared data": trained.identity.sha256,
        "Rows": f"{trained.identity.rows:,}, of which {len(trained.judged.rows):,} are held out",
        "Features": f"{data.frame.shape[1]:,}",
        "Target": f"{data.target_name} ({data.task})",
        "Pictures": of,
    }
    title = f"Training data of {escape(data.name)}"
    return "".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"/><title>{title}</title>',
            f"<style>{_STYLE}</style></head><body><h1>{title}</h1><table>",
            *(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()),
            "</table>",
            *_warnings(trained.warnings),
            "<h2>Target</h2>",
            _picture(_bins(data.target[rows], data.classes), f"Distribution of {data.target_name}"),
            *_legend(data),
            *_table(trained, rows),
            "</body></html>\n",
        ]
    )


def _warnings(sentences: Sequence[str]) -> Iterator[str]:
    yield "<h2>Warnings</h2>"
    if not sentences:
        yield "<p>The training has no warning about its data.</p>"
        return
    yield f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def _legend(data: Data) -> Iterator[str]:
    yield "<h2>Features</h2>"
    line = " The line is the mean of the target in each bar, between the lowest and the highest of these means."
    line = "" if data.task == "multiclass" else line
    yield (
        '<p class="hint">Bars are shares of the rows, and the grey one is missing values. The first and the last bar '
        f"of a number also contain its most extreme values.{line} <em>Explains</em> is the share of the target's "
        "variance between the bars. <em>Gain</em> is the feature's share in the splits of the model.</p>"
    )


def _table(trained: Trained, rows: NDArray[np.int64]) -> Iterator[str]:
    data = trained.data
    gains = {variable.name: variable.importance for variable in trained.variables}
    described = {name: column for column in data.columns for name in feature_names(column.name, column.parts)}
    outcomes = _outcomes(data, data.target[rows])
    heads = "".join(f'<th class="n">{name}</th>' for name in ("Missing", "Explains", "Gain"))
    yield f"<table><thead><tr><th>Feature</th><th>Type</th>{heads}<th>Distribution</th><th>Values</th></tr></thead>"
    for name in data.frame.columns:
        column = described[name]
        bins = _bins(numbers(data.frame[name])[rows], column.categories)
        means = None if data.task == "multiclass" else _means(bins, outcomes[:, 0])
        label = f"Distribution of {name}"
        missing = np.count_nonzero(bins.place == bins.count) / max(1, len(rows))
        shown = [missing, _explained(bins, outcomes), gains.get(name, 0.0)]
        yield (
            f'<tr><td class="name">{escape(name)}</td><td>{_type(column, name)}</td>'
            + "".join(f'<td class="n">{share:.1%}</td>' for share in shown)
            + f'<td>{_picture(bins, label, means)}</td><td class="hint">{escape(bins.text)}</td></tr>'
        )
    yield "</table>"


def _type(column: ContractColumn, name: str) -> str:
    if column.categories:
        return f"category ({len(column.categories):,})"
    return "part of a date" if column.name != name else column.type


def _outcomes(data: Data, target: Matrix) -> NDArray[np.float64]:
    """Return the target in numbers whose means describe it, shape (rows, 1), or for classes shape (rows, classes)."""
    if data.task == "multiclass":
        return np.asarray(target[:, None] == np.arange(len(data.classes)), dtype=np.float64)
    return target[:, None].astype(np.float64)


def _bins(values: Matrix, categories: Sequence[str | int]) -> _Bins:
    if categories:
        return _category_bins(values, categories)
    known = values[~np.isnan(values)]
    if not len(known):
        return _Bins(np.zeros(len(values), dtype=np.int64) + 1, 1, "no value")
    low, high = np.quantile(known, [_TAIL, 1 - _TAIL]).astype(np.float64)
    edges = np.unique(np.linspace(low, high, _BINS + 1)[1:-1])
    place = np.searchsorted(edges, values, side="right")
    place[np.isnan(values)] = len(edges) + 1
    text = f"{known.min():.6g} to {known.max():.6g}, median {np.median(known):.6g}"
    return _Bins(place, len(edges) + 1, text)


def _category_bins(values: Matrix, categories: Sequence[str | int]) -> _Bins:
    """Return a bin for each of the most frequent categories, and one for all others."""
    known = ~np.isnan(values)
    counts = np.bincount(values[known].astype(np.int64), minlength=len(categories))
    often = np.argsort(-counts, kind="stable")[:_MOST_CATEGORIES]
    places = np.full(len(categories) + 1, len(often))
    places[often] = np.arange(len(often))
    count = len(often) + (len(categories) > len(often))
    places[-1] = count
    place = places[np.where(known, values, -1).astype(np.int64)]
    shown = ", ".join(str(categories[each])[:40] for each in often)
    others = len(categories) - len(often)
    return _Bins(place, count, f"{shown} and {others:,} more" if others else shown)


def _explained(bins: _Bins, outcomes: NDArray[np.float64]) -> float:
    """Return the share of the variance of the outcomes that is between the bins, 0 to 1."""
    total = outcomes.var(axis=0).sum() if len(outcomes) else 0.0
    if not total:
        return 0.0
    rows = np.bincount(bins.place, minlength=bins.count + 1)
    used = rows > 0
    between = 0.0
    for each in outcomes.T:
        means = np.bincount(bins.place, each, minlength=bins.count + 1)[used] / rows[used]
        between += float((rows[used] * (means - each.mean()) ** 2).sum() / len(each))
    return min(1.0, between / float(total))


def _means(bins: _Bins, outcome: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean outcome of each bin without that of missing values, shape (bins,). NaN if it is empty."""
    sums, rows = np.bincount(bins.place, outcome, bins.count + 1), np.bincount(bins.place, minlength=bins.count + 1)
    means: NDArray[np.float64] = np.divide(sums, rows, out=np.full(bins.count + 1, np.nan), where=rows > 0)
    return means[:-1]


def _picture(bins: _Bins, label: str, means: NDArray[np.float64] | None = None) -> str:
    """Return bars of the shares, and a line through the means, as SVG."""
    rows = np.bincount(bins.place, minlength=bins.count + 1)
    heights = np.where(rows > 0, np.maximum(1, rows * _HEIGHT // max(1, int(rows.max()))), 0)
    bars = [f"M{i * _BAR} {_HEIGHT}v-{height}h{_BAR - 1}v{height}z" for i, height in enumerate(heights[:-1]) if height]
    parts = [f'<path class="bars" d="{"".join(bars)}"/>']
    if heights[-1]:
        left = bins.count * _BAR + _BAR // 2
        parts.append(f'<path class="missing" d="M{left} {_HEIGHT}v-{heights[-1]}h{_BAR - 1}v{heights[-1]}z"/>')
    known = np.flatnonzero(np.isfinite([] if means is None else means))
    if means is not None and len(known) and (low := means[known].min()) < (high := means[known].max()):
        levels = 1 + (high - means) / (high - low) * (_HEIGHT - 2)
        points = " ".join(f"{i * _BAR + _BAR // 2},{levels[i]:.0f}" for i in known)
        parts.append(f'<polyline class="line" points="{points}"/>')
    width = (bins.count + 2) * _BAR
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="{width}" height="{_HEIGHT}" '
        f'viewBox="0 0 {width} {_HEIGHT}">{"".join(parts)}</svg>'
    )
