"""Program that sets a model's version in a GitOps file and pushes the change as a branch.

It runs in pipelines of other projects, on GitHub and GitLab, and uses only the standard library. Its input is
MODEL_FILE, MODEL_NAME, and MODEL_VERSION with MODEL_SHA256 or MODEL_ALIAS with MLFLOW_TRACKING_URI. On GitHub, branch,
title and body go to GITHUB_OUTPUT. On GitLab, the push opens the merge request. If it prints a sentence, it pushed
nothing.

A second run with the same input changes nothing: it ends with 0 if the file has the version, and uses a branch again
that an earlier run left behind.
"""

import base64
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

SECONDS = 30
DIGEST_TAG = "sha256"  # of a version in MLflow, by training
AUTHOR = "github-actions[bot]@users.noreply.github.com"


class Refused(Exception):  # noqa: N818 - the word a person reads
    """What is asked for cannot be done; the text is one sentence."""


class Deployed(Exception):  # noqa: N818 - not an error
    """The file has the version already; the text is one sentence."""


def named(tracking: str, model: str, alias: str) -> tuple[str, str]:
    """Return the version that an alias names and its digest, "" if training did not register one.

    Raises:
        Refused: MLflow does not name a version.
    """
    if not re.match(r"https?://[^\s]+$", tracking):
        raise Refused(
            f"tracking-uri={tracking!r} is not a URL. Name the MLflow server, for example https://mlflow.example."
        )
    query = urllib.parse.urlencode({"name": model, "alias": alias})
    address = f"{tracking.rstrip('/')}/api/2.0/mlflow/registered-models/alias?{query}"
    request = urllib.request.Request(address, headers=_credentials())  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
            found = json.load(response)["model_version"]
            tags = {str(each["key"]): str(each["value"]) for each in found.get("tags", ())}
            return str(found["version"]), tags.get(DIGEST_TAG, "")
    except urllib.error.HTTPError as error:
        reasons = {401: "refuses the credentials", 403: "refuses the credentials", 404: "knows no such alias"}
        reason = reasons.get(error.code, f"responds with {error.code}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"is unreachable or is not MLflow ({type(error).__name__})"
    raise Refused(f"alias={alias} of {model}: {tracking} {reason}. Check tracking-uri, the credentials and the alias.")


def _credentials() -> dict[str, str]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def changed(text: str, model: str, version: str, sha256: str) -> tuple[str, str]:
    """Return the file's new text and the version that it named before.

    Raises:
        Refused: the model is not in it just once, or pins a digest that nobody gave.
        Deployed: the file has this version and digest.
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
    pin = re.compile(r"(\bsha256:\s*[\"']?)([0-9a-f]{64})\b")
    found = uri.findall(text)
    if len(found) != 1:
        raise Refused(f"The file names models:/{model}/… {len(found)} times as a uri, and it must do so once.")
    start, before = found[0]
    pinned = [digest for _, digest in pin.findall(text)]
    if len(pinned) > 1 or bool(pinned) != bool(sha256):
        raise Refused(
            f"The file pins {len(pinned)} digests, and {int(bool(sha256))} is given as sha256: give one for one."
        )
    if start.endswith("/") and before == version and pinned == ([sha256] if sha256 else []):
        raise Deployed(f"The file has version {version} of {model} already.")
    text = uri.sub(lambda match: f"{match[1].rstrip('@/')}/{version}", text)
    return pin.sub(lambda match: match[1] + sha256, text), before


def main() -> int:
    """Change, commit and push; return 1 after a sentence when that cannot be."""
    file, model, alias = Path(os.environ["MODEL_FILE"]), os.environ["MODEL_NAME"], os.environ.get("MODEL_ALIAS", "")
    version, sha256 = os.environ.get("MODEL_VERSION", ""), os.environ.get("MODEL_SHA256", "")
    try:
        if bool(alias) == bool(version):
            raise Refused(f"version={version!r} and alias={alias!r}: give exactly one of them.")
        if not file.is_file():
            raise Refused(f"{file} is not a file in this checkout. Name the file with the release's values.")
        before_text = file.read_text()
        if alias:
            version, registered = named(os.environ.get("MLFLOW_TRACKING_URI", ""), model, alias)
            # A digest is set only where the file pins one.
            sha256 = registered if re.search(r"\bsha256:\s*[\"']?[0-9a-f]{64}\b", before_text) else ""
        text, before = changed(before_text, model, version, sha256)
        branch = f"deploy/{re.sub(r'[^A-Za-z0-9._-]', '-', model)}-{version}"
        reused, stale = _left_behind(branch, file, before_text, text)
    except Deployed as deployed:
        sys.stdout.write(f"{deployed}\n")
        return 0
    except Refused as refused:
        sys.stdout.write(f"error: {refused}\n")
        return 1
    title = f"deploy: {model} {version}"
    body = f"Version {version} of {model} instead of {before}, in {file}. Revert the merge to undo it."
    if not reused:
        _git("switch", "--quiet", "--create", branch)
        file.write_text(text)
        author = ["-c", "user.name=github-actions[bot]", "-c", f"user.email={AUTHOR}"]
        _git(*author, "commit", "--quiet", "--message", f"{title}\n\n{body}", "--", str(file))
        # The branch of an earlier run that started from another state of the file is replaced, if it is still the same.
        lease = f"--force-with-lease=refs/heads/{branch}:{stale}"
        _git("push", "--quiet", lease, *_merge_request(title), "origin", f"HEAD:refs/heads/{branch}")
    if outputs := os.environ.get("GITHUB_OUTPUT"):
        with Path(outputs).open("a") as written:
            written.write(f"branch={branch}\ntitle={title}\nbody={body}\n")
    return 0


def _left_behind(branch: str, file: Path, before: str, text: str) -> tuple[bool, str]:
    """Return whether an earlier run pushed this change as the branch, and the commit that the branch has.

    Raises:
        Refused: The branch has a commit of somebody else.
    """
    if not _git("ls-remote", "--heads", "origin", f"refs/heads/{branch}"):
        return False, ""
    _git("fetch", "--quiet", "--depth=2", "origin", f"refs/heads/{branch}")
    author, commit = _git("show", "--no-patch", "--format=%ae %H", "FETCH_HEAD").split()
    if author != AUTHOR:
        raise Refused(f"Branch {branch} has a commit of {author}: merge or delete the branch.")
    shown = [
        subprocess.run(["git", "show", f"FETCH_HEAD{at}:./{file}"], capture_output=True, text=True, check=False)
        for at in ("~1", "")
    ]
    return [each.stdout for each in shown] == [before, text], commit


def _merge_request(title: str) -> list[str]:
    """Return the options with which a push to GitLab opens a merge request."""
    if not os.environ.get("GITLAB_CI"):
        return []
    options = ["create", f"target={os.environ['CI_DEFAULT_BRANCH']}", f"title={title}", "remove_source_branch"]
    return [f"--push-option=merge_request.{option}" for option in options]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
