"""The environment of a job on GitHub's ubuntu-24.04, as far as it decides which programs are found.

After actions/setup-go, PATH begins with its Go, and GOTOOLCHAIN=local keeps Go from fetching a newer one. The
system has a Go that is too old for our modules, and its own Helm and kubectl in the same folder. uv is not installed.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYSTEM_GO = "the Go of the system is too old"
# Programs of the image and their versions; they print only that.
SYSTEM = {"helm": "v3.21.3+g9d8c9f5", "kubectl": "Client Version: v1.36.4", "kind": "kind v0.33.0 go1.26.0 linux/amd64"}


def environment(folder: Path, cache: Path | None = None) -> dict[str, str]:
    """Return the environment of a step after actions/setup-go.

    Args:
        folder: Where the programs of the system are written, and the home directory is.
        cache: The project's cache; without it, an empty one.
    """
    system, setup_go, home = folder / "usr-bin", folder / "setup-go", folder / "home"
    for made in (system, setup_go, home):
        made.mkdir(parents=True)
    _write(system / "go", f"echo '{SYSTEM_GO}' >&2; exit 1")
    for name, version in SYSTEM.items():
        _write(system / name, f"echo '{version}'")
    go = shutil.which("go")
    assert go, "Go is not installed"
    (setup_go / "go").symlink_to(Path(go).resolve())
    others = [each for each in os.environ["PATH"].split(os.pathsep) if not _left_out(Path(each))]
    kept = ("LANG", "TERM", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GOPROXY", "GOFLAGS", "GONOSUMDB")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    found |= {"PATH": os.pathsep.join([str(setup_go), str(system), *others]), "HOME": str(home), "USER": "runner"}
    found |= {"GOTOOLCHAIN": "local", "CI": "true", "GITHUB_ACTIONS": "true", "LOGNAME": "runner"}
    if cache:
        found["MODEL_SERVICE_CACHE"] = str(cache)
    return found


def _write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _left_out(folder: Path) -> bool:
    """Return whether a folder of PATH is ours, or has a uv."""
    return ".venv" in folder.parts or "launchers" in folder.parts or (folder / "uv").exists()


@contextmanager
def owned_by(user: int, *folders: Path) -> Iterator[None]:
    """Give folders and what is in them to a user, and open the way to them."""
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user, user, follow_symlinks=False)
        for parent in folder.parents:
            if str(parent).startswith(("/tmp/", "/var/")):  # noqa: S108 - where pytest makes its folders
                parent.chmod(parent.stat().st_mode | 0o111)
    yield
