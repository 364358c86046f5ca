"""Program that builds and pushes the image of a model's packages, and pushes its values as a branch.

It runs in pipelines of other projects and uses only the standard library, git and docker with buildx. Its input is
MODEL_URI, MODEL_IMAGE, MODEL_BASE, MODEL_FILE, MODEL_PLATFORMS, TRAINING_IMAGE and MLFLOW_TRACKING_URI. Digest, branch,
title and body go to GITHUB_OUTPUT. A second run that leads to the same values pushes no branch.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

AUTHOR = "github-actions[bot]@users.noreply.github.com"
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
# Platforms of Docker, and the machines for which `training lock` checks that the packages have wheels.
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_MODEL = re.compile(r"models:/(?P<name>[\w.-][\w. -]*)/(?P<version>[1-9]\d*)")
_PINNED = re.compile(r".+@sha256:[0-9a-f]{64}")


class Refused(Exception):  # noqa: N818 - the word a person reads
    """What is asked for cannot be done; the text is one sentence."""


def checked(model: str, platforms: str, **pinned: str) -> tuple[str, str, list[str]]:
    """Return the model's name, its version and the machines of the platforms.

    Raises:
        Refused: An input is malformed.
    """
    if not (found := _MODEL.fullmatch(model)):
        raise Refused(f"model={model!r} is not models:/<name>/<version>. An image belongs to one version.")
    for name, reference in pinned.items():
        if not _PINNED.fullmatch(reference):
            raise Refused(f"{name}={reference!r} has no digest. Write <image>@sha256:<digest>, which never changes.")
    machines = []
    for platform in platforms.split(","):
        if platform not in MACHINES:
            raise Refused(f"platforms={platforms!r}: {platform!r} is not one of {', '.join(MACHINES)}.")
        machines.append(MACHINES[platform])
    return found["name"], found["version"], machines


def written(folder: Path, machines: list[str]) -> str:
    """Let the training image write Dockerfile, lock and values into the folder, and return the values."""
    env = [part for name in (*CREDENTIALS, "MLFLOW_TRACKING_URI") for part in ("--env", name)]
    # The image's user has an id of its own; the folder belongs to this one.
    user = ("--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp", "--volume", f"{folder}:/output")
    _run(
        *("docker", "run", "--rm", *env, *user, os.environ["TRAINING_IMAGE"], "image", os.environ["MODEL_URI"]),
        *("--image", os.environ["MODEL_IMAGE"], "--base", os.environ["MODEL_BASE"], "--output", "/output"),
        *("--architectures", ",".join(machines)),
    )
    return (folder / "values.yaml").read_text()


def pushed(folder: Path) -> str:
    """Build the folder, push the image, and return its digest."""
    found = folder.parent / "metadata.json"
    image, platforms = os.environ["MODEL_IMAGE"], os.environ["MODEL_PLATFORMS"]
    _run(
        "docker", "buildx", "build", "--push", "--platform", platforms, "--tag", image, "--metadata-file", found, folder
    )
    return str(json.loads(found.read_text())["containerimage.digest"])


def with_digest(values: str, digest: str) -> str:
    """Return values that name the image by its digest as well.

    Raises:
        Refused: The training image wrote values that this action does not know.
    """
    found, count = re.subn(r"(?m)^(\s*)tag: (.*)$", rf"\1tag: \2\n\1digest: {digest}", values)
    if count != 1:
        raise Refused("values.yaml has no tag of an image. Use the action and the training image of the same release.")
    return found


def main() -> int:
    """Build, push, commit; return 1 after a sentence when that cannot be."""
    file = Path(os.environ["MODEL_FILE"])
    try:
        pins = {"base": os.environ["MODEL_BASE"], "training-image": os.environ["TRAINING_IMAGE"]}
        name, version, machines = checked(os.environ["MODEL_URI"], os.environ["MODEL_PLATFORMS"], **pins)
        if not file.parent.is_dir():
            raise Refused(f"file={str(file)!r}: {file.parent} is not a folder in this checkout.")
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "image"
            folder.mkdir()
            values = written(folder, machines)
            digest = pushed(folder)
        text = with_digest(values, digest)
    except Refused as refused:
        sys.stdout.write(f"error: {refused}\n")
        return 1
    except subprocess.CalledProcessError as failed:
        sys.stdout.write(
            f"error: {failed.cmd[0]} {failed.cmd[1]} ended with {failed.returncode}; its output is above.\n"
        )
        return 1
    outputs = {"digest": digest, "reference": f"{os.environ['MODEL_IMAGE']}@{digest}"}
    if file.is_file() and file.read_text() == text:
        sys.stdout.write(f"{file} names this image already.\n")
    else:
        outputs |= _branch(file, text, name, version)
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as to:
        to.writelines(f"{key}={value}\n" for key, value in outputs.items())
    return 0


def _branch(file: Path, text: str, name: str, version: str) -> dict[str, str]:
    """Push a branch with the values. One that an earlier run left behind is replaced."""
    branch = f"packages/{re.sub(r'[^A-Za-z0-9._-]', '-', name)}-{version}"
    title, body = f"deploy: packages of {name} {version}", f"An image with the packages of {name} {version}, in {file}."
    _run("git", "switch", "--quiet", "--force-create", branch)
    file.write_text(text)
    _run("git", "add", "--", file)
    author = ["-c", "user.name=github-actions[bot]", "-c", f"user.email={AUTHOR}"]
    _run("git", *author, "commit", "--quiet", "--message", f"{title}\n\n{body}")
    _run("git", "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
    return {"branch": branch, "title": title, "body": body}


def _run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True)


if __name__ == "__main__":
    sys.exit(main())
