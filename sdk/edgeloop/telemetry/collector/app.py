"""The HTTP face of a collector: reports in, page, JSON and metrics out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgeloop.errors import DataError, EdgeloopError
from edgeloop.telemetry.codec import MAX_BATCH_BYTES, encode_ack
from edgeloop.telemetry.collector import metrics
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.overview import Overview
from edgeloop.telemetry.store import Selection, StoreUnavailableError
from edgeloop.telemetry.store.database import Store
from edgeloop.version import VERSION

CBOR = "application/cbor"
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_RETRY_AFTER_S = 5

_HEADERS: Mapping[str, str] = {
    # Nothing but our own files, no inline script or style; nobody frames us, nobody guesses content types.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PAGE_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class _WithHeaders:
    """Adds the headers to every answer; a plain ASGI wrapper, since Starlette's base class costs a task per request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class _OnlyLoopbackHosts:
    """Answers only requests addressed to this machine by a loopback name, so that a web page elsewhere cannot reach the
    collector through a DNS name that it points here ("DNS rebinding")."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _host_name(Headers(scope=scope).get("host", "")) not in LOOPBACK_HOSTS:
            text = "this collector answers to 127.0.0.1 and localhost only (start it with --open to change that)\n"
            await PlainTextResponse(text, 421)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _host_name(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def create_app(ingest: Ingest, store: Store, *, only_loopback_hosts: bool = True) -> Starlette:
    """The routes over one ingest and one store.

    only_loopback_hosts: refuse requests that name another host than this machine's loopback.
    """
    overview = Overview(store)

    async def post_reports(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != CBOR:
            raise HTTPException(415, f"send {CBOR}")
        body = await _read_body(request)
        try:
            ack = await run_in_threadpool(ingest.handle, body)
        except DataError as error:
            raise HTTPException(400, error.message) from error
        return Response(encode_ack(ack), media_type=CBOR)

    def get_metrics(_request: Request) -> Response:
        last = [(stored.received_s, stored.report) for stored in store.latest(details=False, limit=metrics.MAX_DEVICES)]
        # Not as `media_type`: Starlette would add a second charset.
        text = metrics.render(ingest.metrics, last, VERSION)
        return Response(text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    def get_health(_request: Request) -> Response:
        totals = store.counts()
        return JSONResponse({"ok": True, "version": VERSION, "reports": totals.reports, "devices": totals.devices})

    def get_devices(_request: Request) -> Response:
        return JSONResponse(overview.to_dict(time.time()))

    def get_latency(request: Request) -> Response:
        query = dict(request.query_params)
        stage, by = query.pop("stage", None), query.pop("by", "device").split(",")
        found = store.latency(_selection(query), by=by)
        groups = [
            {"stage": key[0], **dict(zip(by, key[1:], strict=True)), "n": histogram.count}
            | {f"p{p}_ms": histogram.percentile(p) for p in (50, 95, 99)}
            for key, histogram in found.items()
            if stage in (None, key[0])
        ]
        return JSONResponse({"by": by, "groups": groups})

    routes = [
        Route("/v1/reports", post_reports, methods=["POST"]),
        Route("/v1/devices", get_devices),
        Route("/v1/latency", get_latency),
        Route("/metrics", get_metrics),
        Route("/healthz", get_health),
        *(Route(path, _page(*file)) for path, file in _PAGE_FILES.items()),
    ]
    middleware = [Middleware(_WithHeaders)]
    if only_loopback_hosts:
        middleware.append(Middleware(_OnlyLoopbackHosts))

    async def say_defect(request: Request, error: Exception) -> Response:
        ingest.notices.once(f"defect {type(error).__name__}", f"{request.url.path} failed: {error!r}")
        return PlainTextResponse("internal error\n", 500)

    handlers = {HTTPException: _plain_http_error, EdgeloopError: _plain_error, Exception: say_defect}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


async def _read_body(request: Request) -> bytes:
    """Stops at the limit, whatever the client announced."""
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not declared.isdigit() or int(declared) <= MAX_BATCH_BYTES:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BATCH_BYTES:
                break
        else:
            return bytes(body)
    raise HTTPException(413, f"a batch has {MAX_BATCH_BYTES} bytes at most", headers={"Connection": "close"})


def _page(name: str, content_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = (resources.files(__package__) / "page" / name).read_bytes()

    async def get(_request: Request) -> Response:
        return Response(content, headers={"Content-Type": content_type})

    return get


def _selection(query: Mapping[str, str]) -> Selection:
    known = {"device", "boot", "bundle", "version", "variant", "delegate", "since_s", "until_s"}
    if unknown := set(query) - known:
        raise DataError(f"unknown parameter {min(unknown)!r}", hint=f"known: by, stage, {', '.join(sorted(known))}")
    values: dict[str, object] = dict(query)
    try:
        if "version" in query:
            values["version"] = int(query["version"])
        for name in ("since_s", "until_s"):
            if name in query:
                values[name] = float(query[name])
    except ValueError as error:
        raise DataError(str(error)) from error
    return Selection(**values)  # type: ignore[arg-type]


async def _plain_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, headers=error.headers)


async def _plain_error(_request: Request, error: Exception) -> Response:
    if isinstance(error, StoreUnavailableError):
        return PlainTextResponse(f"{error.message}\n", 503, headers={"Retry-After": str(_RETRY_AFTER_S)})
    return PlainTextResponse(f"{error}\n", 400 if isinstance(error, DataError) else 500)
