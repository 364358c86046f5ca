"""A picture of live distributions next to the reference, as the dashboard's panels show them.

`tools/python -m tools.cluster exec python -m tools.generate.drift_report [NAMESPACE]` queries the cluster's Prometheus,
or the one that --prometheus names.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tools.cluster.access import Access, promql
from tools.cluster.cache import CACHE
from tools.cluster.console import Failure, say
from tools.cluster.main_job import MONITORING, NAMESPACE

PICTURE = CACHE / "report" / "drift.png"
_SHOWN = 6


@dataclass
class Distribution:
    """The shares of one variable by bin, and how far the live ones moved from the reference.

    Args:
        role: feature or prediction.
        psi: population stability index.
    """

    role: str
    variable: str
    psi: float
    live: dict[str, float] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)


def distributions(prometheus: str, namespace: str) -> list[Distribution]:
    """Return what Prometheus has of the release in a namespace: predictions first, then what moved most.

    Raises:
        Failure: it has nothing, or there are several releases or versions.
    """

    def asked(record: str) -> list[tuple[dict[str, str], float]]:
        series = promql(prometheus, f'{record}{{namespace="{namespace}"}}')
        return [(each["metric"], float(each["value"][1])) for each in series]

    moved = asked("model:distribution_psi:short")
    models = {(labels["job"], labels["model_version"]) for labels, _ in moved}
    if len(models) != 1:
        raise Failure(
            f"Namespace {namespace} has drift of {len(models)} models in Prometheus, and one can be drawn. It takes "
            "monitoring.prometheusRule.enabled, a model with a profile, and monitoring.drift.minSamples predictions "
            "within monitoring.drift.window: send some, wait two minutes, and run again."
        )
    found = {
        (labels["role"], labels["variable"]): Distribution(labels["role"], labels["variable"], psi)
        for labels, psi in moved
    }
    for labels, share in asked("model:distribution_values:ratio_short"):
        if each := found.get((labels["role"], labels["variable"])):
            each.live[labels["bin"]] = share
    for labels, share in asked("model:distribution_reference:ratio"):
        if each := found.get((labels["role"], labels["variable"])):
            each.reference[labels["bin"]] = share
    return sorted(found.values(), key=lambda each: (each.role != "prediction", -each.psi))


def draw(found: list[Distribution], path: Path) -> None:
    """Write a PNG of the first of them."""
    figure = Figure(figsize=(12, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for number, each in enumerate(found[:_SHOWN]):
        axes = figure.add_subplot(2, _SHOWN // 2, number + 1)
        bins = sorted(each.reference)
        places = range(len(bins))
        axes.bar([i - 0.2 for i in places], [each.reference[name] for name in bins], 0.4, label="reference")
        axes.bar([i + 0.2 for i in places], [each.live.get(name, 0) for name in bins], 0.4, label="live")
        axes.set_xticks(places, [name.strip("_") for name in bins], rotation=45, ha="right")
        title = f"{each.role} {each.variable}: PSI {each.psi:.2f}"
        axes.set(title=title.replace("$", r"\$"), ylabel="share")
    figure.axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})


@contextmanager
def _prometheus(url: str) -> Iterator[str]:
    """Yield the URL of a Prometheus: the given one, or "" for that of the cluster behind KUBECONFIG."""
    if url:
        yield url
        return
    with Access(Path(os.environ["KUBECONFIG"])).forward("service/prometheus-operated", 9090, MONITORING) as own:
        yield own


def main(arguments: list[str] | None = None) -> int:
    """Draw the distributions of one namespace; what is missing is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m tools.generate.drift_report", description=__doc__)
    parser.add_argument("namespace", nargs="?", default=NAMESPACE)
    parser.add_argument("--prometheus", default="", metavar="URL", help='"": that of the cluster')
    parser.add_argument("--picture", type=Path, default=PICTURE)
    chosen = parser.parse_args(arguments)
    try:
        with _prometheus(chosen.prometheus.rstrip("/")) as prometheus:
            draw(distributions(prometheus, chosen.namespace), chosen.picture)
    except Failure as failure:
        say(f"error: {failure}")
        return 1
    say(f"drawn: {chosen.picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
