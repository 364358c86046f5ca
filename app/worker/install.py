"""Makes the environment of a model with pip, in an init container of the model's image.

`python3 -m model_service_worker.install` uses the standard library only. An environment is named after the digest of
its requirements. It is made under a different name and renamed when it is complete, so pods that share a volume install
once, and none of them sees half of an environment.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_INDEX = "https://pypi.org/simple"
_LAST_LINES = 60  # of pip's output, which contain the cause of a failure


class InstallError(Exception):
    """The environment cannot be made; the message is a sentence with a remedy."""


def install(options: argparse.Namespace) -> Path:
    """Make the environment, or find the complete one of an earlier pod, and return its folder.

    Raises:
        InstallError: A package cannot be installed.
    """
    try:
        requirements = options.requirements.read_bytes()
    except OSError as error:
        raise InstallError(
            f"the requirements cannot be read: {error}; check that the init container stage ran"
        ) from None
    key = hashlib.sha256(b"\0".join([requirements, platform.python_version().encode(), platform.machine().encode()]))
    folder: Path = options.environments / key.hexdigest()[:16]
    try:
        with _alone(folder):
            if (folder / "pyvenv.cfg").exists():
                print(f"the environment {folder} is complete already", flush=True)
                return folder
            partial = folder.with_name(f"{folder.name}.{os.getpid()}.{platform.node()}.partial")
            try:
                venv.EnvBuilder(symlinks=True).create(partial)
                _pip(options, partial)
                with suppress(OSError):  # a pod without the lock was faster
                    partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise InstallError(
            f"{options.environments} cannot be written to ({error.strerror}); check the volume and its free space, or "
            "set pod.securityContext.fsGroup"
        ) from None
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of an environment that other pods may also make; it has no effect on file systems without locks."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _pip(options: argparse.Namespace, environment: Path) -> None:
    command = [*_installer(), "--python", str(environment / "bin" / "python"), "install", "--no-input"]
    command += [
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "-r",
        str(options.requirements),
    ]
    if options.require_hashes:
        command.append("--require-hashes")
    if not options.allow_source:
        command += ["--only-binary", ":all:"]
    if options.wheelhouse:
        command += ["--no-index", "--find-links", str(options.wheelhouse)]
    elif options.index:
        command += ["--index-url", options.index]
    if options.ca:
        command += ["--cert", str(options.ca)]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        environ = {**os.environ, **_credentials(options.index, Path(work))}
        lines = []
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
        ) as running:
            timer = threading.Timer(options.seconds, running.kill)
            timer.start()
            for line in running.stdout or ():
                print(line, end="", flush=True)
                lines.append(line.strip())
            failed = running.wait()
            timer.cancel()
        if time.monotonic() - begin > options.seconds:
            raise InstallError(
                f"the packages were not installed within {options.seconds:g} s; raise "
                "model.environment.timeoutSeconds, or use an image that contains the packages"
            )
        if failed:
            raise InstallError(reason(lines[-_LAST_LINES:], options))
    size = sum(path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"installed {size / 1e6:.0f} MB in {time.monotonic() - begin:.1f} s", flush=True)


def _installer() -> list[str]:
    """Return the command of pip. Debian's Python has none, but brings the one for new environments."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    folder = Path(tempfile.gettempdir()) / "pip"
    try:
        venv.EnvBuilder(with_pip=True, symlinks=True, clear=True).create(folder)
    except (subprocess.CalledProcessError, ImportError, OSError):
        raise InstallError(
            "the image has neither pip nor ensurepip; use an image such as python:3.12-slim, or one that contains the "
            "model's packages, with model.environment.install=false"
        ) from None
    return [str(folder / "bin" / "python"), "-m", "pip"]


def _credentials(index: str, folder: Path) -> dict[str, str]:
    """Write the credentials of the index into a file for pip, so that its arguments and log do not contain them."""
    user, password = os.environ.get("INDEX_USERNAME", ""), os.environ.get("INDEX_PASSWORD", "")
    if not user or not index:
        return {}
    path = folder / "netrc"
    path.write_text(f"machine {urlsplit(index).hostname} login {user} password {password}\n")
    path.chmod(0o600)
    return {"NETRC": str(path)}


