"""`python -m tools.lint.commits FILE|BASE..HEAD`: the subjects of commits.

A subject reads `type(scope): imperative`, has at most 72 characters and does not end with a full stop. Git's hook
commit-msg hands in the FILE with one message; CI hands in a range. In a range that begins with zeros, as that of a new
branch or tag does, only the last commit is checked.
"""

import re
import subprocess
import sys
from pathlib import Path

MOST_CHARACTERS = 72
TYPES = ("build", "chore", "ci", "docs", "feat", "fix", "perf", "refactor", "revert", "style", "test")
_SUBJECT = re.compile(rf"(?:{'|'.join(TYPES)})(?:\([a-z0-9-]+\))?!?: (\S+).*")
_GENERATED = re.compile(r"(?:Merge|Revert) ")  # by Git or by the forge
_NOT_IMPERATIVE = re.compile(r"(?!(?:embed|feed|need|seed|speed|exceed|proceed|bring|string|ping)$).*(?:ed|ing)")


def complaint(subject: str) -> str:
    """Return what is wrong with a subject, or nothing."""
    if _GENERATED.match(subject):
        return ""
    if len(subject) > MOST_CHARACTERS:
        return f"{len(subject)} characters; at most {MOST_CHARACTERS} are allowed, and the reason goes into the body"
    match = _SUBJECT.fullmatch(subject)
    if not match:
        return f"the form is `type(scope): imperative`, with one of the types {', '.join(TYPES)}"
    first = match[1]
    if first[:2].istitle():
        return f"{first}: the text begins in lower case"
    if _NOT_IMPERATIVE.fullmatch(first):
        return f"{first}: use the imperative, such as `add`, not `added` or `adding`"
    return "a subject has no full stop at its end" if subject.endswith(".") else ""


def subjects(source: str) -> list[str]:
    """Return the subjects in a message's file or in a range of commits."""
    base, dots, head = source.partition("..")
    if not dots:
        lines = [line for line in Path(source).read_text().splitlines() if line.strip() and not line.startswith("#")]
        return lines[:1]
    commits = ["-1", head] if not base.strip("0") else [f"{base}..{head}"]
    command = ["git", "log", "--no-merges", "--format=%s", *commits, "--"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def main(source: str) -> int:
    """Print what is wrong and return 1, or 0 when nothing is."""
    found = {subject: text for subject in subjects(source) if (text := complaint(subject))}
    for subject, text in found.items():
        print(f"{subject}\n  {text}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
