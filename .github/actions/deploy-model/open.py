"""Program that opens the pull request of a pushed branch by GitHub's client, and closes those that it replaces.

It uses only the standard library. Its input is BRANCH, TITLE, BODY, and ALIAS in runs that follow one. A branch that
has a pull request gets no second one.
"""

import json
import os
import re
import subprocess
import sys
from typing import Any

SETTING = (
    "The branch {branch} is pushed, but GitHub refused the pull request. Turn on 'Allow GitHub Actions to create and "
    "approve pull requests' in Settings > Actions > General, or pass the token of an App. The next run uses the branch."
)


def main() -> int:
    """Open the pull request; return 1 after a sentence when GitHub refuses it."""
    branch, alias = os.environ["BRANCH"], os.environ["ALIAS"]
    # One that was closed without a merge is a decision against the version, which a schedule must not ask for again.
    counts = ("OPEN", "CLOSED") if alias else ("OPEN",)
    found = [each for each in _pulls("--head", branch, "--state", "all") if each["state"] in counts]
    if found:
        sys.stdout.write(f"Pull request #{found[0]['number']} proposes {branch} already.\n")
        return 0
    command = ["gh", "pr", "create", "--head", branch, "--title", os.environ["TITLE"], "--body", os.environ["BODY"]]
    if subprocess.run(command, check=False).returncode:
        sys.stdout.write(f"::error::{SETTING.format(branch=branch)}\n")
        return 1
    versions = re.compile(rf"{re.escape(branch.rpartition('-')[0])}-\d+")
    for each in _pulls("--state", "open"):
        if versions.fullmatch(each["headRefName"]) and each["headRefName"] != branch:
            number = str(each["number"])
            close = ["gh", "pr", "close", number, "--delete-branch", "--comment", f"Replaced by {branch}."]
            subprocess.run(close, check=True)
    return 0


def _pulls(*choice: str) -> list[dict[str, Any]]:
    command = ["gh", "pr", "list", *choice, "--limit", "200", "--json", "number,state,headRefName"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: list[dict[str, Any]] = json.loads(text)
    return found


if __name__ == "__main__":
    sys.exit(main())
