"""Several ways to the collector in order of preference: which one now is a pure function of failures and times.

    ways = Ways(spool, [Way("https://a", https), Way("mqtts://b", mqtts), Way("file:///stick", stick)])
    ways.deliver()

The first one that is not out is used. A way is out after LEAVE_AFTER failures in a row; it is tried again after 15 s
(what was only started anew is back by then), then after twice as long each time, ten minutes at most, and used again
when it works. A report that went in two ways has one key, so that it is stored once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.clock import SentAt
from edgeloop.telemetry.delivery.carrying import Carrier, CarryingCourier
from edgeloop.telemetry.delivery.courier import Courier, DeliveryOutcome
from edgeloop.telemetry.spool.policy import ReportSpool
from edgeloop.telemetry.transports import DEFAULT_TIMEOUT_S, Transport, open_transport, parse_address

LEAVE_AFTER = 3
FIRST_RETRY_S = 15.0
MAX_RETRY_S = 600.0
FALLBACK, BACK = "telemetry_fallback", "telemetry_back"


@dataclass(frozen=True)
class WayState:
    """failures: in a row. retry_s: from when on it is tried again, where it is out."""

    failures: int = 0
    retry_s: float = 0.0

    @property
    def is_out(self) -> bool:
        return self.failures >= LEAVE_AFTER

    def after(self, *, failed: bool, now_s: float) -> WayState:
        """What it is after a try."""
        if not failed:
            return WayState()
        failures = self.failures + 1
        wait_s = min(FIRST_RETRY_S * 2.0 ** min(max(failures - LEAVE_AFTER, 0), 16), MAX_RETRY_S)
        return WayState(failures, now_s + wait_s)


def choose_way(states: Sequence[WayState], now_s: float) -> int:
    """The first that is not out or is due again; where there is none, the one that is due next."""
    for position, state in enumerate(states):
        if not state.is_out or now_s >= state.retry_s:
            return position
    return min(range(len(states)), key=lambda position: states[position].retry_s)


@dataclass(frozen=True)
class Way:
    """name: for people and in reports, without secrets."""

    name: str
    transport: Transport

    @property
    def scheme(self) -> str:
        return self.name.partition(":")[0]


def courier_for(
    spool: ReportSpool,
    transport: Transport,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    sent_at: Callable[[], SentAt | None] = lambda: None,
) -> Courier | CarryingCourier:
    """What gets a spool's reports through a transport of either kind. sent_at: see `Courier`; what is carried arrives
    nobody knows when."""
    if isinstance(transport, Carrier):
        return CarryingCourier(spool, transport)
    return Courier(spool, transport, timeout_s=timeout_s, sent_at=sent_at)


def open_ways(urls: Sequence[str], device: str, state: Path | None = None) -> list[Way]:
    """device, state: see `open_transport`. UsageError for a URL that is wrong or there twice; nothing connects."""
    if len(set(urls)) < len(urls):
        raise UsageError("the same telemetry URL is given twice")
    return [
        Way(parse_address(url).url.partition("?")[0], open_transport(url, device=device, state=state)) for url in urls
    ]


class Ways:
    """Delivers as a `Courier` does, by one of several ways. For one thread; another one may take news and counts."""

    def __init__(
        self,
        spool: ReportSpool,
        ways: Sequence[Way],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        sent_at: Callable[[], SentAt | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.delay_s = 0.0
        self._ways, self._clock = ways, clock
        self._couriers = [courier_for(spool, way.transport, timeout_s, sent_at) for way in ways]
        self._states = [WayState() for _ in ways]
        self._used = 0
        self._carried: set[int] = set()  # carriers on which reports may lie
        self._trouble = ""
        self._news: list[tuple[str, str]] = []
        self._counts: Counter[str] = Counter()

    def deliver(self, budget_s: float | None = None) -> DeliveryOutcome:
        """See `Courier.deliver`. A way that is out now is followed by the next one at once."""
        ends_s = None if budget_s is None else self._clock() + budget_s
        tried: set[int] = set()
        while True:
            now = choose_way(self._states, self._clock())
            left_s = None if ends_s is None else max(ends_s - self._clock(), 0.0)
            outcome = self._couriers[now].deliver(left_s)
            self._note(now, outcome)
            following = choose_way(self._states, self._clock())
            tried.add(now)
            if outcome.error is None or following in tried or (ends_s is not None and self._clock() >= ends_s):
                self.delay_s = self._couriers[following].delay_s
                return outcome

    @property
    def used(self) -> Way:
        """By which reports went last, or are to go first."""
        return self._ways[self._used]

    def take_news(self) -> list[tuple[str, str]]:
        """(kind, detail) of events since the last call: another way is used now."""
        news, self._news = self._news, []
        return news

    def take_counts(self) -> dict[str, int]:
        """Reports acknowledged since the last call, by scheme; empty where there is only one way."""
        counts, self._counts = self._counts, Counter()
        return {f"reports_by_{scheme}": count for scheme, count in counts.items()} if len(self._ways) > 1 else {}

    def close(self) -> None:
        """Lets go of every way."""
        for way in self._ways:
            way.transport.close()

    def _note(self, now: int, outcome: DeliveryOutcome) -> None:
        self._states[now] = self._states[now].after(failed=outcome.error is not None, now_s=self._clock())
        self._counts[self._ways[now].scheme] += outcome.accepted
        if outcome.error is not None:
            if now <= self._used:
                self._trouble = outcome.error.message
            return
        if outcome.carried:
            self._carried.add(now)
        if now != self._used:
            name = self._ways[now].name
            text = f"reports go by {name} again" if now < self._used else f"{self._trouble}; reports go by {name}"
            self._news.append((BACK if now == 0 else FALLBACK, text))
            self._used = now
        if outcome.left == 0:
            self._clear_carriers(but=now)

    def _clear_carriers(self, but: int) -> None:
        """What lies there arrived in another way. A stick that is away then keeps it, which is harmless."""
        for position in self._carried - {but}:
            carrier = self._ways[position].transport
            assert isinstance(carrier, Carrier)
            with suppress(DeviceError):
                carrier.look()
                carrier.clear()
            self._carried.discard(position)
