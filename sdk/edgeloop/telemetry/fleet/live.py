"""The fleet in memory: fed by the ingest, folded by a thread of its own, read by whoever shows or judges it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter

from edgeloop.telemetry.fleet.arrivals import devices_since, first_seen
from edgeloop.telemetry.fleet.choosing import Choice, Page, choose
from edgeloop.telemetry.fleet.inbox import Inbox
from edgeloop.telemetry.fleet.minutes import MINUTES, Minute, MinuteBook
from edgeloop.telemetry.fleet.row import FleetRow, RowState
from edgeloop.telemetry.fleet.settling import Settling
from edgeloop.telemetry.overview import THROTTLED_NOW, WINDOW_REPORTS
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.store import Selection, StoreUnavailableError
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.wire.together import LatencySums

MAX_ROWS = 100_000
FOLD_EVERY_S = 0.05
"""Reports that come within so long are folded together."""
SWEEP_EVERY_S = 5.0
"""How often it looks for reports that others put into the store."""
MAX_LOADED_REPORTS = 20_000
"""Read at a start for the minutes before it."""
FILL_WINDOWS_OF = 1000
"""After a start so many devices get their last reports back, the others their last one."""


@dataclass(frozen=True)
class Summary:
    """The fleet in numbers; rows are devices times their models."""

    devices: int = 0
    rows: int = 0
    silent: int = 0
    throttled: int = 0
    fell_back: int = 0
    errors: int = 0
    firing: int = 0
    reports: int = 0
    inferences: int = 0
    quarantined: int = 0


class LiveFleet:
    """Rows of all devices. Every public method may be called from any thread.

    `observe` only puts reports aside; `start` makes the thread that folds them, first those that the store has.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self.revision = 0
        """Grows whenever a row changed."""
        self._inbox = Inbox()
        self._states: dict[str, dict[str, RowState]] = {}
        self._by_id: dict[int, RowState] = {}
        self._minutes = MinuteBook()
        self._lock = threading.RLock()
        self._settling = Settling(self._lock)
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._summary = Summary()
        self._first_seen: dict[tuple[str, int], float] = {}
        self._next_id = 1
        self._swept_to = 0
        """The report up to which the store was looked through."""
        self.rules: tuple[str, ...] = ()
        """Names of the alert rules that are watched."""
        self._on_tick: list[Callable[[float], None]] = []
        self.say: Callable[[str], None] = lambda _line: None
        self._on_stop: list[Callable[[], None]] = []

    # -- feeding

    def observe(self, reports: Sequence[Report], received_s: float, latency: LatencySums | None = None) -> None:
        """New reports, oldest first, as the store took them. Cheap: it runs before their acknowledgement.

        latency: that of all of them, where it was summed up.
        """
        self._inbox.put(reports, received_s, latency)
        self._wake.set()

    def start(self) -> None:
        """Begin to fold; once is enough."""
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="collector fleet", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Streams end, the thread too. May be called twice."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        for call in self._on_stop:
            call()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def every_second(self, call: Callable[[float], None]) -> None:
        """`call(now_s)` about once a second from the fleet's thread, while it runs; it must not raise."""
        self._on_tick.append(call)

    def when_stopped(self, call: Callable[[], None]) -> None:
        """`call()` once the fleet has stopped."""
        self._on_stop.append(call)

    def fold(self) -> None:
        """Take in what was observed until now."""
        came = self._inbox.reports()
        by_model: dict[tuple[str, str], tuple[float, list[Report]]] = {}
        for received_s, _, report in came:
            known = by_model.get((report.device, report.bundle))
            if known is not None:
                known[1].append(report)
            by_model[report.device, report.bundle] = received_s, [report] if known is None else known[1]
        with self._lock:
            self.revision += bool(came)
            for received_s, reports in by_model.values():
                self._add(reports, received_s)
            for (received_s, summed), entries in groupby(came, key=itemgetter(0, 1)):
                with_flags = ((report, _throttled(report)) for _, _, report in entries)
                self._minutes.add(received_s, with_flags, latency=not summed)
            for received_s, latency in self._inbox.sums():
                self._minutes.add_latency(received_s, latency)
        self._settling.settle(len(came))

    def _add(self, reports: Sequence[Report], received_s: float, *, anew: bool = False) -> None:
        last = reports[-1]
        models = self._states.setdefault(last.device, {})
        for bundle in [name for name, each in models.items() if each.boot != last.boot and name != last.bundle]:
            gone = models.pop(bundle).id  # the device was started again, without this model
            del self._by_id[gone]
            self._settling.drop(gone)
        state = models.get(last.bundle)
        if state is None or anew:
            if state is None and len(self._by_id) >= MAX_ROWS:
                return
            was, state = state, RowState(self._next_id if state is None else state.id)
            state.firing = was.firing if was is not None else ()
            models[last.bundle] = state
            self._by_id[state.id] = state
            self._next_id = max(self._next_id, state.id + 1)
        if anew:
            state.keys = frozenset((each.boot, each.seq) for each in reports)
        elif state.keys:  # what was read from the store may still have been on its way here
            reports = [each for each in reports if (each.boot, each.seq) not in state.keys]
        if reports:
            state.add(reports, received_s)
            self._settling.add(state)
        state.changed = self.revision

    def set_firing(self, rules: Mapping[str, Sequence[str]]) -> None:
        """device -> names of the rules that fire there; nobody else has any."""
        with self._lock:
            self.revision += 1
            for device, models in self._states.items():
                names = tuple(sorted(rules.get(device, ())))
                for state in models.values():
                    if state.set_firing(names):
                        state.changed = self.revision

    # -- reading

    def rows(self, *, latency: bool = True) -> list[FleetRow]:
        """latency: see `RowState.without_latency`; with it, a row that changed since the last look takes its time."""
        with self._lock:
            if latency:
                self._settling.looked_at()
            states = self._by_id.values()
            found = [state.row for state in states] if latency else [state.without_latency for state in states]
        return [row for row in found if row is not None]

    def choose(self, choice: Choice) -> Page:
        """The page of rows that matches."""
        with self._lock:
            rows, latency = self.rows(latency=False), {}
            if (p := choice.percentile) is not None:
                self._settling.looked_at()
                latency = {row.id: self._by_id[row.id].percentile(p) for row in rows}
        return choose(rows, choice, self._clock(), latency)

    def changed(self, ids: Sequence[int], since: int, fresh: Set[int] = frozenset()) -> tuple[int, list[FleetRow]]:
        """(the revision now, those of the rows `ids` that changed after revision `since`, and those of `fresh`)."""
        with self._lock:
            self._settling.looked_at()
            states = [self._by_id[each] for each in ids if each in self._by_id]
            rows = [state.row for state in states if state.changed > since or state.id in fresh]
            return self.revision, [row for row in rows if row is not None]

    def summary(self) -> Summary:
        """As of the last second."""
        return self._summary

    def minutes(self, first: int, last: int, bundle: str | None, version: int | None) -> dict[int, Minute]:
        """See `MinuteBook.between`."""
        with self._lock:
            return self._minutes.between(first, last, bundle, version)

    def first_seen(self) -> dict[tuple[str, int], float]:
        """When each (bundle, version) was first heard of; read from the store when one is new to this process."""
        with self._lock:
            present = {(row.bundle, row.version) for row in self.rows(latency=False)}
        if not present <= self._first_seen.keys():
            self._first_seen = first_seen(self._store.database)
        return self._first_seen

    def count(self) -> None:
        """Make `summary` anew. StoreUnavailableError."""
        now, rows, held = self._clock(), self.rows(latency=False), self._store.counts()
        self._summary = Summary(
            devices=held.devices,
            rows=len(rows),
            silent=sum(row.silent(now) for row in rows),
            throttled=sum(bool(row.throttled) for row in rows),
            fell_back=sum(row.fell_back for row in rows),
            errors=sum(row.errors > 0 for row in rows),
            firing=sum(bool(row.alerts or row.firing) for row in rows),
            reports=held.reports,
            inferences=held.inferences,
            quarantined=held.quarantined,
        )

    def summary_dict(self) -> dict[str, int]:
        return asdict(self._summary)

    # -- the thread

    def _run(self) -> None:
        next_count_s = next_sweep_s = 0.0
        loaded, told = False, ""
        while not self._closed.is_set():
            self._wake.wait(1.0)
            self._wake.clear()
            try:
                if not loaded:
                    self.load()
                    loaded = True
                self.fold()
                now = time.monotonic()
                if now >= next_sweep_s:
                    self.sweep()
                    next_sweep_s = now + SWEEP_EVERY_S
                if now >= next_count_s:
                    self.count()
                    for call in self._on_tick:
                        call(self._clock())
                    next_count_s = now + 1.0
            except StoreUnavailableError:
                pass  # the ingest says so; what is shown stays as it was
            except Exception as error:  # a defect here must not end what everybody looks at
                if repr(error) != told and not self._closed.is_set():  # the store may be closing, too
                    told = repr(error)
                    with suppress(Exception):  # whom it is said to may be gone
                        self.say(f"the live page is not up to date: {error!r}")
            self._closed.wait(FOLD_EVERY_S)

    def load(self) -> None:
        """What the store has: every device's last report, and the last ones of those that were seen last."""
        newest = self._store.latest(limit=MAX_ROWS)
        newest.sort(key=lambda stored: stored.received_s)
        with self._lock:
            self.revision += 1
            for stored in newest:
                if stored.report.device not in self._states:
                    self._add([stored.report], stored.received_s, anew=True)
                self._swept_to = max(self._swept_to, stored.id)
        for stored in reversed(newest[-FILL_WINDOWS_OF:]):
            if self._closed.is_set():
                return
            self._read_again(stored.report.device)

        self._load_minutes()

    def _load_minutes(self) -> None:
        """The last hours by the minute, from the newest reports; what came in since the start is there already."""
        before, newest = self._swept_to, max(self._swept_to - MAX_LOADED_REPORTS, 0)
        since_s = self._clock() - MINUTES * 60
        book = MinuteBook()
        for stored in self._store.reports(Selection(since_s=since_s), after_id=newest):
            if stored.id > before or self._closed.is_set():
                break
            book.add(stored.received_s, [(stored.report, _throttled(stored.report))])
        with self._lock:
            self._minutes = book

    def sweep(self) -> None:
        """Take in what another collector or an import put into the same store."""
        last = self._store.last_report_id()
        if last == self._swept_to:
            return
        before, self._swept_to = self._swept_to, last
        candidates = devices_since(self._store.database, before)
        self._closed.wait(FOLD_EVERY_S)  # what this collector has just stored is on its way here
        for device, received_s in candidates:
            self.fold()
            with self._lock:
                known = max((each.received_s for each in self._states.get(device, {}).values()), default=0.0)
            if received_s > known:
                self._read_again(device)

    def _read_again(self, device: str) -> None:
        recent = self._store.recent(device, WINDOW_REPORTS)
        by_bundle: dict[str, list[Report]] = {}
        for stored in recent:
            if stored.report.boot == recent[-1].report.boot:
                by_bundle.setdefault(stored.report.bundle, []).append(stored.report)
        with self._lock:
            self.revision += 1
            for reports in by_bundle.values():
                self._add(reports, recent[-1].received_s, anew=True)


def _throttled(report: Report) -> bool:
    return bool(int(report.gauges.get("throttle_flags", 0)) & THROTTLED_NOW)
