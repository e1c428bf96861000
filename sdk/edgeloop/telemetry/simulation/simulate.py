"""Devices that are not there: many of them, reporting to a real collector, to try out a page, an export or a load.

Each one is what an agent has: an outbox (encoding, spool, courier), with its own boot, batches, backoff and folding.
Only the threads and the connections are shared: a few workers take the devices in turn.
"""

from __future__ import annotations

import heapq
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.delivery.outbox import Outbox
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.identity.kept import IdentityFolder
from edgeloop.telemetry.simulation.devices import device_name, make_report
from edgeloop.telemetry.simulation.watching import Watch, Watched
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.spool.policy import ReportSpool
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.transports import Transport, open_transport
from edgeloop.telemetry.wire.codec import MAX_BATCH

MAX_DEVICES = 100_000
MAX_ON_DISK = 200
"""Devices with a spool on the disk: each has a file and room in reserve, and waits for the disk at each report."""
SPOOLS = ("memory", "sqlite")
_WORKERS = 16
_ONE_AT_A_TIME = frozenset({"serial", "socket", "rfc2217"})
_OF_ONE_DEVICE = frozenset({"mqtt", "mqtts", "file"})
"""Ways that name the device: each has its own."""
MAX_OWN_WAYS = 500


@dataclass(frozen=True)
class Simulation:
    """What to simulate. interval_s: between two reports of one device; batch: so many are made at once, `batch`
    intervals apart; spool: "memory" or "sqlite"; patience_s: how long nothing may be acknowledged, first_patience_s: by
    somebody who never did. enroll_token: with it each device enrolls, and reports over a connection and with a
    credential of its own."""

    devices: int
    reports: int
    interval_s: float = 1.0
    batch: int = 1
    patience_s: float = 60.0
    first_patience_s: float = 10.0
    seed: int = 0
    spool: str = "memory"
    enroll_token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.devices <= MAX_DEVICES or self.reports < 1:
            raise UsageError(f"simulate takes 1 to {MAX_DEVICES} devices and at least one report each")
        if not 1 <= self.batch <= MAX_BATCH:
            raise UsageError(f"a batch has 1 to {MAX_BATCH} reports")
        if not 0 <= self.interval_s <= 3600:
            raise UsageError("the interval is 0 to 3600 seconds")
        if self.spool not in SPOOLS:
            raise UsageError(f"spool must be {' or '.join(SPOOLS)}, got '{self.spool}'")
        if self.spool == "sqlite" and self.devices > MAX_ON_DISK:
            raise UsageError(
                f"with spools on the disk simulate takes up to {MAX_ON_DISK} devices", hint="--spool memory"
            )


@dataclass
class SimulationResult:
    """What came of it. retries: batches that got no acknowledgement and were sent again; merged: reports folded into
    others because they could not be sent in time; ack_latency: from sending a batch to its acknowledgement."""

    acknowledged: int = 0
    rejected: int = 0
    merged: int = 0
    lost: int = 0
    batches: int = 0
    retries: int = 0
    seconds: float = 0.0
    ack_latency: Histogram = field(default_factory=lambda: Histogram.of_ns([]))


def _silent(_line: str) -> None:
    return


def simulate(
    url: str,
    plan: Simulation,
    on_acknowledged: Callable[[int], None] = lambda _n: None,
    say: Callable[[str], None] = _silent,
) -> SimulationResult:
    """Send the reports of all devices; returns when all are acknowledged or rejected.

    say: told when somebody who never answered does not answer, once. A collector that is away for `patience_s` (or
    `first_patience_s`) is a DeviceError. UsageError for a wrong URL.
    """
    open_transport(url, device=device_name(0)).close()
    scheme = url.partition(":")[0].lower()
    own = scheme in _OF_ONE_DEVICE or bool(plan.enroll_token)
    if own and plan.devices > MAX_OWN_WAYS:
        raise UsageError(
            f"over {scheme}: simulate takes up to {MAX_OWN_WAYS} devices, each with a connection of its own"
        )
    failures: list[Exception] = []
    stopping = threading.Event()
    count = 1 if scheme in _ONE_AT_A_TIME else min(_WORKERS, plan.devices)
    began_s = time.monotonic()
    with ExitStack() as stack:
        folder = None
        if plan.spool == "sqlite":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeloop-simulate-")))
        states = None
        if plan.enroll_token:
            states = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeloop-simulate-")))
        opener = _Opener(url, plan.enroll_token, states)
        watch = Watch(on_acknowledged, say, plan.patience_s, plan.first_patience_s)
        workers = [_Worker(opener, plan, range(n, plan.devices, count), own, folder, watch) for n in range(count)]

        def work(worker: _Worker) -> None:
            try:
                worker.run(began_s, stopping)
            except Exception as error:
                failures.append(error)
                stopping.set()

        threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            stopping.set()
        if failures:
            raise failures[0]
        return _sum_of(workers, time.monotonic() - began_s)


