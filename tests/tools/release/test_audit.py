"""Tests of the audit of the lock file, by pip-audit with a local database that implements the OSV API."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure
from tools.release.audit import audit, judge, locked

# One vulnerability with a fix, and one without.
FIXES = {"jinja2": "3.1.6", "pyyaml": ""}


class _Database(http.server.BaseHTTPRequestHandler):
    """HTTP handler that returns the vulnerabilities in FIXES."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        events = [{"introduced": "0"}, *([{"fixed": FIXES[asked]}] if FIXES.get(asked) else [])]
        affected = {
            "package": {"name": asked, "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }
        known = {"id": f"PYSEC-2026-{asked}", "aliases": [], "details": "-", "affected": [affected]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"vulns": [known]} if asked in FIXES else {}).encode())

    def log_message(self, *_: object) -> None:
        """Suppress the log."""


@pytest.fixture
def database() -> Iterator[list[str]]:
    """Return the options with which pip-audit queries the local database."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Database) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query"]
        server.shutdown()


def test_every_locked_package_is_audited() -> None:
    packages = locked()

    assert len(packages) == (ROOT / "uv.lock").read_text().count("[[package]]") - 1  # the project itself
    assert all(package.count("==") == 1 for package in packages)


def test_vulnerability_with_a_fix_fails_the_audit(database: list[str]) -> None:
    with pytest.raises(Failure, match=r"fixed in a newer version: jinja2\. Run uv lock"):
        audit(["jinja2==3.1.5", "numpy==2.3.0"], *database)


def test_vulnerability_without_a_fix_is_only_reported(database: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    audit(["pyyaml==6.0.2", "numpy==2.3.0"], *database)

    assert "pyyaml 6.0.2: PYSEC-2026-pyyaml, not fixed in any version yet" in capsys.readouterr().out


def test_unreachable_database_fails_the_audit() -> None:
    with pytest.raises(Failure, match="pip-audit could not ask its database"):
        audit(["pyyaml==6.0.2"], "--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:1/v1/query")


def test_mirror_without_a_database_fails_the_audit() -> None:
    with pytest.raises(Failure, match="knows nothing of 1 of 2 packages"):
        judge([{"name": "a", "skip_reason": "not found"}, {"name": "b", "version": "1", "vulns": []}])
