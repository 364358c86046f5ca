"""Draw what the panels show: how live values are distributed beside the reference, from the cluster's Prometheus."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.cluster.access import promql
from tests.cluster.cache import CACHE

PICTURE = CACHE / "report" / "drift.png"
_SHOWN = 6

# Shares by bin, and what they moved: live, reference, PSI.
type Distribution = tuple[dict[str, float], dict[str, float], float]


def distributions(prometheus: str, namespace: str) -> dict[str, Distribution]:
    """Return by variable what Prometheus has of a release's namespace now."""
    found: dict[str, Distribution] = {}
    for each in promql(prometheus, f'model:distribution_psi:short{{namespace="{namespace}"}}'):
        found[each["metric"]["variable"]] = ({}, {}, float(each["value"][1]))
    for place, record in enumerate(("model:distribution_values:ratio_short", "model:distribution_reference:ratio")):
        for each in promql(prometheus, f'{record}{{namespace="{namespace}"}}'):
            shares = found[each["metric"]["variable"]][place]
            assert isinstance(shares, dict)
            shares[each["metric"]["bin"]] = float(each["value"][1])
    return found


def draw(found: dict[str, Distribution], path: Path = PICTURE) -> None:
    """Write a picture of the variables that moved most."""
    figure = Figure(figsize=(12, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    moved = sorted(found.items(), key=lambda item: -item[1][2])[:_SHOWN]
    for number, (name, (live, reference, psi)) in enumerate(moved):
        axes = figure.add_subplot(2, _SHOWN // 2, number + 1)
        bins = sorted(reference)
        axes.bar([i - 0.2 for i in range(len(bins))], [reference[each] for each in bins], 0.4, label="reference")
        axes.bar([i + 0.2 for i in range(len(bins))], [live.get(each, 0) for each in bins], 0.4, label="live")
        axes.set_xticks(range(len(bins)), [each.strip("_") for each in bins], rotation=45, ha="right")
        axes.set(title=f"{name}: PSI {psi:.2f}".replace("$", r"\$"), ylabel="share")
    figure.axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})