def reason(lines: list[str], options: argparse.Namespace) -> str:
    """Return why pip failed, with the package, the index and a remedy, given the last lines of its output."""
    text = "\n".join(lines)
    where = str(options.wheelhouse) if options.wheelhouse else options.index or DEFAULT_INDEX
    python = ".".join(platform.python_version_tuple()[:2])
    if "DO NOT MATCH THE HASHES" in text:
        package = _first(r"^\s*(\S+==\S+|\S+) from ", text.split("DO NOT MATCH THE HASHES", 1)[1]) or "a package"
        return (
            f"{package} from {where} does not have the hash of the lock; find out who changed it, or write a new lock "
            "for the packages that you trust"
        )
    if "Hashes are required" in text or "must have their versions pinned" in text:
        return "the lock does not contain a hash for each package; write a new one"
    unreachable = re.search(r"(Name or service not known|Temporary failure in name resolution|Connection refused|"
                            r"Connection to \S+ timed out|ConnectTimeout|CERTIFICATE_VERIFY_FAILED|"
                            r"Network is unreachable|No route to host)", text)  # fmt: skip
    package = _first(r"No matching distribution found for (.+)", text)
    package = package or _first(r"Could not find a version that satisfies the requirement ([^\s(]+)", text)
    if unreachable:
        return (
            f"the index {where} cannot be reached ({unreachable[1]})"
            + (f", which {package} is needed from" if package else "")
            + "; set model.environment.index.url, .caBundle or .wheelhouse.existingClaim, and check the network policy"
        )
    if re.search(r"\b40[13]\b.*(Client Error|Unauthorized|Forbidden)", text):
        return f"the index {where} rejected the credentials; check the Secret in model.environment.index.existingSecret"
    if package:
        found = _first(r"from versions: ([^)]*)\)", text)
        known = "no version" if found in ("", "none") else f"only {found[-200:]}"
        return (
            f"{package} is not available as a wheel for Python {python} at {where}, which has {known}; correct the "
            "model's requirements, provide the wheel, or set model.environment.allowSource=true for a source package"
        )
    if "ResolutionImpossible" in text or "conflicting dependencies" in text:
        detail = _first(r"Cannot install (.+?) because", text)
        named = f": {detail}" if detail else ""
        return f"the requirements contradict each other{named}; set model.environment.lock to a lock that resolves"
    if "No space left on device" in text:
        return "the volume for the packages is full; free space, or use model.environment.existingClaim"
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), "pip failed")
    return f"{last[:300]} ({where}); see the log of the init container environment"


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else ""


def link(path: Path, folder: Path) -> None:
    """Let a link lead to the environment, whose name the container of the model does not know."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(folder)
    new.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Make the environment, and return the exit status."""
    parser = argparse.ArgumentParser(description="Make the environment of a model.")
    parser.add_argument("--requirements", required=True, type=Path, help="requirements, or a lock with hashes")
    parser.add_argument("--environments", required=True, type=Path, help="folder of environments, such as a volume")
    parser.add_argument("--link", required=True, type=Path, help="link to create")
    parser.add_argument("--require-hashes", action="store_true", help="refuse packages without a hash")
    parser.add_argument("--allow-source", action="store_true", help="build packages that have no wheel")
    parser.add_argument("--wheelhouse", type=Path, help="folder of wheels to use instead of an index")
    parser.add_argument("--index", default="", help="URL of the package index")
    parser.add_argument("--ca", type=Path, help="file of the certificate authorities of the index")
    parser.add_argument("--seconds", type=float, default=900, help="time limit")
    parser.add_argument("--message", type=Path, default=Path("/dev/termination-log"), help="file for the reason")
    options = parser.parse_args(arguments)
    try:
        link(options.link, install(options))
    except InstallError as error:
        sentence = f"Cannot make the model's environment: {error}."
        print(sentence, file=sys.stderr, flush=True)
        with suppress(OSError):
            options.message.write_text(sentence + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
