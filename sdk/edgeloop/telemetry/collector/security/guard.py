"""What stands before every endpoint: how often, who, whether they may, and whether a page elsewhere sent it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgeloop.errors import EdgeloopError
from edgeloop.telemetry.collector.metrics import IngestMetrics
from edgeloop.telemetry.collector.notices import Notices
from edgeloop.telemetry.collector.security.access import DEVICE, LOCAL, OPERATOR, Principal, may, role_for
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.collector.security.identity import Identities
from edgeloop.telemetry.collector.security.rate import Buckets

PEER_CERTIFICATE = "edgeloop.peer_certificate"
"""Key of the connection's client certificate (DER) in the ASGI scope's `state`."""
OWN_HEADER = "x-edgeloop-request"
"""A page elsewhere cannot set a header of its own without asking first, and is never answered yes."""
_MAX_QUERY_CHARS = 300
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass
class LocalGuard:
    """Where no login is asked for: on plain loopback and with `--open`. Everybody may everything."""

    app: ASGIApp
    audit: Audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["edgeloop.principal"], scope["edgeloop.device"] = LOCAL, None
        await audited(self.app, self.audit, scope, receive, send)


async def audited(app: ASGIApp, audit: Audit, scope: Scope, receive: Receive, send: Send) -> None:
    """`app`; what an operator changed with it (a command, a deletion) is in the audit log before it is answered."""
    if scope["type"] != "http" or scope["method"] in _SAFE or role_for(scope["method"], scope["path"]) != OPERATOR:
        await app(scope, receive, send)
        return

    async def noted(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] < 400:
            who, deed = str(scope["edgeloop.principal"]), f"http.{scope['method'].lower()}"
            query = scope["query_string"].decode("ascii", "replace")[:_MAX_QUERY_CHARS]
            add = partial(audit.add, who, deed, scope["path"], origin=origin_of(scope), query=query)
            await run_in_threadpool(add)
        await send(message)

    await app(scope, receive, noted)


@dataclass
class Guard:
    """Sets scope["edgeloop.principal"] and scope["edgeloop.device"] (the name, or None); answers what may not pass."""

    app: ASGIApp
    identities: Identities
    addresses: Buckets
    devices: Buckets
    metrics: IngestMetrics
    notices: Notices
    audit: Audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            refusal = await self._refusal(scope)
        except EdgeloopError as error:
            refusal = PlainTextResponse(f"{error.message}\n", 503, headers={"Retry-After": "5"})
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await audited(self.app, self.audit, scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        address = origin_of(scope)
        if wait_s := self.addresses.wait_s(address, time.monotonic()):
            return self._limited(f"address {address}", wait_s)
        shown = self.identities.shown(headers, scope.get("state", {}).get(PEER_CERTIFICATE))
        who = self.identities.remembered(shown)
        if who is None:
            who = await run_in_threadpool(self.identities.who, shown)
        scope["edgeloop.principal"], scope["edgeloop.device"] = who, who.device
        needed = role_for(method, path)
        if not may(who.role, needed):
            return self._unauthorized(who, needed, address, is_page=method == "GET" and path == "/")
        if who.kind == "user" and method not in _SAFE and not is_same_origin(headers):
            return PlainTextResponse("this request was not sent by the collector's own page\n", 403)
        if who.device is not None and (wait_s := self.devices.wait_s(who.device, time.monotonic())):
            return self._limited(f"device {who.device}", wait_s)
        return None

    def _limited(self, who: str, wait_s: float) -> Response:
        self.metrics.count("requests_limited")
        self.notices.once(f"limited {who}", f"{who} sends too often and is told to wait")
        return PlainTextResponse("too many requests\n", 429, headers={"Retry-After": str(math.ceil(wait_s))})

    def _unauthorized(self, who: Principal, needed: str, address: str, *, is_page: bool) -> Response:
        self.metrics.count("requests_unauthorized")
        if who.trouble:
            self.notices.once(
                f"unauthorized {address} {who.trouble}", f"refused a request from {address}: {who.trouble}"
            )
        if who.kind == "anonymous" and is_page:
            return RedirectResponse("/login", 303)
        if who.kind == "anonymous":
            step = "edgeloop-agent enroll URL --token TOKEN" if needed == DEVICE else "log in, or send a token"
            said = {"error": who.trouble or "who are you?", "hint": step}
            return JSONResponse(said, 401, headers={"WWW-Authenticate": "Bearer"})
        step = "ask an operator" if needed == OPERATOR else f"this is for a {needed}"
        return JSONResponse({"error": f"{who} may not do this", "hint": step}, 403)


def origin_of(scope: Scope) -> str:
    """The address at the other end of the connection. A header that names another one is a stranger's word."""
    client = scope.get("client")
    return client[0] if client else "unknown"


def is_same_origin(headers: Headers) -> bool:
    """Whether the collector's own page sent it: by what browsers say of it, else by a header that only it can set."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    if origin is not None:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
    return OWN_HEADER in headers
