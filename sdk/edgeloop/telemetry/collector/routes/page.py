"""The page's files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeloop.telemetry.collector.services import Services

_SCRIPTS = (
    *("theme", "main", "dom", "words", "panels", "fleet", "row"),
    *("charts", "heatmap", "latency", "device", "model", "rollout", "alerts"),
)
_FILES = {
    "/": "index.html",
    **{f"/{name}": name for name in ("page.css", "views.css", "icon.svg")},
    **{f"/js/{name}.js": f"js/{name}.js" for name in _SCRIPTS},
    **{f"/vendor/{name}": f"vendor/{name}" for name in ("uPlot.iife.min.js", "uPlot.min.css")},
}
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


def routes(_services: Services) -> list[Route]:
    """Address -> file, read once."""
    return [Route(path, _file(name)) for path, name in _FILES.items()]


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    content = (resources.files("edgeloop.telemetry.collector") / "page" / name).read_bytes()
    content_type = _TYPES[name.rpartition(".")[2]]

    async def get(_request: Request) -> Response:
        return Response(content, headers={"Content-Type": content_type})

    return get
