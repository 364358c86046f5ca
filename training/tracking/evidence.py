"""The files of a run that show its code and packages: lock file, installed packages, and uncommitted changes.

They are collected before the training, because a person may edit the code while it runs.
"""

import logging
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import load_text

from training.environment import LOCK, ROOT, Environment, installed_packages

FOLDER = "environment"
PACKAGES_FILE = "packages.txt"
DIFF_FILE = "uncommitted.diff"
MOST_BYTES = 1 << 20  # of the diff
_MOST_NAMES = 200  # of untracked files

_PACKAGE = re.compile(r"(\S+)==(\S+) sha256:([0-9a-f]{64})")

log = logging.getLogger("training")


def collect(environment: Environment, tree: Path = ROOT) -> dict[str, bytes]:
    """Return the content of each file by its name.

    Args:
        environment: The environment of this process.
        tree: Work tree of the code, if it has one.
    """
    files = {PACKAGES_FILE: installed_packages().encode()}
    if LOCK.exists():
        files[LOCK.name] = LOCK.read_bytes()
    if environment.git_dirty:
        files[DIFF_FILE] = _changes(tree, environment.git_commit)
    return files


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files.

    Raises:
        OSError: There is no room or no permission.
    """
    (folder / FOLDER).mkdir()
    for name, content in files.items():
        (folder / FOLDER / name).write_bytes(content)


def names(client: MlflowClient, run_id: str) -> tuple[str, ...]:
    """Return the paths of the files in a run.

    Raises:
        mlflow.exceptions.MlflowException, OSError: MLflow is unreachable.
    """
    return tuple(file.path for file in client.list_artifacts(run_id, FOLDER))


def recorded_packages(client: MlflowClient, run_id: str) -> str:
    """Return the packages of a run, or "" if an earlier release did not record them.

    Raises:
        mlflow.exceptions.MlflowException, OSError: MLflow is unreachable.
    """
    path = f"{FOLDER}/{PACKAGES_FILE}"
    return load_text(f"{client.get_run(run_id).info.artifact_uri}/{path}") if path in names(client, run_id) else ""


def versions(text: str) -> dict[str, str]:
    """Return the version and the start of the digest of each package."""
    return {name: f"{version} ({digest[:12]})" for name, version, digest in _PACKAGE.findall(text)}


def _changes(tree: Path, commit: str) -> bytes:
    """Return the difference between a commit and the work tree.

    Untracked files are named, but their content is not included. Files that git ignores do not appear.
    """
    untracked = _git(tree, ["ls-files", "--others", "--exclude-standard"]).decode(errors="replace").splitlines()
    listed = [f"# Untracked file, whose content is not recorded: {name}\n" for name in untracked[:_MOST_NAMES]]
    if more := len(untracked) - len(listed):
        listed.append(f"# {more} more untracked files\n")
    diff = _git(tree, ["diff", "--no-ext-diff", "--no-textconv", "--no-color", commit, "--"])
    if len(diff) > MOST_BYTES:
        whole_lines = diff[: diff.rfind(b"\n", 0, MOST_BYTES) + 1]
        diff = whole_lines + f"# Cut: the changes are longer than {MOST_BYTES:,} bytes.\n".encode()
        log.warning("%s is cut after %d bytes: commit large changes before the training", DIFF_FILE, MOST_BYTES)
    if not diff:
        diff = f"# The changes since commit {commit} are unknown: no work tree here contains them.\n".encode()
        log.warning("the code differs from commit %s, but its changes cannot be recorded: train from a commit", commit)
    return "".join(listed).encode() + diff


def _git(tree: Path, arguments: list[str]) -> bytes:
    """Return the output of git, one byte more than `MOST_BYTES` at most, or nothing without git or a work tree."""
    if not (tree / ".git").exists():
        return b""
    command = ["git", "-C", str(tree), *arguments]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None  # noqa: S101 - a pipe
            output = process.stdout.read(MOST_BYTES + 1)
            process.kill()
    except OSError:
        return b""
    return output
