"""The workflows as act runs them on this machine, with stand-ins for make and for the actions of others.

act executes the `run` lines of a job in a copy of the folder that it is started in. It therefore gets a folder whose
Makefile only records its targets (recorder.py), and never this checkout.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.charts import program
from tools.cluster.cache import ROOT
from tools.cluster.console import run

RECORDER = Path(__file__).with_name("recorder.py")
RUNNERS = ("ubuntu-24.04", "ubuntu-24.04-arm")
# act 0.2.89 does not know this key (nektos/act#6095).
QUEUE = "  queue: max\n"


@dataclass(frozen=True)
class Call:
    """A call of make or of an action in a job."""

    job: str
    kind: str
    name: str
    inputs: dict[str, str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Run:
    """A run of a workflow."""

    green: bool
    calls: list[Call]
    output: str

    def jobs(self) -> list[str]:
        """Return the jobs that ran, in the order in which they started."""
        return list(dict.fromkeys(call.job for call in self.calls))

    def verbs(self, job: str) -> list[str]:
        """Return the targets of make that a job called, in order; of a matrix, those of all its jobs."""
        return [call.name for call in self.calls if call.job == job and call.kind == "make"]

    def make(self, verb: str) -> list[Call]:
        """Return the calls of a target of make."""
        return [call for call in self.calls if call.kind == "make" and call.name == verb]

    def actions(self, name: str) -> list[Call]:
        """Return the uses of an action."""
        return [call for call in self.calls if call.kind == "action" and call.name == name]


class Repository:
    """A repository with this checkout's workflows and tools."""

    def __init__(self, folder: Path, owner: str = "model-service") -> None:
        """Args:
        folder: Where it is made, with the records of the runs.
        owner: Its owner on GitHub.
        """
        self._folder, self._checkout = folder, folder / "checkout"
        self._stubs = folder / "stubs"
        for name in (".github", "tools"):
            shutil.copytree(ROOT / name, self._checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / ".go-version", self._checkout)
        release = self._checkout / ".github" / "workflows" / "release.yaml"
        release.write_text(release.read_text().replace(QUEUE, ""))
        call = f"RECORDS={folder}/records {sys.executable} -I {RECORDER} make $@"
        (self._checkout / "Makefile").write_text(f"Makefile: ;\n%:\n\t@{call}\n")
        (self._checkout / ".gitignore").write_text("build/\n")
        origin = f"https://github.com/{owner}/model-service"
        for command in (
            ["init", "--quiet", "--initial-branch=main"], ["remote", "add", "origin", origin], ["add", "."],
            ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "feat: a commit"],
        ):  # fmt: skip
            run(["git", "-C", self._checkout, *command])
        self._repositories = [f"--local-repository={used}={self._stub(used)}" for used in sorted(self._uses())]

    def edit(self, path: str, before: str, after: str) -> None:
        """Replace a text in a file of the repository, which must contain it."""
        file = self._checkout / path
        assert before in file.read_text(), f"{path} does not contain {before!r}"
        file.write_text(file.read_text().replace(before, after))

    def push(
        self, reference: str = "refs/heads/main", *, red: str = "", variables: Mapping[str, str] | None = None
    ) -> Run:
        """Run release.yaml as a push of a branch or a tag does.

        Args:
            reference: Full name of what is pushed.
            red: Targets of make that fail, separated by spaces.
            variables: Variables of the repository and its environment.
        """
        return self._run("push", "release", {"ref": reference}, red, variables or {})

    def pull_request(self, workflow: str, *, red: str = "") -> Run:
        """Run a workflow as a pull request does."""
        event = {"pull_request": {"base": {"ref": "main", "sha": "b" * 40}, "head": {"ref": "change", "sha": "c" * 40}}}
        return self._run("pull_request", workflow, event, red, {})

    def _run(self, event: str, workflow: str, payload: object, red: str, variables: Mapping[str, str]) -> Run:
        records = self._folder / "records"
        shutil.rmtree(records, ignore_errors=True)
        records.mkdir()
        (records / "red").write_text(red)
        (records / "calls").touch()
        (records / "event.json").write_text(json.dumps(payload))
        command = [program("act"), event, f"--eventpath={records}/event.json", "--secret=GITHUB_TOKEN=token"]
        command += [f"--workflows={self._checkout}/.github/workflows/{workflow}.yaml", f"--directory={self._checkout}"]
        command += [f"--platform={runner}=-self-hosted" for runner in RUNNERS]
        command += [f"--var={name}={value}" for name, value in variables.items()]
        command += ["--pull=false", "--no-cache-server", *self._repositories]
        home = {"HOME": str(self._folder / "home"), "XDG_CACHE_HOME": str(self._folder / "home" / "cache")}
        done = subprocess.run(
            command, cwd=self._checkout, env={**os.environ, **home}, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        calls = [Call(**json.loads(line)) for line in (records / "calls").read_text().splitlines()]
        return Run(done.returncode == 0, calls, done.stdout + done.stderr)

    def _files(self) -> list[Path]:
        return [path for path in (self._checkout / ".github").rglob("*.yaml") if "deploy-model" not in path.parts]

    def _uses(self) -> dict[str, set[str]]:
        """Return the inputs that are given to each action of others, `owner/name@commit`."""
        found: dict[str, set[str]] = {}
        for path in self._files():
            for step in _steps(yaml.safe_load(path.read_text())):
                used = step.get("uses", "./")
                if not used.startswith("./"):
                    owner, name, *_ = used.partition("@")[0].split("/")
                    found.setdefault(f"{owner}/{name}@{used.partition('@')[2]}", set()).update(step.get("with", {}))
        return found

    def _stub(self, used: str) -> Path:
        """Write an action that records its inputs, and return its folder."""
        name = used.partition("@")[0]
        folder = self._stubs / name
        inputs = {given: {"required": False} for given in self._uses()[used]}
        step = {
            "shell": "bash",
            "run": f"RECORDS={self._folder}/records {sys.executable} -I {RECORDER} action {name}",
            "env": {"INPUTS": "${{ toJSON(inputs) }}"},
        }
        action = {"name": name, "inputs": inputs, "runs": {"using": "composite", "steps": [step]}}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "action.yml").write_text(yaml.safe_dump(action))
        for sub in re.findall(rf"uses: {re.escape(name)}/([\w-]+)@", "".join(p.read_text() for p in self._files())):
            (folder / sub).mkdir(exist_ok=True)
            (folder / sub / "action.yml").write_text(yaml.safe_dump(action))
        return folder


def _steps(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of all jobs of a workflow, or of an action."""
    if "runs" in document:
        return list(document["runs"]["steps"])
    return [step for job in document.get("jobs", {}).values() for step in job.get("steps", ())]
