"""The fleet's table, live: the page that was asked for, then only what changes in it, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edgeloop.telemetry.collector.services import Services
from edgeloop.telemetry.fleet.choosing import Choice, Page
from edgeloop.telemetry.fleet.live import LiveFleet

_LOOK_EVERY_S = 0.05
_ORDER_EVERY_S = 2.0
"""A row may lie where it no longer belongs for so long: lines that change places all the time cannot be read."""
_QUIET_S = 2.0
"""The summary and the clock are sent at least so often: a line that says nothing is a line that broke."""


def routes(services: Services) -> list[Route]:
    """`/v1/stream` and, as one answer, `/v1/fleet`."""

    async def get_stream(request: Request) -> Response:
        feed = Feed(services.fleet, Choice.parse(request.query_params))
        return StreamingResponse(
            _events(feed), headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )

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


async def _events(feed: Feed) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    while not feed.fleet.closed:
        news = feed.news(time.monotonic())
        if news is not None:
            yield f"data: {json.dumps(news, separators=(',', ':'))}\n\n"
        await asyncio.sleep(_LOOK_EVERY_S)
