"""Which chunk of a file goes out next, so that the line stays full and nothing goes twice without need. Pure.

A line keeps the order of what it carries. So a chunk that went out before one that has arrived, and has not arrived
itself, is lost, and goes again at once; only what went out last has to be waited for.
"""

from __future__ import annotations

from heapq import heappop, heappush

from edgeloop.telemetry.serial_link.chunks import COMPLETE, WINDOW_CHUNKS, Arrived


class Sending:
    """One transfer, from what has arrived already."""

    def __init__(self, total: int, arrived: Arrived, *, window: int, quiet_s: float) -> None:
        """window: so many chunks may be under way. quiet_s: without any news for so long they are all lost."""
        self.again = 0
        """Chunks that went out once more."""
        self._total, self._window, self._quiet_s = total, window, quiet_s
        self._arrived = arrived
        self._next = arrived.first_missing
        self._order = 0
        self._under_way: dict[int, int] = {}  # number: when it went out, in the order of sending
        self._lost: list[int] = []
        self._news_s: float | None = None

    @property
    def is_done(self) -> bool:
        return self._arrived.state == COMPLETE

    @property
    def arrived_chunks(self) -> int:
        return self._arrived.first_missing + len(self._arrived.beyond)

    def next(self, now_s: float) -> int | None:
        """The number of the chunk to send now; None for none at present."""
        if self._news_s is None or not self._under_way:
            self._news_s = now_s
        if now_s - self._news_s > self._quiet_s:
            self._give_up(list(self._under_way))
            self._news_s = now_s
        number = self._choose()
        if number is not None:
            self._order += 1
            self._under_way[number] = self._order
        return number

    def arrived(self, arrived: Arrived, now_s: float) -> None:
        """An acknowledgement. One that is older than what is known changes nothing."""
        if arrived.first_missing < self._arrived.first_missing and arrived.state != COMPLETE:
            return
        here = [n for n in self._under_way if n < arrived.first_missing or n in arrived.beyond]
        latest = max((self._under_way.pop(number) for number in here), default=0)
        self._arrived = arrived
        self._give_up([number for number, order in self._under_way.items() if order < latest])
        if here:
            self._news_s = now_s

    def _choose(self) -> int | None:
        while self._lost:
            number = heappop(self._lost)
            if self._is_wanted(number):
                self.again += 1
                return number
        while self._next < self._total and not self._is_wanted(self._next):
            self._next += 1
        last = min(self._total, self._arrived.first_missing + WINDOW_CHUNKS)
        if self._next >= last or len(self._under_way) >= self._window:
            return None
        self._next += 1
        return self._next - 1

    def _is_wanted(self, number: int) -> bool:
        return number >= self._arrived.first_missing and number not in self._arrived.beyond

    def _give_up(self, numbers: list[int]) -> None:
        for number in numbers:
            del self._under_way[number]
            heappush(self._lost, number)
