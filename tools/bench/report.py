"""The benchmark report and the README's table, both made from docs/reference/benchmark.json."""

from typing import Any

from tools.bench.entries import NOOP, OURS
from tools.cluster.cache import ROOT

RESULT = ROOT / "docs" / "reference" / "benchmark.json"
DOCUMENT = ROOT / "docs" / "reference" / "benchmark.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmark: `python -m tools.bench report` writes this table -->", "<!-- benchmark ends -->"
IDLE_LOAD = 0.3  # load of the minute before the benchmark

_HOW = """# Benchmark

`python -m tools.bench --write` generates this page from its measurements ([benchmark.json](benchmark.json)).

* Each server runs as its documentation recommends, in its own environment, pinned to one core with one OpenMP thread.
  wrk runs on the other core.
* Before a server is measured, its predictions are compared with those of the booster.
* The servers take turns, one at a time, for {rounds} rounds with {seconds} s per load. Figures are medians.
* `no-op` is a FastAPI route that reads the service's body into a pydantic model and does nothing. `x no-op` is the
  median of the ratios within the rounds.
* CPU and memory include all processes of a server.
* Compare figures within a table, not with those of another machine.
"""


def document(result: dict[str, Any]) -> str:
    """Return the whole report as Markdown."""
    machine = result["machine"]
    parts = [
        _HOW.format(**result),
        f"{result['date']}, {machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, "
        f"{machine['system']}. {_idleness(result)}\n",
        _missing(result),
        "## Servers\n\n" + _who(result),
    ]
    for model, found in result["models"].items():
        features, trees = model.split(" x ")
        parts.append(f"## {features} features, {trees} trees\n\n" + _start(found["start"]))
        parts += [_load(load, each) for load, each in found["loads"].items()]
    if profile := result.get("profile"):
        parts.append(profiled(profile))
    parts += [cost(result[what]) for what, cost in COSTS.items() if what in result]
    return "\n".join(part for part in parts if part)


def short(result: dict[str, Any]) -> str:
    """Return the README's table: the small model, one line per server except the no-op, which serves no model."""
    model, found = next(iter(result["models"].items()))
    features, trees = model.split(" x ")
    loads = found["loads"]
    names = ("1 x 16", "1 x 1", "1000 x 4")
    one, lone, thousand = (loads.get(name, {"servers": {}})["servers"] for name in names)
    lines = [
        [
            _name(server),
            _number(one.get(server, {}).get("requests_per_second")),
            " / ".join(_number(lone.get(server, {}).get(key)) for key in ("p50_ms", "p99_ms")),
            _number(thousand.get(server, {}).get("rows_per_second")),
            f"{start['ready_seconds']:.1f}",
            _number(start["rss_mib"]),
            _number(result["entries"][server]["environment_mb"]),
        ]
        for server, start in _ranked(found["start"], one)
    ]
    heads = [
        "server",
        "requests/s, one row, 16 callers",
        "p50 / p99 ms, one caller",
        "rows/s, 1000 rows, 4 callers",
        "ready after, s",
        "RSS MiB",
        "environment MB",
    ]
    note = f"{features} features, {trees} trees, one process on one core, {result['date']}. {_idleness(result)}"
    missing = _missing(result)
    return f"{note}\n\n{_table(heads, lines)}" + (f"\n{missing}" if missing else "")