class _Device:
    """One simulated device: what an agent has between its loop and the line."""

    def __init__(self, number: int, plan: Simulation, folder: Path | None, transport: Transport) -> None:
        self._number, self._plan = number, plan
        self._boot = f"{random.getrandbits(64) | 1:016x}"
        self.spool: ReportSpool = MemorySpool() if folder is None else Spool(folder / f"{number}.db")
        self.outbox = Outbox(self.spool, transport, lambda _line: None)
        self._made = 0
        self._next_made_s = plan.interval_s * number / plan.devices  # a fleet does not report all at once
        self._next_try_s = 0.0

    def step(self, now_s: float) -> float | None:
        """Make what is due and deliver. Seconds since the simulation's start when to come again; None: all is done."""
        if self._made < self._plan.reports and now_s >= self._next_made_s:
            self._make(now_s)
        if now_s >= self._next_try_s:
            delay_s, done = self.outbox.deliver()
            if done and self._made == self._plan.reports:
                self.spool.close()
                return None
            self._next_try_s = now_s + (delay_s or 0.0) if not done else 0.0
        if self._made == self._plan.reports:
            return self._next_try_s
        return self._next_made_s if self._next_try_s == 0.0 else min(self._next_made_s, self._next_try_s)

    def _make(self, now_s: float) -> None:
        plan = self._plan
        last = min(self._made + plan.batch, plan.reports)
        for seq in range(self._made + 1, last + 1):
            age_s = (last - seq) * plan.interval_s
            self.outbox.submit(
                make_report(
                    plan.seed, self._number, seq, self._boot, time_s=time.time() - age_s,
                    uptime_s=seq * max(plan.interval_s, 0.001), period_s=max(plan.interval_s, 0.001),
                )
            )  # fmt: skip
        self._made = last
        self._next_made_s += plan.interval_s * plan.batch


@dataclass(frozen=True)
class _Opener:
    """Transports of devices; with a token each has a state folder below `states`, from which it enrolls."""

    url: str
    token: str
    states: Path | None

    def open(self, name: str) -> Transport:
        if self.states is None:
            return open_transport(self.url, device=name)
        state = self.states / name
        IdentityFolder(state).plant(self.token, name, bearer=True)
        return open_transport(self.url, device=name, state=state)


class _Worker:
    """Some of the devices on one thread, over one connection; own: over one for each."""

    def __init__(
        self, opener: _Opener, plan: Simulation, numbers: range, own: bool, folder: Path | None, watch: Watch
    ) -> None:
        names = [device_name(number) for number in (numbers if own else numbers[:1])]
        self.ways = [Watched(opener.open(name), watch) for name in names]
        self.devices = [
            _Device(number, plan, folder, self.ways[position if own else 0]) for position, number in enumerate(numbers)
        ]
        self._watch = watch

    def run(self, began_s: float, stopping: threading.Event) -> None:
        due = [(0.0, n) for n in range(len(self.devices))]
        try:
            while due and not stopping.is_set():
                due_s, n = heapq.heappop(due)
                wait_s = began_s + due_s - time.monotonic()
                if wait_s > 0 and stopping.wait(wait_s):
                    return
                again_s = self.devices[n].step(time.monotonic() - began_s)
                self._give_up_when_nobody_answers()
                if again_s is not None:
                    heapq.heappush(due, (again_s, n))
        finally:
            for way in self.ways:
                way.close()

    def _give_up_when_nobody_answers(self) -> None:
        answered_s = max(way.answered_s for way in self.ways)
        error = next((way.last_error for way in self.ways if way.last_error is not None), None)
        if error is not None and answered_s + self._watch.patience_s < time.monotonic():
            # The transport's hint is for devices: they keep their reports.
            raise DeviceError(error.message, hint="start a collector there: edgeloop collect") from error


def _sum_of(workers: Sequence[_Worker], seconds: float) -> SimulationResult:
    result = SimulationResult(seconds=seconds)
    latencies_ns: list[int] = []
    for worker in workers:
        for way in worker.ways:
            latencies_ns += way.latencies_ns
            result.retries += way.failures
        for device in worker.devices:
            stats = device.spool.stats()
            result.acknowledged += stats.accepted
            result.rejected += stats.rejected
            result.merged += stats.folded
            result.lost += device.outbox.totals()["lost"]
            device.spool.close()
    result.batches = len(latencies_ns)
    result.ack_latency = Histogram.of_ns(latencies_ns)
    return result
