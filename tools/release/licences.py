"""The licences of what the images hold, from the packages' own metadata: `python -m tools.release.licences`."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

from tools.cluster.cache import ROOT

GROUPS = ("training", "mlflow-server")


def shipped() -> list[str]:
    """Return the names of the packages that the images' groups need, with all that these need, from uv.lock."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    packages = {package["name"]: package for package in lock}
    project = packages[tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]]
    left = [*project["dependencies"], *(needed for group in GROUPS for needed in project["dev-dependencies"][group])]
    found: set[str] = set()
    while left:
        needed = left.pop()
        extras = needed.get("extra", ())
        marks = {needed["name"], *(f"{needed['name']}[{extra}]" for extra in extras)}
        if not marks <= found:
            found |= marks
            package = packages[needed["name"]]
            left += package.get("dependencies", [])
            left += [more for extra in extras for more in package.get("optional-dependencies", {}).get(extra, ())]
    return sorted(name for name in found if "[" not in name)


def licences() -> Iterator[tuple[str, str]]:
    """Yield name and licence of each; those that this platform does not install are left out."""
    for name in shipped():
        try:
            metadata = distribution(name).metadata
        except PackageNotFoundError:
            continue
        classified = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if "License ::" in line]
        text = metadata.get("License-Expression") or ", ".join(classified) or (metadata.get("License") or "")
        yield name, re.sub(r"\s+", " ", text).strip()[:60]


if __name__ == "__main__":
    for package, licence in licences():
        print(f"{package:40} {licence}")
