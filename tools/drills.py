"""Page with the results of the drills: `python -m tools.drills` after `pytest tests/e2e/drills`.

It merges the results in build/drills into docs/reference/reliability.json and writes docs/reference/reliability.md.
"""

import json
from datetime import UTC, datetime
from typing import Any

from tools.cluster.cache import ROOT

RESULTS = ROOT / "build" / "drills"  # one file for each drill
DATA = ROOT / "docs" / "reference" / "reliability.json"
PAGE = DATA.with_suffix(".md")
INTRODUCTION = """# Reliability

What clients of a release see while something fails. Each row is a test that breaks something on purpose while real
requests arrive. The test fails if the promise is broken.

* The release is installed with the defaults of the chart: two pods, on two workers of a kind cluster. Only the CPU
  request is smaller.
* Clients send at least 5,000 requests. Half of them keep their connections, the others open one for each request. No
  request is repeated. A client waits at most 10 s for a response.
* *Failed*: no response, or a status other than 200. *Refused*: a 429 or a 503 with `Retry-After`. *Recovered after*:
  from the first failure to the last. *Slowest*: the longest time to a response.
* *Alerts*: those that the fault raised, at least pending. A test fails if another alert fires, and if an alert does not
  end.

Run them with `make up` and `make test-long`, and write this page with `python -m tools.drills`.

"""


def page(drills: list[dict[str, Any]]) -> str:
    """Return the page.

    Args:
        drills: Results, each with the fields of `tests.e2e.drills.drill.Record` and `date`.
    """
    head = "| Fault | Promise | Requests | Failed | Refused | Recovered after, s | Slowest, s | Alerts | Date |"
    lines = [head, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for each in drills:
        counts = [f"{each[key]:,}" for key in ("requests", "failures", "refused")]
        times = [f"{each['failing_seconds']:.1f}" if each["failures"] else "", f"{each['slowest_seconds']:.1f}"]
        alerts = ", ".join(f"[{name}](../runbooks.md#{name.lower()})" for name in each["alerts"])
        cells = [_sentence(each["fault"]), _sentence(each["promise"]), *counts, *times, alerts, each["date"]]
        lines.append(f"| {' | '.join(cells)} |")
    return INTRODUCTION + "\n".join(lines) + "\n"


def _sentence(phrase: str) -> str:
    return phrase[0].upper() + phrase[1:]


def _main() -> None:
    known = {each["name"]: each for each in json.loads(DATA.read_text())} if DATA.exists() else {}
    for file in RESULTS.glob("*.json"):
        date = datetime.fromtimestamp(file.stat().st_mtime, UTC).date().isoformat()
        found = json.loads(file.read_text()) | {"date": date}
        known[found["name"]] = found
    drills = [known[name] for name in sorted(known, key=str.lower)]
    DATA.write_text(json.dumps(drills, indent=2) + "\n")
    PAGE.write_text(page(drills))


if __name__ == "__main__":
    _main()
