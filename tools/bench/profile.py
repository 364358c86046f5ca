"""Where the CPU time of POST /predict goes: py-spy samples the service's stack while wrk puts load on it."""

import subprocess
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.bench import load
from tools.bench.entries import ENTRIES, OURS
from tools.bench.environments import environment, tool
from tools.bench.models import SIZES, encode, train
from tools.bench.servers import Server, running
from tools.cluster.console import Failure, step

PY_SPY = "py-spy==0.4.3"
LOADS = ((1, 1), (1, 16), (1000, 4))  # rows, callers
HERTZ = 400
# (stage, what the innermost of its frames has in its file or function); the innermost frame that fits any decides.
LOOP = "event loop and sockets"
STAGES = (
    (LOOP, ("Server.run (uvicorn/",)),  # uvloop has no frames: what runs there is what it runs in
    (
        "metrics",
        (
            "prometheus_client/",
            "starlette_exporter/",
            "(app/monitoring/model_metrics.py",
            "(app/monitoring/observations.py",
            "(app/monitoring/drift.py",
            "(app/monitoring/bins.py",
            "record (app/http/front.py",
        ),
    ),
    ("HTTP server: read, write, schedule", ("uvicorn/", "(app/http/server.py")),
    ("front: request id, way to the endpoint", ("(app/http/front.py",)),
    ("read the body", ("(app/http/body.py",)),
    ("read the JSON", ("(app/model/rows.py", "(app/model/typed.py")),
    (
        "validate and convert",
        ("(app/model/signature.py", "(app/model/columns.py", "_validated (app/endpoints/predict.py"),
    ),
    ("predict, one call for all that wait", ("(app/model/xgboost.py", "(app/model/booster.py", "(app/coalescing.py")),
    (
        "write the answer",
        (
            "(app/model/output.py",
            "_content (app/endpoints/predict.py",
        ),
    ),
    ("limits", ("(app/limits.py",)),
    ("endpoint", ("(app/",)),
)


def measured(seconds: int) -> dict[str, Any]:
    """Return by load the CPU time per request and what each stage has of it, in microseconds.

    Raises:
        Failure: the service cannot be measured.
    """
    entry = next(each for each in ENTRIES if each.name == OURS)
    loads: dict[str, Any] = {}
    functions: dict[str, Counter[str]] = {}
    samples = 0
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Path(folder)
        model = train(place / "model", *SIZES[0])
        with running(entry, environment(entry), model, place) as server:
            server.check(model)
            load.warm_up(server, model, place)
            for rows, connections in LOADS:
                name = load.label(rows, connections)
                body = place / f"body-{rows}.json"
                body.write_bytes(encode(entry.body(model, rows)))
                with step(f"profile {name}"):
                    cpu = load.measure(server, entry.name, body, connections, seconds)["cpu_us"]
                    stacks = _sampled(server, body, connections, seconds, place)
                shares = stages(stacks)
                count = sum(each.total() for each in shares.values())
                samples += count
                loads[name] = {
                    "cpu_us": cpu,
                    "stages": {stage: round(cpu * of_it.total() / count, 1) for stage, of_it in shares.items()},
                }
                for stage, of_it in shares.items():
                    functions.setdefault(stage, Counter()).update(of_it)
    order = sorted(functions, key=lambda stage: -loads[load.label(1, 16)]["stages"].get(stage, 0))
    named = {stage: ", ".join(f"`{name}`" for name, _ in functions[stage].most_common(3)) for stage in order}
    return {"date": datetime.now(UTC).date().isoformat(), "samples": samples, "loads": loads, "stages": named}


def stages(stacks: dict[str, int]) -> dict[str, Counter[str]]:
    """Return by stage how often which function was seen there.

    Args:
        stacks: number of samples by stack; frames from the outermost, as `function (file:line)`, between semicolons.
    """
    found: dict[str, Counter[str]] = {}
    for stack, count in stacks.items():
        frames = [frame.rpartition(":")[0] for frame in reversed(stack.split(";"))]
        known = ((stage, frame) for frame in frames for stage, marks in STAGES if any(mark in frame for mark in marks))
        if first := next(known, None):  # else a thread that waits for work, and only looks busy
            found.setdefault(first[0], Counter())[first[1].partition(" (")[0]] += count
    return found


def _sampled(server: Server, body: Path, connections: int, seconds: int, place: Path) -> dict[str, int]:
    """Return how often each stack was seen on the processor under load."""
    raw = place / f"{body.stem}-{connections}.stacks"
    program: list[str | Path] = [
        tool(PY_SPY) / "bin" / "py-spy",
        "record",
        "--format",
        "raw",
        "--output",
        raw,
        "--nonblocking",
    ]
    arguments = ["--rate", str(HERTZ), "--duration", str(seconds), "--pid", str(server.pid)]
    with subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as spy:
        load.measure(server, server.entry.name, body, connections, seconds + 2)
        said = spy.communicate(timeout=60)[0]
    if spy.returncode or not raw.exists():
        raise Failure(f"py-spy cannot look at the service: {said[-300:]} Run as root, or allow ptrace.")
    lines = (line.rpartition(" ") for line in raw.read_text().splitlines())
    return {stack: int(count) for stack, _, count in lines}
