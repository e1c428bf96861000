"""The page's files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeloop.telemetry.collector.services import Services

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def routes(_services: Services) -> list[Route]:
    """Address -> file, read once."""
    return [Route(path, _file(*file)) for path, file in _FILES.items()]


def _file(name: str, content_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = (resources.files("edgeloop.telemetry.collector") / "page" / name).read_bytes()

    async def get(_request: Request) -> Response:
        return Response(content, headers={"Content-Type": content_type})

    return get