def with_table(readme: str, table: str) -> str:
    """Return the README with this table between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"README.md has no place for the table: add {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def profiled(profile: dict[str, Any]) -> str:
    """Return the chapter on the CPU time of one request."""
    loads = profile["loads"]
    lines = [
        [stage, *(_number(it["stages"].get(stage, 0)) for it in loads.values()), functions]
        for stage, functions in profile["stages"].items()
    ]
    lines.append(["all", *(_number(it["cpu_us"]) for it in loads.values()), ""])
    heads = ["stage", *(f"{load}, µs" for load in loads), "mostly in"]
    return (
        "## CPU time of a prediction\n\nCPU time of one `POST /predict`, by rows x callers, for the model of 30 "
        "features and 100 trees. The time that the process used per request is divided among the stages by "
        f"{profile['samples']:,} samples of its stack, taken on {profile['date']} (`python -m tools.bench profile "
        "--write`). A thread that waits for the core counts as running. Requests of 1000 rows are answered in threads, "
        "so the share of the event loop is too large there.\n\n"
        f"{_table(heads, lines)}"
    )


def metered(metrics: dict[str, Any]) -> str:
    """Return the chapter on the cost of the metrics."""
    return (
        "## Cost of the metrics\n\nThe service compared with itself without metrics. Both took turns for "
        f"{metrics['rounds']} rounds with {metrics['seconds']} s per load, on {metrics['date']} "
        "(`python -m tools.bench metrics --write`). The model has 30 features and 100 trees, and 20 features are "
        "watched for drift. `more` is the median of the ratios within the rounds; the limit at one row is 20 %.\n\n"
        f"{_costs(metrics, 'without metrics')}"
    )


def challenged(found: dict[str, Any]) -> str:
    """Return the chapter on the cost of a challenger."""
    return (
        "## Cost of a challenger\n\nThe service with a challenger that predicts all requests, compared with itself "
        f"without one. Both took turns for {found['rounds']} rounds with {found['seconds']} s per load, on "
        f"{found['date']} (`python -m tools.bench challenger --write`). Both models have 30 features and about 100 "
        "trees. The CPU time includes the thread in the background. `more` is the median of the ratios within the "
        f"rounds; the limit at one row is 5 %.\n\n{_costs(found, 'without a challenger')}"
    )


def logged(found: dict[str, Any]) -> str:
    """Return the chapter on the cost of the inference log."""
    return (
        "## Cost of the inference log\n\nThe service with the inference log of all requests, compared with itself "
        f"without a log. Both took turns for {found['rounds']} rounds with {found['seconds']} s per load, on "
        f"{found['date']} (`python -m tools.bench log --write`). The model has 30 features and 100 trees. The CPU time "
        "includes the thread that writes segments, and not the container that ships them. `more` is the median of the "
        f"ratios within the rounds; the limit at one row is 3 %.\n\n{_costs(found, 'without the log')}"
    )


COSTS = {"metrics": metered, "challenger": challenged, "log": logged}


def _costs(found: dict[str, Any], without: str) -> str:
    lines = [
        [load, _number(it["on_us"]), _number(it["off_us"]), f"{it['more']:.0%}"] for load, it in found["loads"].items()
    ]
    return _table(["rows x callers", "CPU µs/request", without, "more"], lines)


def _idleness(result: dict[str, Any]) -> str:
    load = result["load_before"]
    if load <= IDLE_LOAD:
        return f"The machine was idle (load {load:.2f})."
    return f"The machine was not idle (load {load:.2f}): compare ratios, not absolute numbers."


def _missing(result: dict[str, Any]) -> str:
    return "".join(
        f"Not measured: {name}. {entry['missing']}\n" for name, entry in result["entries"].items() if entry["missing"]
    )


def _who(result: dict[str, Any]) -> str:
    lines = []
    for name, entry in result["entries"].items():
        versions = ", ".join(f"{package} {version}" for package, version in entry["versions"].items())
        sizes = (_number(entry.get(key)) for key in ("environment_mb", "xgboost_mb"))
        lines.append([_name(name), entry["what"], *sizes, versions])
    heads = ["server", "what it is", "packages, MB", "XGBoost and its GPU libraries, MB", "versions"]
    return _table(heads, lines)


def _start(starts: dict[str, Any]) -> str:
    heads = ["server", "first response after, s", "RSS MiB", "PSS MiB", "RSS MiB after all loads", "processes"]
    keys = ("rss_mib", "pss_mib", "rss_after_mib", "processes")
    lines = [
        [_name(server), f"{start['ready_seconds']:.2f}", *(_number(start.get(key)) for key in keys)]
        for server, start in sorted(starts.items(), key=lambda item: item[1]["ready_seconds"])
    ]
    note = "Memory is measured after the warm-up.\n"
    return f"{note}\n{_table(heads, lines)}"


def _load(load: str, found: dict[str, Any]) -> str:
    rows, connections = load.split(" x ")
    ours, servers = found["ours"], found["servers"]
    heads = ["server", "requests/s [from, to]", "rows/s", "p50 ms", "p99 ms", "CPU µs/request", "x no-op"]
    lines = []
    for server, it in sorted(servers.items(), key=lambda item: -item[1]["requests_per_second"]):
        rate, *bounds = (_number(it[key]) for key in ("requests_per_second", "slowest", "fastest"))
        failed = f", {it['failed']:.0f} failed" if it["failed"] else ""
        figures = (_number(it[key]) for key in ("rows_per_second", "p50_ms", "p99_ms", "cpu_us"))
        lines.append([_name(server), f"{rate} [{', '.join(bounds)}]{failed}", *figures, _ratio(it["to_noop"])])
    comparison = ""
    if ours["requests_to_best"] is not None:
        comparison = (
            f"\nThe service answers {_ratio(ours['requests_to_best'])} times as many requests as"
            f" {ours['best_rival']}, the best rival. Its p50 is {_ratio(ours['p50_to_quickest'])} times and its p99"
            f" {_ratio(ours['p99_to_quickest'])} times that of {ours['quickest_rival']}, the rival with the lowest"
            " p50.\n"
        )
    return f"### {rows} row{'s' * (rows != '1')}, {connections} caller{'s' * (connections != '1')}\n\n" + (
        _table(heads, lines) + comparison
    )


def _ranked(starts: dict[str, Any], load: dict[str, Any]) -> list[tuple[str, Any]]:
    rate = {server: it["requests_per_second"] for server, it in load.items()}
    servers = [item for item in starts.items() if item[0] != NOOP]
    return sorted(servers, key=lambda item: (item[0] != OURS, -rate.get(item[0], 0)))


def _name(server: str) -> str:
    return f"**{server}**" if server.startswith(OURS) else server


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _table(heads: list[str], lines: list[list[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
