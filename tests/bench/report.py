"""Write docs/benchmark.md and the README's table from docs/benchmark.json, so that they never disagree."""

from typing import Any

from tests.bench.entries import NOOP, OURS, RIVALS
from tests.cluster.cache import ROOT

RESULT = ROOT / "docs" / "benchmark.json"
DOCUMENT = ROOT / "docs" / "benchmark.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmark: `python -m tests.bench report` writes this table -->", "<!-- benchmark ends -->"
QUIET_LOAD = 0.3  # of the minute before: above it, others used the cores

_HOW = """# Benchmark

`python -m tests.bench --write` makes this file from what it measured ([benchmark.json](benchmark.json)).

Each server runs as its documentation says, in an environment of its own, pinned to one core with one OpenMP thread;
wrk is on the other core. Every server's answers are compared with the booster's before it is measured. The servers
take turns, one at a time, {rounds} times round, with {seconds} s per load. Figures are medians; `x no-op` is the median
of the ratios within the rounds. The no-op is a FastAPI route that reads the same body as the service into a pydantic
model and does nothing. CPU and memory are those of all processes of a server. The machine's mood is in every figure:
compare within a table, not with another machine's.
"""


def document(result: dict[str, Any]) -> str:
    """Return the whole report as Markdown."""
    machine = result["machine"]
    parts = [
        _HOW.format(**result),
        f"{result['date']}, {machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, "
        f"{machine['system']}. {_mood(result)}\n",
        _missing(result),
        "## Who\n\n" + _who(result),
    ]
    for model, found in result["models"].items():
        features, trees = model.split(" x ")
        parts.append(f"## {features} features, {trees} trees\n\n" + _start(found["start"]))
        parts += [_load(load, each) for load, each in found["loads"].items()]
    if profile := result.get("profile"):
        parts.append(profiled(profile))
    if metrics := result.get("metrics"):
        parts.append(metered(metrics))
    return "\n".join(part for part in parts if part)


def short(result: dict[str, Any]) -> str:
    """Return the README's table: the small model, one line per server."""
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
            _number(result["entries"][server]["environment_mb"]) if server != NOOP else "",
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
    said = f"{features} features, {trees} trees; one process on one core; {result['date']}. {_mood(result)}"
    missing = _missing(result)
    return f"{said}\n\n{_table(heads, lines)}" + (f"\n{missing}" if missing else "")


def with_table(readme: str, table: str) -> str:
    """Return the README with this table between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"README.md has no place for the table: put {BEGIN} and {END} into it")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def profiled(profile: dict[str, Any]) -> str:
    """Return the chapter on the CPU time of one request."""
    loads = profile["loads"]
    lines = [
        [stage, *(_number(it["stages"].get(stage, 0)) for it in loads.values()), functions]
        for stage, functions in profile["stages"].items()
    ]
    lines.append(["all", *(_number(it["cpu_us"]) for it in loads.values()), ""])
    heads = ["stage", *(f"{load}, µs" for load in loads), "most of it in"]
    return (
        "## Where every microsecond goes\n\nCPU of one POST /predict of the service by rows x callers, model of 30 x "
        f"100: what the process used per request, shared out by {profile['samples']:,} samples of its stack on "
        f"{profile['date']} (`python -m tests.bench profile --write`). A thread that waits "
        f"for the core counts as running: with 1000 rows, which are answered in threads, the event loop's share is too "
        f"large.\n\n{_table(heads, lines)}"
    )


def metered(metrics: dict[str, Any]) -> str:
    """Return the chapter on what the metrics cost."""
    lines = [
        [load, _number(it["on_us"]), _number(it["off_us"]), f"{it['more']:.0%}"]
        for load, it in metrics["loads"].items()
    ]
    heads = ["rows x callers", "CPU µs/request", "without metrics", "more"]
    return (
        "## What the metrics cost\n\nThe service beside itself with all that counts and observes doing nothing, in "
        f"turn, {metrics['rounds']} times round, {metrics['seconds']} s per load, on {metrics['date']} "
        "(`python -m tests.bench metrics --write`); model of 30 x 100, of which 20 features are watched for drift. "
        f"`more` is the median of the rounds' own ratios; at one row it may be 20 %.\n\n{_table(heads, lines)}"
    )


def _mood(result: dict[str, Any]) -> str:
    load = result["load_before"]
    if load <= QUIET_LOAD:
        return f"The machine was quiet (load {load:.2f} before)."
    return f"Others used the machine (load {load:.2f} before): only the ratios count."


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
    heads = ["server", "what it is", "packages, MB", "of these XGBoost with its GPU libraries, MB", "versions"]
    return _table(heads, lines)


def _start(starts: dict[str, Any]) -> str:
    heads = ["server", "first answer after, s", "RSS MiB", "PSS MiB", "RSS MiB after all loads", "processes"]
    keys = ("rss_mib", "pss_mib", "rss_after_mib", "processes")
    lines = [
        [_name(server), f"{start['ready_seconds']:.2f}", *(_number(start.get(key)) for key in keys)]
        for server, start in sorted(starts.items(), key=lambda item: item[1]["ready_seconds"])
    ]
    note = "Memory is that after the warm-up.\n"
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
    said = ""
    if ours["requests_to_best"] is not None:
        said = (
            f"\nThe service to the best rival: {_ratio(ours['requests_to_best'])} x the requests of"
            f" {ours['best_rival']}; {_ratio(ours['p50_to_quickest'])} x the p50 and"
            f" {_ratio(ours['p99_to_quickest'])} x the p99 of {ours['quickest_rival']}.\n"
        )
    return f"### {rows} row{'s' * (rows != '1')}, {connections} caller{'s' * (connections != '1')}\n\n" + (
        _table(heads, lines) + said
    )


def _ranked(starts: dict[str, Any], load: dict[str, Any]) -> list[tuple[str, Any]]:
    order = {OURS: 0, NOOP: 1} | dict.fromkeys(RIVALS, 2)
    rate = {server: it["requests_per_second"] for server, it in load.items()}
    return sorted(starts.items(), key=lambda item: (order[item[0]], -rate.get(item[0], 0)))


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
