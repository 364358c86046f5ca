"""pip-audit against the lock: what is known against the versions in it, by PyPI's own database."""

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, say


def locked() -> list[str]:
    """Return every package of uv.lock as `name==version`."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return [f"{package['name']}=={package['version']}" for package in packages if "registry" in package["source"]]


def audit(requirements: Sequence[str], *service: str) -> None:
    """Refuse a known vulnerability that has a fix; name those that have none.

    Args:
        requirements: `name==version` of each package.
        service: Options of pip-audit that select a database other than PyPI's.

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
    judge(json.loads(said.stdout)["dependencies"])


def judge(packages: Sequence[dict[str, Any]]) -> None:
    """Refuse the vulnerabilities that pip-audit found if a newer version fixes them.

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
        say(f"{package['name']} {package['version']}: {known['id']}, {fixed}")
    if fixable := sorted({package["name"] for package, known in found if known["fix_versions"]}):
        raise Failure(f"Vulnerable, and fixed in a newer version: {', '.join(fixable)}. Run uv lock --upgrade-package.")
    say(f"{len(packages)} packages: nothing known that has a fix.")
