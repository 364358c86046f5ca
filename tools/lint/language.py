"""`python -m tools.lint.language [PATH…]`: the house style, checked by Vale in everything that people read.

Vale reads Markdown by itself. For other files it reads a copy with one passage per line, and its findings are mapped
back to the lines of the file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tools.cluster.programs import vale
from tools.lint.prose import Passage, is_markdown, is_prose, passages

CONFIG = Path(__file__).with_name("vale.ini")
# Generated from sources that are read, licences, and the sentences that the rules must find.
EXCLUDED = (
    "charts/*/README.md",
    "charts/*/charts/*/README.md",
    "tests/charts/golden/**",
    "tests/tools/lint/**",
    "tools/lint/styles/**",
    "**/schema.go",
)


@dataclass(frozen=True, order=True)
class Finding:
    """One sentence that breaks a rule."""

    path: str
    line: int
    severity: str
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.severity} {self.rule}: {self.message}"


def files(paths: list[str], root: Path) -> list[Path]:
    """Return the files with prose under the paths, as Git lists them (new ones too), relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *paths]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    found = [Path(name) for name in sorted(set(listed)) if name and (root / name).is_file()]
    return [path for path in found if is_prose(path) and not any(path.full_match(glob) for glob in EXCLUDED)]


def _copy(path: Path, root: Path, folder: Path) -> dict[str, list[Passage]]:
    """Write what Vale reads of a file, and return the passages of each copy that is not the file itself."""
    source = (root / path).read_text()
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_markdown(path):
        target.with_suffix(".md").write_text(source)
        return {}
    copies: dict[str, list[Passage]] = {}
    for passage in passages(path, source):
        copies.setdefault(f"{path}.headline.txt" if passage.headline else f"{path}.txt", []).append(passage)
    for name, texts in copies.items():
        # A blank line between two passages makes each of them a paragraph.
        (folder / name).write_text("\n\n".join(" ".join(text for _, text in passage.parts) for passage in texts) + "\n")
    return copies


def _line(passage: Passage, column: int) -> int:
    """Return the line of the file that a column of its passage comes from."""
    end = 0
    for line, text in passage.parts:
        end += len(text) + 1
        if column <= end:
            return line
    return passage.parts[-1][0]


def check(paths: list[Path], program: Path, root: Path) -> list[Finding]:
    """Return what Vale finds in the files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies = {copy: texts for path in paths for copy, texts in _copy(path, root, folder).items()}
        command = [str(program), "--config", str(CONFIG), "--output", "JSON", "--no-exit", "."]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"vale fails: {done.stdout}{done.stderr}")
        markdown = {str(path.with_suffix(".md")): path for path in paths if is_markdown(path)}
        found = []
        for copy, alerts in json.loads(done.stdout).items():
            for alert in alerts:
                line, copied = alert["Line"], copies.get(copy)
                path = str(markdown.get(copy, copy))
                if copied:
                    line = _line(copied[(line - 1) // 2], alert["Span"][0])
                    path = copy.removesuffix(".txt").removesuffix(".headline")
                found.append(Finding(path, line, alert["Severity"], alert["Check"], alert["Message"]))
    return sorted(set(found))


def program() -> Path:
    """Return Vale: the one that VALE names, or the built one."""
    return Path(os.environ.get("VALE") or vale() / "vale")


def main(arguments: list[str]) -> int:
    """Print the findings and return 1 if one of them is an error."""
    parser = argparse.ArgumentParser(prog="python -m tools.lint.language", description=__doc__)
    parser.add_argument("paths", nargs="*", help="files and folders; everything when none is given")
    parser.add_argument("--errors", action="store_true", help="show errors only, not warnings and suggestions")
    parser.add_argument("--count", action="store_true", help="print only the number of findings per rule")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    found = check(files(options.paths, root), program(), root)
    errors = [finding for finding in found if finding.severity == "error"]
    if not options.count:
        print(*(errors if options.errors else found), sep="\n")
    counts = Counter((finding.severity, finding.rule) for finding in found)
    for (severity, rule), count in sorted(counts.items()):
        print(f"{count:5} {severity:10} {rule}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
