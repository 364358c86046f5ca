"""The README and the documentation site: short, complete and free of dead links and foreign hosts."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from tools.cluster.cache import ROOT
from tools.generate.reference import PAGES as GENERATED

MOST_WORDS = 900
PAGES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_site_has_every_page(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.parent.relative_to(site) for path in site.rglob("index.html")}

    pages |= {Path(path).with_suffix("") for path in GENERATED}

    assert {path for path in pages if path.name != "index"} <= built
    assert (site / "index.html").exists()


def test_site_loads_nothing_from_other_hosts(site: Path) -> None:
    tag = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?https?://|<link[^>]*rel=\"?stylesheet[^>]*https?://")
    assert not [str(page.relative_to(site)) for page in site.rglob("*.html") if tag.search(page.read_text())]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL))
    targets = [page.parent / unquote(link.partition("#")[0]) for link in links if not re.match(r"[a-z]+:|#", link)]
    generated = {ROOT / "docs" / path for path in GENERATED}

    assert not [path for path in targets if not path.exists() and path.resolve() not in generated]
