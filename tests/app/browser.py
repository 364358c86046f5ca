"""Chromium and a reverse proxy for the tests of the pages."""

import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from tools.cluster.preflight import install_packages

# Chromium's console message for the error responses that the tests cause.
_REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (401|404|422|501|503) ")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield Debian's Chromium, which is installed if possible; otherwise the failure names the package."""
    install_packages({"chromium": "chromium"})
    with sync_playwright() as playwright:
        # Root cannot use the sandbox. The browser opens only the pages of this checkout.
        yield playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])


@contextmanager
def visiting(
    browser: Browser, address: str, *, prepare: Callable[[Page], None] = lambda _: None, **options: Any
) -> Iterator[Page]:
    """Yield a page, and check that it contacted only its own server and that Chromium logged no errors.

    Args:
        browser: Browser that opens the page.
        address: Address of the page.
        prepare: Called before the page is requested.
        options: Options of the browser's window.
    """
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(15_000)
    asked: set[str] = set()
    complaints: list[str] = []
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    prepare(page)
    page.goto(address)
    yield page
    context.close()
    assert asked <= {urlsplit(address).netloc}
    assert [each for each in complaints if not _REFUSED.match(each)] == []


@contextmanager
def proxy(target: str, prefix: str, *, announced: bool) -> Iterator[str]:
    """Yield the address of a proxy that strips a prefix.

    Args:
        target: Address of the service.
        prefix: Path prefix that is stripped; other paths return 404.
        announced: Whether the proxy sends X-Forwarded-Prefix.
    """

    class Handler(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            if not (self.path + "/").startswith(prefix + "/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
            wanted = {"Content-Type": "application/json"} | ({"X-Forwarded-Prefix": prefix} if announced else {})
            path = self.path.removeprefix(prefix) or "/"
            request = urllib.request.Request(target + path, body, wanted, method=self.command)  # noqa: S310
            try:
                answer = urllib.request.urlopen(request)  # noqa: S310 - the test's own server
            except urllib.error.HTTPError as error:
                answer = error
            content = answer.read()
            self.send_response(answer.status)
            for name in ("Content-Type", "Content-Security-Policy"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _forward  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: Any) -> None:
            """Suppress the log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
