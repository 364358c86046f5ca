"""Serve the pages for people: the model at /, the API at /docs. Files as they are; what they show they ask for.

A browser sends no key for a page or its files, so these need none; what they ask for does. Nothing comes from
elsewhere: clusters have no way out, and their users' browsers may not have one either.
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
_SWAGGER = frozenset({"swagger-ui-bundle.js", "swagger-ui.css"})  # of the package fastapi-offline, as npm has them

OPEN_PATHS = frozenset(_PAGES) | {f"/pages/{name}" for name in _OWN | _SWAGGER}

_HEADERS = {
    "Cache-Control": "no-cache",  # asked for again each time, and sent again only when it is another
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# What a proxy says it has stripped, when it is a plain path; anything else is no address to send browsers to.
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
    """Return the path that a proxy has stripped; empty when none says so: then addresses relative to the page do."""
    told = request.headers.get("x-forwarded-prefix", "").rstrip("/") or request.scope["root_path"]
    return told if _PREFIX.fullmatch(told) else ""
