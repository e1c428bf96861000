"""Requests of an event loop that arrive together, handled together: one decoding, one commit, one fsync for all."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from edgeloop.telemetry.collector.ingest import Ingest, Request
from edgeloop.telemetry.wire.codec import Ack

_MAX_TOGETHER = 32
"""Bounds how long the first of them waits for its answer, and the memory that decoded reports take."""
_Waiting = tuple[Request, "asyncio.Future[Ack]"]


class Gathering:
    """`Ingest.handle` for many requests at once; for one event loop, whose threads end with it or with the process."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._waiting: list[_Waiting] = []
        self._busy = 0
        self._workers = ThreadPoolExecutor(ingest.store.database.writers + 1, "collector ingest")

    async def handle(self, batch: bytes, sender: str | None = None) -> Ack:
        """As `Ingest.handle`, with its errors."""
        answer: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._waiting.append((Request(batch, sender), answer))
        self._begin()
        return await answer

    def _begin(self) -> None:
        """Only the loop's thread comes here, so the lists need no lock."""
        loop = asyncio.get_running_loop()
        while self._waiting and self._busy < self._ingest.threads:
            together, self._waiting = self._waiting[:_MAX_TOGETHER], self._waiting[_MAX_TOGETHER:]
            self._busy += 1
            done = loop.run_in_executor(self._workers, self._ingest.handle_all, [request for request, _ in together])
            done.add_done_callback(partial(self._finish, together))

    def _finish(self, together: list[_Waiting], done: asyncio.Future[list[Ack | Exception]]) -> None:
        self._busy -= 1
        defect = done.exception()
        outcomes = done.result() if defect is None else [defect] * len(together)
        for (_, answer), outcome in zip(together, outcomes, strict=True):
            if answer.cancelled():  # its client is gone
                continue
            if isinstance(outcome, Ack):
                answer.set_result(outcome)
            else:
                answer.set_exception(outcome)
        self._begin()
