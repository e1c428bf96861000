"""The HTTP face of a collector: what is around every endpoint, and which there are."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgeloop.errors import DataError, EdgeloopError
from edgeloop.telemetry.collector.commands import CommandQueue
from edgeloop.telemetry.collector.ingest import Ingest
from edgeloop.telemetry.collector.protocol import MAX_HEAD_BYTES
from edgeloop.telemetry.collector.routes import (
    alerts,
    chunks,
    description,
    enrollment,
    exports,
    login,
    operations,
    page,
    queries,
    reports,
    samples,
    stream,
    views,
)
from edgeloop.telemetry.collector.routes import (
    commands as command_routes,
)
from edgeloop.telemetry.collector.security.guard import Guard, LocalGuard
from edgeloop.telemetry.collector.security.rate import Buckets
from edgeloop.telemetry.collector.security.security import Security
from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.overview import Overview
from edgeloop.telemetry.samples.keeping import Quota
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.database import Store

_ENDPOINTS = (
    reports, samples, command_routes, chunks, enrollment, login, queries, exports, operations, page, stream, views,
    alerts, description,
)  # fmt: skip

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_RETRY_AFTER_S = 5

_HEADERS: Mapping[str, str] = {
    # Nothing but our own files, no inline script or style; nobody frames us, nobody guesses content types.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
        " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
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


class _SmallHeads:
    """Refuses a request whose address and headers are large; the parser's limit is for those in pieces."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            size = (
                len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(n) + len(v) for n, v in scope["headers"])
            )
            if size > MAX_HEAD_BYTES:
                await PlainTextResponse("address and headers are too large\n", 431)(scope, receive, send)
                return
        await self._app(scope, receive, send)


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


def create_app(
    ingest: Ingest,
    store: Store,
    fleet: LiveFleet,
    security: Security,
    commands: CommandQueue,
    *,
    only_loopback_hosts: bool = True,
    sample_quota: Quota | None = None,
) -> Starlette:
    """All endpoints over one ingest, one store and the fleet that both feed.

    security: with `enforced`, callers have to say who they are.
    only_loopback_hosts: refuse requests that name another host than this machine's loopback.
    """
    services = Services(ingest, store, Overview(store), fleet, security, commands, sample_quota=sample_quota or Quota())
    middleware = [Middleware(_WithHeaders), Middleware(_SmallHeads)]
    if only_loopback_hosts:
        middleware.append(Middleware(_OnlyLoopbackHosts))
    if security.enforced:
        guard = Middleware(
            Guard,
            identities=security.identities,
            addresses=Buckets(security.rates.address),
            devices=Buckets(security.rates.device),
            metrics=ingest.metrics,
            notices=ingest.notices,
            audit=security.audit,
        )
        middleware.append(guard)
    else:
        middleware.append(Middleware(LocalGuard, audit=security.audit))

    async def say_defect(request: Request, error: Exception) -> Response:
        services.notices.once(f"defect {type(error).__name__}", f"{request.url.path} failed: {error!r}")
        return PlainTextResponse("internal error\n", 500)

    handlers = {
        HTTPException: _plain_http_error,
        ClientDisconnect: _gone,
        EdgeloopError: _plain_error,
        Exception: say_defect,
    }
    routes = [route for module in _ENDPOINTS for route in module.routes(services)]
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


async def _plain_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, headers=error.headers)


async def _gone(_request: Request, _error: Exception) -> Response:
    """Who cuts off a request halfway gets no answer, and that is no defect of ours."""
    return PlainTextResponse("the request was cut off\n", 400)


async def _plain_error(_request: Request, error: Exception) -> Response:
    if isinstance(error, StoreUnavailableError):
        return PlainTextResponse(f"{error.message}\n", 503, headers={"Retry-After": str(_RETRY_AFTER_S)})
    return PlainTextResponse(f"{error}\n", 400 if isinstance(error, DataError) else 500)
