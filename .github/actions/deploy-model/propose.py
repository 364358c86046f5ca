"""Program that sets a model's version in a GitOps file and pushes the change as a branch.

It runs in pipelines of other projects and uses only the standard library. Its input is MODEL_FILE, MODEL_NAME,
MODEL_VERSION and MODEL_SHA256. Branch, title and body go to GITHUB_OUTPUT. If it prints a sentence, it pushed nothing.
"""

import os
import re
import subprocess
import sys
from pathlib import Path


class Refused(Exception):  # noqa: N818 - the word a person reads
    """What is asked for cannot be done; the text is one sentence."""


def changed(text: str, model: str, version: str, sha256: str) -> tuple[str, str]:
    """Return the file's new text and the version that it named before.

    Raises:
        Refused: the model is not in it just once, has this version, or pins a digest that nobody gave.
    """
    if not re.fullmatch(r"[1-9]\d*", version):
        raise Refused(f"version={version} is not a number. Name the version as the registry does, for example 7.")
    if not re.fullmatch(r"[\w.-][\w. -]*", model):
        raise Refused(f"model={model!r} is not a valid name of a registered model.")
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise Refused(
            "sha256 is not a digest of 64 hexadecimal digits. Copy it from GET /model (docs/reference/digest.md)."
        )
    uri = re.compile(rf"(\buri:\s*[\"']?models:/{re.escape(model)}[/@])([\w.-]+)")
    pin = re.compile(r"(\bsha256:\s*[\"']?)[0-9a-f]{64}\b")
    found = uri.findall(text)
    if len(found) != 1:
        raise Refused(f"The file names models:/{model}/… {len(found)} times as a uri, and it must do so once.")
    before = found[0][1]
    if before == version:
        raise Refused(f"The file has version {version} of {model} already.")
    pinned = len(pin.findall(text))
    if pinned > 1 or bool(pinned) != bool(sha256):
        raise Refused(f"The file pins {pinned} digests, and {int(bool(sha256))} is given as sha256: give one for one.")
    text = uri.sub(lambda match: f"{match[1].rstrip('@/')}/{version}", text)
    return pin.sub(lambda match: match[1] + sha256, text), before


def main() -> int:
    """Change, commit and push; return 1 after a sentence when that cannot be."""
    file, model, version = Path(os.environ["MODEL_FILE"]), os.environ["MODEL_NAME"], os.environ["MODEL_VERSION"]
    try:
        if not file.is_file():
            raise Refused(f"{file} is not a file in this checkout. Name the file with the release's values.")
        text, before = changed(file.read_text(), model, version, os.environ.get("MODEL_SHA256", ""))
        branch = f"deploy/{re.sub(r'[^A-Za-z0-9._-]', '-', model)}-{version}"
        if _git("ls-remote", "--heads", "origin", branch):
            raise Refused(f"Branch {branch} already exists: the version is proposed.")
    except Refused as refused:
        sys.stdout.write(f"error: {refused}\n")
        return 1
    title = f"deploy: {model} {version}"
    body = f"Version {version} of {model} instead of {before}, in {file}. Revert the merge to undo it."
    _git("switch", "--quiet", "--create", branch)
    file.write_text(text)
    author = ["-c", "user.name=github-actions[bot]", "-c", "user.email=github-actions[bot]@users.noreply.github.com"]
    _git(*author, "commit", "--quiet", "--message", f"{title}\n\n{body}", "--", str(file))
    _git("push", "--quiet", "origin", branch)
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as outputs:
        outputs.write(f"branch={branch}\ntitle={title}\nbody={body}\n")
    return 0


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
