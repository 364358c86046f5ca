"""The charts as they are published: packages that name the images of their own release by digest."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

from tools.cluster.console import Failure, run
from tools.cluster.programs import find
from tools.release.checks import pinned

REVISION = "org.opencontainers.image.revision"


def package(chart: Path, version: str, commit: str, images: Mapping[str, str], folder: Path) -> Path:
    """Write the package of a chart into a folder and return its path.

    Args:
        chart: The chart in the checkout.
        version: Its version and appVersion.
        commit: The commit that it is made from, which becomes an annotation.
        images: References of all images of the release by digest, by the image's name.
        folder: Where the package goes.
    """
    copy = folder / "source" / chart.name
    shutil.copytree(chart, copy)
    values = copy / "values.yaml"
    values.write_text(with_images(values.read_text(), images, version))
    about = yaml.safe_load((copy / "Chart.yaml").read_text())
    used = [reference for name, reference in images.items() if f"/{name}\n" in _repositories(values.read_text())]
    listed = [{"name": reference.partition("@")[0].rpartition("/")[2], "image": reference} for reference in used]
    about["annotations"] = {
        **about.get("annotations", {}),
        REVISION: commit,
        "artifacthub.io/prerelease": str("-" in version).lower(),
        "artifacthub.io/images": yaml.safe_dump(listed, sort_keys=False),
    }
    (copy / "Chart.yaml").write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True))
    options = ["--version", version, "--app-version", version, "--destination", folder]
    run([find("helm"), "package", copy, *options])
    shutil.rmtree(folder / "source")
    return folder / f"{about['name']}-{version}.tgz"


def with_images(values: str, images: Mapping[str, str], version: str) -> str:
    """Return the values of a chart with the images of a release instead of the project's own.

    The digest is a part of the tag, so that users who set another tag replace both.

    Raises:
        Failure: The chart names an image that the release does not have.
    """
    lines = values.splitlines(keepends=True)
    for place, line in enumerate(lines):
        found = re.match(r"(\s+)repository: model-service/([\w-]+)( |$)", line)
        if not found:
            continue
        indentation, name = found[1], found[2]
        if name not in images:
            raise Failure(f"The chart names {name}, which is not among the images of this release. Push it first.")
        reference, _, digest = pinned(images[name]).partition("@")
        host, _, repository = reference.partition("/")
        before = max(each for each in range(place) if lines[each].startswith(f"{indentation}registry:"))
        after = min(each for each in range(place, len(lines)) if lines[each].startswith(f"{indentation}tag:"))
        lines[before] = lines[before].replace("registry: ghcr.io", f"registry: {host}", 1)
        lines[place] = line.replace(f"model-service/{name}", repository, 1)
        lines[after] = lines[after].replace('tag: ""', f"tag: {version}@{digest}", 1)
    return "".join(lines)


def _repositories(values: str) -> str:
    return "".join(f"{found}\n" for found in re.findall(r"^\s+repository: (\S+)", values, re.M))
