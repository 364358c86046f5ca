"""pip-audit against the lock: what is known against the versions in it, by PyPI's own database."""

import datetime
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import yaml

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, say

EXCEPTIONS = Path(__file__).with_name("audit-exceptions.yaml")
_KEYS = {"id", "package", "reason", "reviewed_by", "until"}


def exceptions(text: str | None = None, today: datetime.date | None = None) -> set[tuple[str, str]]:
    """Return the package and id of each vulnerability that was reviewed and accepted until a date to come.

    Raises:
        Failure: An exception has expired, lacks a key, or lasts longer than 90 days.
    """
    today = today or datetime.datetime.now(datetime.UTC).date()
    accepted = set()
    for entry in yaml.safe_load(EXCEPTIONS.read_text() if text is None else text) or []:
        if not isinstance(entry, dict) or entry.keys() != _KEYS or not isinstance(entry["until"], datetime.date):
            raise Failure(f"{EXCEPTIONS.name}: {entry} needs the keys {', '.join(sorted(_KEYS))}; until is a date.")
        name = f"{EXCEPTIONS.name}: {entry['id']} of {entry['package']}"
        if entry["until"] < today:
            raise Failure(f"{name} expired on {entry['until']}. Update the package, or review the exception again.")
        if entry["until"] > today + datetime.timedelta(days=90):
            raise Failure(f"{name} lasts until {entry['until']}. Set until to a date within 90 days.")
        accepted.add((entry["package"], entry["id"]))
    return accepted


def locked() -> list[str]:
    """Return every package of uv.lock as `name==version`."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return [f"{package['name']}=={package['version']}" for package in packages if "registry" in package["source"]]


def audit(requirements: Sequence[str], *service: str, accepted: Set[tuple[str, str]] = frozenset()) -> None:
    """Refuse a known vulnerability that has a fix; name those that have none.

    Args:
        requirements: `name==version` of each package.
        service: Options of pip-audit that select a database other than PyPI's.
        accepted: Package and id of each vulnerability that does not fail the audit.

    Raises:
        Failure: names each of them, or the database did not respond.
    """
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "requirements.txt"
        file.write_text("\n".join(requirements))
        command = [str(Path(sys.prefix) / "bin" / "pip-audit"), "--no-deps", "--disable-pip", "--format", "json"]
        command += ["--progress-spinner", "off", "--requirement", str(file), *service]
        said = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if not said.stdout.strip():
        last = (said.stderr.strip().splitlines() or ["no answer"])[-1]
        raise Failure(f"pip-audit could not ask its database: {last[:200]}. Check the network, run again.")
    judge(json.loads(said.stdout)["dependencies"], accepted)


def judge(packages: Sequence[dict[str, Any]], accepted: Set[tuple[str, str]] = frozenset()) -> None:
    """Refuse the vulnerabilities that pip-audit found if a newer version fixes them and nobody accepted them.

    Raises:
        Failure: a version with a fix, or a package that the database did not know.
    """
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if unknown or not packages:
        raise Failure(
            f"The database knows nothing of {len(unknown)} of {len(packages)} packages ({', '.join(unknown[:3])}, …): "
            "nothing is known about their vulnerabilities. Run again where PyPI answers itself, not a mirror."
        )
    found = [(package, known) for package in packages for known in package["vulns"]]
    for package, known in found:
        versions = ", ".join(known["fix_versions"])
        fixed = f"fixed in {versions}" if versions else "not fixed in any version yet"
        excused = ", accepted for now" if (package["name"], known["id"]) in accepted else ""
        say(f"{package['name']} {package['version']}: {known['id']}, {fixed}{excused}")
    refused = [(package, known) for package, known in found if (package["name"], known["id"]) not in accepted]
    if fixable := sorted({package["name"] for package, known in refused if known["fix_versions"]}):
        raise Failure(f"Vulnerable, and fixed in a newer version: {', '.join(fixable)}. Run uv lock --upgrade-package.")
    say(f"{len(packages)} packages: nothing known that has a fix.")
