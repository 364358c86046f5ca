"""The release workflow run here: its jobs' own make verbs in the order of `needs`, where what is red stops the rest."""

import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tools.cluster.console import say


class Ran(NamedTuple):
    """A make verb that was run, and how it ended."""

    job: str
    verb: str
    code: int
    said: str


def rehearse(folder: Path, env: Mapping[str, str], verbs: Collection[str]) -> list[Ran]:
    """Run a checkout's release.yaml and return what ran.

    Args:
        folder: the checkout.
        env: the environment of each verb.
        verbs: what can be run here; the rest (GitHub's actions, what is proven elsewhere) counts as green.
    """
    jobs = _jobs(folder / ".github" / "workflows" / "release.yaml")
    green: dict[str, bool] = {}
    ran: list[Ran] = []
    while left := [name for name in jobs if name not in green]:
        name = next(name for name in left if _needs(jobs[name]) <= green.keys())
        green[name] = all(green[needed] for needed in _needs(jobs[name]))
        if green[name]:
            ended = list(_run(name, [verb for verb in _verbs(jobs[name], folder) if verb in verbs], folder, env))
            green[name] = all(each.code == 0 for each in ended)
            ran += ended
    return ran


def _jobs(workflow: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(workflow.read_text())["jobs"])


def _needs(job: dict[str, Any]) -> set[str]:
    needs = job.get("needs", [])
    return {needs} if isinstance(needs, str) else set(needs)


def _verbs(job: dict[str, Any], folder: Path) -> list[str]:
    """Return the make verbs of a job, or those of the workflow that it calls."""
    if "uses" in job:
        return [verb for called in _jobs(folder / job["uses"]).values() for verb in _verbs(called, folder)]
    lines = [step["run"] for step in job["steps"] if "run" in step]
    return [verb for line in lines for verb in re.findall(r"^make ([a-z0-9-]+)$", line)]


def _run(job: str, verbs: list[str], folder: Path, env: Mapping[str, str]) -> Iterator[Ran]:
    """Run verbs up to the first that fails."""
    for verb in verbs:
        command = ["make", "--no-print-directory", verb]
        said = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=1500, check=False)
        say(f"  {'✗' if said.returncode else '✓'}  job {job}: make {verb}")
        yield Ran(job, verb, said.returncode, said.stdout + said.stderr)
        if said.returncode:
            return
