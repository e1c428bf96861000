"""What became of what is offered: states per device and version, as events of reports tell them. The rules are pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeloop.release.channel import ACTIVE, BUNDLE, Channel, Offer
from edgeloop.release.cohort import is_in
from edgeloop.release.events import (
    COMMITTED,
    FAILED,
    KINDS,
    REFUSED,
    ROLLED_BACK,
    TRIAL,
    version_event,
)

if TYPE_CHECKING:
    from edgeloop.telemetry.histogram import Histogram
    from edgeloop.telemetry.reading import Reader
    from edgeloop.telemetry.store.rows import StoredEvent

_OVERLAP_REPORTS = 1000
"""Reports that are committed at once are not seen in the order of their ids."""
RUNS = "runs"
"""It runs there, and nothing was said about how it came: on the card from the beginning, or long ago."""
STATES = (TRIAL, COMMITTED, RUNS, ROLLED_BACK, REFUSED, FAILED)


@dataclass(frozen=True)
class DeviceState:
    """What a device last said about a version. time_s: when that arrived at the collector, unix."""

    device: str
    state: str
    reason: str = ""
    time_s: float = 0.0


@dataclass(frozen=True)
class Progress:
    """One offer and its devices. waiting: devices in the cohort that have said nothing about it yet; with tags unknown
    here, at most so many. now: how many run it by their last report; None where that is not known. p95_ms: of one
    inference on all devices together since the offer's `since_s`, with n; None without any."""

    channel: str
    offer: Offer
    devices: tuple[DeviceState, ...] = ()
    waiting: tuple[str, ...] = ()
    p95_ms: float | None = None
    n: int = 0
    now: int | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Devices per state, all STATES."""
        found = Counter(device.state for device in self.devices)
        return {state: found[state] for state in STATES}


Running = Mapping[str, tuple[int, float]]
"""Of one bundle: device -> (the version it runs, when its last report arrived)."""
States = Mapping[tuple[str, str, int], Mapping[str, DeviceState]]
"""By kind, name and version, then by device. What a device says of its own agent or config bears no name: ""."""


def states_of(events: Iterable[StoredEvent], running: Mapping[str, Running]) -> States:
    """events: in the order of arrival; the last that was said counts. running: by the bundle's name."""
    found: dict[tuple[str, str, int], dict[str, DeviceState]] = {}
    for name, devices in running.items():
        for device, (version, time_s) in devices.items():
            found.setdefault((BUNDLE, name, version), {})[device] = DeviceState(device, RUNS, "", time_s)
    for event in events:
        said = version_event(event.kind, event.detail)
        if said is not None:
            name = said.name or (event.bundle if said.kind == BUNDLE else "")
            state = DeviceState(event.device, said.state, said.reason, event.received_s)
            found.setdefault((said.kind, name, said.version), {})[event.device] = state
    return found


def progress_of(
    channel: Channel, offer: Offer, states: States, running: Running, histogram: Histogram | None = None
) -> Progress:
    """One offer's. histogram: latency of its inferences."""
    devices = dict(states.get((BUNDLE, offer.name, offer.version), {}))  # the door names what it refused
    for device, state in states.get((offer.kind, "", offer.version), {}).items():
        if device not in devices or devices[device].time_s <= state.time_s:
            devices[device] = state
    waiting = tuple(
        device
        for device, (version, _) in sorted(running.items())
        if device not in devices and version < offer.version and is_in(device, offer.name, offer.version, offer.percent)
    )
    count = histogram.count if histogram is not None else 0
    p95_ms = histogram.percentile(95) if histogram is not None and count else None
    ordered = tuple(devices[device] for device in sorted(devices))
    now = sum(version == offer.version for version, _ in running.values()) if offer.kind == BUNDLE else None
    return Progress(channel.channel, offer, ordered, waiting, p95_ms, count, now)


@dataclass
class EventLog:
    """The events about versions, read on from where the last reading stopped."""

    events: list[StoredEvent] = field(default_factory=list)
    _known: set[StoredEvent] = field(default_factory=set)

    def read_on(self, reader: Reader) -> Sequence[StoredEvent]:
        """All so far. Raises as `reader`."""
        from edgeloop.telemetry.reading import Question

        after_id = max(0, self.events[-1].report_id - _OVERLAP_REPORTS) if self.events else 0
        new = [event for event in reader.events(Question(), KINDS, after_id=after_id) if event not in self._known]
        self._known.update(new)
        self.events = sorted([*self.events, *new], key=lambda event: event.report_id) if new else self.events
        return self.events


def read_progress(
    reader: Reader, channels: Iterable[Channel], log: EventLog | None = None, *, to_judge: bool = False
) -> list[Progress]:
    """Of every offer, channel by channel, the newest versions first. to_judge: only what `halting` judges by: of active
    offers, without those who wait, and a p95 only where there is a budget. Raises as `reader`.
    """
    every = [(channel, offer) for channel in channels for offer in reversed(channel.offers)]
    if to_judge:
        every = [(channel, offer) for channel, offer in every if offer.state == ACTIVE]
    events = (log or EventLog()).read_on(reader) if every else ()
    names = {offer.name: offer.kind == BUNDLE and not to_judge for _, offer in every}
    running = {name: _running(reader, name) if is_shown else {} for name, is_shown in names.items()}
    states = states_of(events, running)
    return [
        progress_of(
            channel, offer, states, running[offer.name],
            None if offer.kind != BUNDLE or (to_judge and offer.p95_ms is None) else _latency(reader, offer),
        )
        for channel, offer in every
    ]  # fmt: skip


def _running(reader: Reader, name: str) -> dict[str, tuple[int, float]]:
    from edgeloop.telemetry.reading import Question
    from edgeloop.telemetry.store.selection import Selection

    last = reader.latest(Question(Selection(bundle=name)))
    return {stored.report.device: (stored.report.version, stored.received_s) for stored in last}


def _latency(reader: Reader, offer: Offer) -> Histogram | None:
    from edgeloop.telemetry.reading import Question
    from edgeloop.telemetry.report import HEADLINE_STAGE
    from edgeloop.telemetry.store.selection import Selection

    question = Question(Selection(bundle=offer.name, version=offer.version, since_s=offer.since_s))
    return reader.latency(question).get((HEADLINE_STAGE,))
