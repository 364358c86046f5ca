"""Environments of the servers, one each, in the cache: the service's as its image has it, a rival's as documented."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

from tools.bench.entries import Entry
from tools.cluster.cache import CACHE, LOGS, ROOT, key_of
from tools.cluster.console import Failure, run, step
from tools.cluster.programs import KEPT_BUILDS

PLACE = CACHE / "bench"
DOCKERFILE = ROOT / "docker" / "app.Dockerfile"
AS_OF = "2026-11-24T00:00:00Z"  # what a rival does not pin itself is the newest of then
NICE = ("nice", "-n", "15")
# Packages, other than the product itself, that a figure may depend on.
NAMED = ("fastapi", "numpy", "pandas", "pydantic", "scikit-learn", "starlette", "uvicorn", "xgboost", "xgboost-cpu")
_REMEDY = "Check the network and uv's index settings, and the log; then run again."


def environment(entry: Entry) -> Path:
    """Return the folder of the entry's environment; make it when it is missing or stale.

    Raises:
        Failure: it cannot be installed.
    """
    recipe = [ROOT / "pyproject.toml", ROOT / "uv.lock", DOCKERFILE] if not entry.packages else []
    name = entry.name if entry.packages else "service"
    folder = PLACE / f"{name}-{key_of(recipe, entry.python, AS_OF, *entry.packages)}"
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    log = LOGS / f"bench-{name}.log"
    log.unlink(missing_ok=True)
    with step(f"install {name} (a minute or two when nothing is cached)", log):
        _uv(["venv", "--python", interpreter(entry.python), folder], log)
        if entry.packages:
            wanted: list[str | Path] = [
                "--python",
                folder / "bin" / "python",
                "--exclude-newer",
                AS_OF,
                "--compile-bytecode",
            ]
            _uv(["pip", "install", *wanted, *entry.packages], log)
        else:
            for each in image_commands(DOCKERFILE.read_text(), folder):
                _run(["sh", "-ec", each], log, UV_PROJECT_ENVIRONMENT=str(folder))
    (folder / "complete").touch()
    made = sorted(PLACE.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime)
    for old in made[:-KEPT_BUILDS]:
        shutil.rmtree(old)
    return folder


def image_commands(dockerfile: str, folder: Path) -> list[str]:
    """Return the commands that make the image's environment, for this folder: there is one list of packages left out.

    Raises:
        Failure: the form of the Dockerfile has changed, and this function cannot parse it.
    """
    text = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE))
    commands = [line.removeprefix("RUN ") for line in text.splitlines() if line.startswith("RUN ")]
    ours = [each for each in commands if "/opt/venv/lib" in each or " sync " in each]
    if not ours or " sync " not in ours[0]:
        raise Failure(f"{DOCKERFILE} has no RUN with uv sync. Teach tools/bench/environments.py how it installs.")
    paths = {"/opt/uv/bin/uv": shlex.quote(str(uv())), "/opt/venv": shlex.quote(str(folder))}
    for inside, here in paths.items():
        ours = [each.replace(inside, here) for each in ours]
    return ours


def sizes(folder: Path) -> dict[str, float]:
    """Return how many MB the packages are, and how many of them XGBoost and its GPU libraries."""
    total = xgboost = 0
    packages = next((folder / "lib").glob("python*/site-packages"))
    for path in packages.rglob("*"):
        if path.is_file() and not path.is_symlink():
            total += path.stat().st_size
            first = path.relative_to(packages).parts[0]
            if first.startswith("xgboost") or first.startswith("nvidia"):
                xgboost += path.stat().st_size
    return {"environment_mb": round(total / 1e6, 1), "xgboost_mb": round(xgboost / 1e6, 1)}


def versions(folder: Path, entry: Entry) -> dict[str, str]:
    """Return the versions of Python and of the packages that matter."""
    python = folder / "bin" / "python"
    named = {re.split(r"[\[=]", package)[0] for package in entry.packages} | set(NAMED)
    listed = json.loads(run([uv(), "pip", "list", "--format", "json", "--python", python]))
    found = {each["name"]: each["version"] for each in listed if each["name"] in named}
    return {"python": run([python, "-c", "import platform; print(platform.python_version())"]).strip(), **found}


def tool(package: str) -> Path:
    """Return the folder of a program that is only used to look at the service, pinned; install it when needed."""
    folder = PLACE / package.replace("==", "-")
    if not (folder / "complete").exists():
        log = LOGS / "bench-tool.log"
        _uv(["venv", "--clear", "--python", interpreter("3.13"), folder], log)
        _uv(["pip", "install", "--python", folder / "bin" / "python", package], log)
        (folder / "complete").touch()
    return folder


def uv() -> Path:
    """Return the uv that made the project's own environment."""
    return Path(shutil.which("uv") or CACHE / "uv" / "bin" / "uv")


def interpreter(version: str) -> str:
    """Return a Python that pyenv installed, which uv sees only for the project's own version; else uv finds one."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    return str(found[-1]) if found else version


def _uv(arguments: list[str | Path], log: Path) -> None:
    _run([uv(), *arguments], log)


def _run(command: list[str | Path], log: Path, **environment: str) -> None:
    clean = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    run([*NICE, *command], cwd=ROOT, env=clean | environment, log=log, timeout_seconds=1800, remedy=_REMEDY)
