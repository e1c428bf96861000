"""The fleet's table, live: the page that was asked for, then only what changes in it, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgeloop.telemetry.collector.security.access import Principal
from edgeloop.telemetry.collector.security.guard import PEER_CERTIFICATE
from edgeloop.telemetry.collector.security.security import Security
from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.fleet.choosing import Choice, Page
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.store import StoreUnavailableError

MAX_VIEWERS, MAX_VIEWERS_EACH = 200, 50
"""Streams at once, in all and of one caller: each costs the collector time that reports need."""
_WHO_EVERY_S = 2.0
_LOOK_EVERY_S = 0.05
_ORDER_EVERY_S = 2.0
"""A row may lie where it no longer belongs for so long: lines that change places all the time cannot be read."""
_QUIET_S = 2.0
"""The summary and the clock are sent at least so often: a line that says nothing is a line that broke."""


def routes(services: Services) -> list[Route]:
    """`/v1/stream` and, as one answer, `/v1/fleet`."""

    viewers = Viewers()

    async def get_stream(request: Request) -> Response:
        feed = Feed(services.fleet, Choice.parse(request.query_params))
        return _Stream(_events(feed, _still_may(request, services.security)), viewers)

    async def get_fleet(request: Request) -> Response:
        return JSONResponse(Feed(services.fleet, Choice.parse(request.query_params)).news(time.monotonic()))

    return [Route("/v1/stream", get_stream), Route("/v1/fleet", get_fleet)]


@dataclass
class Feed:
    """What one viewer has been told, and so what is news to it. No I/O."""

    fleet: LiveFleet
    choice: Choice
    _page: Page | None = None
    _seen: int = -1
    _ordered_s: float = 0.0
    _told_s: float = 0.0
    _summary: Any = None

    def news(self, now_s: float) -> dict[str, Any] | None:
        """{now_s, and what changed of: summary, matching + offset + ids, rows[]}; None when nothing did.

        now_s: a monotonic clock. The first call gives everything.
        """
        page, fresh = self._page, frozenset[int]()
        moved = self.fleet.revision != self._seen
        if page is None or now_s - self._ordered_s >= _ORDER_EVERY_S:
            self._page, self._ordered_s = self.fleet.choose(self.choice), now_s
            fresh = frozenset(self._page.ids) - frozenset(page.ids if page is not None else ())
        assert self._page is not None
        data: dict[str, Any] = {}
        if self._page != page:
            data |= {"matching": self._page.matching, "offset": self._page.offset, "ids": self._page.ids}
        if moved or fresh:
            self._seen, rows = self.fleet.changed(self._page.ids, self._seen, fresh)
            if rows:
                data["rows"] = [row.to_dict() for row in rows]
        summary = self.fleet.summary()
        if summary != self._summary or now_s - self._told_s >= _QUIET_S:
            data["summary"], self._summary = self.fleet.summary_dict(), summary
        if not data:
            return None
        self._told_s = now_s
        return {"now_s": time.time(), **data}


@dataclass
class Viewers:
    """How many streams each caller has open. Of the event loop's thread."""

    open: Counter[str] = field(default_factory=Counter)

    def enter(self, who: str) -> bool:
        """False where there are too many; `leave` when it is over else."""
        if self.open.total() >= MAX_VIEWERS or self.open[who] >= MAX_VIEWERS_EACH:
            return False
        self.open[who] += 1
        return True

    def leave(self, who: str) -> None:
        self.open[who] -= 1
        self.open += Counter()  # forgets those that have none


class _Stream(StreamingResponse):
    """Counted from its first byte to its end, however that comes."""

    def __init__(self, events: AsyncIterator[str], viewers: Viewers) -> None:
        super().__init__(events, headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        self._viewers = viewers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = str(scope["edgeloop.principal"])
        if not self._viewers.enter(who):
            full = PlainTextResponse("too many live views are open\n", 503, headers={"Retry-After": "5"})
            await full(scope, receive, send)
            return
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._viewers.leave(who)


def _still_may(request: Request, security: Security) -> Callable[[], Awaitable[bool]]:
    """Whether the caller is still who it was when the stream began: users are removed, sessions and tokens end."""
    began: Principal = request.scope["edgeloop.principal"]
    identities = security.identities
    shown = identities.shown(request.headers, request.scope.get("state", {}).get(PEER_CERTIFICATE))

    async def ask() -> bool:
        if not security.enforced:
            return True
        try:
            found = identities.remembered(shown)
            return found == began if found is not None else await run_in_threadpool(identities.who, shown) == began
        except StoreUnavailableError:  # nobody can be removed there, either
            return True

    return ask


async def _events(feed: Feed, still_may: Callable[[], Awaitable[bool]]) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    asked_s = time.monotonic()
    while not feed.fleet.closed:
        if time.monotonic() - asked_s >= _WHO_EVERY_S:
            if not await still_may():
                return
            asked_s = time.monotonic()
        news = feed.news(time.monotonic())
        if news is not None:
            yield f"data: {json.dumps(news, separators=(',', ':'))}\n\n"
        await asyncio.sleep(_LOOK_EVERY_S)
