"""Tests of the audit of the lock file, by pip-audit with a local database that implements the OSV API."""

import datetime
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure
from tools.release.audit import audit, exceptions, judge, locked

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


ENTRY = "- {id: PYSEC-2026-jinja2, package: jinja2, reason: no templates, reviewed_by: '@a', until: 2026-12-31}"
TODAY = datetime.date(2026, 12, 1)


def test_accepted_vulnerability_is_reported_and_does_not_fail(
    database: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    audit(["jinja2==3.1.5"], *database, accepted=exceptions(ENTRY, TODAY))

    assert "jinja2 3.1.5: PYSEC-2026-jinja2, fixed in 3.1.6, accepted for now" in capsys.readouterr().out


def test_exception_for_a_different_package_does_not_help(database: list[str]) -> None:
    with pytest.raises(Failure, match="fixed in a newer version: jinja2"):
        audit(["jinja2==3.1.5"], *database, accepted=exceptions(ENTRY.replace("package: jinja2", "package: a"), TODAY))


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (ENTRY.replace("2026-12-31", "2026-11-30"), "jinja2 expired on 2026-11-30. Update the package"),
        (ENTRY.replace("2026-12-31", "2027-12-31"), "Set until to a date within 90 days"),
        (
            ENTRY.replace("reason: no templates, ", ""),
            "needs the keys id, package, reason, reviewed_by",
        ),
        (ENTRY.replace("2026-12-31", "never"), "until is a date"),
    ],
)
def test_exception_needs_a_reason_and_an_end(entry: str, sentence: str) -> None:
    with pytest.raises(Failure, match=sentence):
        exceptions(entry, TODAY)


def test_exceptions_of_the_project_are_valid() -> None:
    assert exceptions() == set()
