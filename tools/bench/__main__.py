"""Benchmarks of the service and its rivals in one run of 25 minutes: `tools/python -m tools.bench`.

* `python -m tools.bench report` writes benchmark.md and the README's table from docs/reference/benchmark.json again.
* `python -m tools.bench profile` shows where the CPU time of POST /predict goes.
* `python -m tools.bench metrics` shows the share of the metrics. It exits with 1 above one fifth at one row.
* `python -m tools.bench challenger` shows the share of a challenger. It exits with 1 above one twentieth at one row.
* `python -m tools.bench log` shows the share of the inference log. It exits with 1 above 3 % at one row.
* `python -m tools.bench.render` measures `helm template`, `python -m tools.bench.jobs` training and batch scoring.

They need two cores, wrk and taskset (installed for root on Debian), and 4 GB in the cache, most of it for the rivals.
"""

import argparse
import json
import sys

from tools.bench import load, overhead, profile, report, run
from tools.bench.entries import ENTRIES
from tools.bench.models import SIZES
from tools.cluster.console import Failure


def main() -> int:
    arguments = _arguments()
    try:
        if arguments.verb in ("run", "profile", *overhead.MOST):
            load.preflight()
        if arguments.verb == "install":
            return 1 if run.install(arguments.only)[1] else 0
        if arguments.verb == "run":
            result = run.measured(
                arguments.only, arguments.models, arguments.rounds, arguments.seconds, resume=arguments.resume
            )
            before = json.loads(report.RESULT.read_text()) if report.RESULT.exists() else {}
            result |= {chapter: before[chapter] for chapter in ("profile", *overhead.MOST) if chapter in before}
            print(f"\n{report.document(result)}")
        elif arguments.verb == "profile":
            found = profile.measured(arguments.seconds)
            print(f"\n{report.profiled(found)}")
            result = (json.loads(report.RESULT.read_text()) if arguments.write else {}) | {"profile": found}
        elif arguments.verb in overhead.MOST:
            cost = overhead.measured(arguments.verb, arguments.rounds, arguments.seconds)
            print(f"\n{report.COSTS[arguments.verb](cost)}")
            result = (json.loads(report.RESULT.read_text()) if arguments.write else {}) | {arguments.verb: cost}
        else:
            result = json.loads(report.RESULT.read_text())
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    if arguments.write or arguments.verb == "report":
        report.RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        report.DOCUMENT.write_text(report.document(result))
        report.README.write_text(report.with_table(report.README.read_text(), report.short(result)))
    return int(arguments.verb in overhead.MOST and overhead.too_much(arguments.verb, result[arguments.verb]))


def _arguments() -> argparse.Namespace:
    names = [entry.name for entry in ENTRIES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "verb", nargs="?", default="run", choices=("run", "install", "profile", *overhead.MOST, "report")
    )
    parser.add_argument("--only", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--models", type=int, default=len(SIZES), help="how many of the models, the small one first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--resume", action="store_true", help="resume the interrupted run")
    parser.add_argument("--write", action="store_true", help="write benchmark.json, the report and the README's table")
    arguments = parser.parse_args()
    arguments.only = arguments.only.split(",")
    if unknown := set(arguments.only) - set(names):
        parser.error(f"--only names {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
