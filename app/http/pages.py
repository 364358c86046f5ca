"""The web pages: the model at / and the API at /docs. Both are static files that fetch their content from the API.

A browser cannot send an API key with a page, so pages and their files require none; the requests that they make do.
All files come from this service, because clusters and browsers may have no internet access.
"""

import html
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).parent / "static"
_PAGES = {"/": "index.html", "/docs": "docs.html"}
_OWN = frozenset(path.name for path in _FOLDER.iterdir() if path.suffix != ".html")
_SWAGGER = frozenset({"swagger-ui-bundle.js", "swagger-ui.css"})  # unchanged npm files in the package fastapi-offline

OPEN_PATHS = frozenset(_PAGES) | {f"/pages/{name}" for name in _OWN | _SWAGGER}

_HEADERS = {
    "Cache-Control": "no-cache",  # browsers revalidate every time, and download only changed files
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Valid values of the prefix that a proxy has stripped. Browsers must not be sent to any other address.
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def routes() -> list[Route]:
    """Return the pages' routes."""
    files = StaticFiles(directory=_FOLDER, packages=[("fastapi_offline", "static")])

    async def file(request: Request) -> Response:
        if (name := request.path_params["name"]) not in _OWN | _SWAGGER:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        answer = await files.get_response(name, request.scope)
        answer.headers.update(_HEADERS)
        return answer

    pages = [Route(path, _page(_FOLDER / name), include_in_schema=False) for path, name in _PAGES.items()]
    return [*pages, Route("/pages/{name}", file, include_in_schema=False)]


def _page(path: Path) -> Callable[[Request], Awaitable[Response]]:
    text = path.read_text()

    async def page(request: Request) -> Response:
        prefix = _prefix(request)
        base = f'<head>\n    <base href="{html.escape(prefix)}/">'
        return HTMLResponse(text.replace("<head>", base, 1) if prefix else text, headers=_HEADERS)

    return page


def _prefix(request: Request) -> str:
    """Return the path prefix that a proxy has stripped; if empty, addresses relative to the page are correct."""
    prefix = request.headers.get("x-forwarded-prefix", "").rstrip("/") or request.scope["root_path"]
    return prefix if _PREFIX.fullmatch(prefix) else ""
