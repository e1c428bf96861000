"""What became of what is offered: states per device and version, as events of reports tell them. The rules are pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeloop.release.channel import Channel, Offer
from edgeloop.release.cohort import is_in
from edgeloop.release.events import (
    COMMITTED,
    FAILED,
    KINDS,
    REFUSED,
    ROLLED_BACK,
    TRIAL,
    VersionEvent,
    version_event,
)

if TYPE_CHECKING:
    from edgeloop.telemetry.histogram import Histogram
    from edgeloop.telemetry.reading import Reader
    from edgeloop.telemetry.store.rows import StoredEvent

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
    here, at most so many. p95_ms: of one inference on all devices together since the offer's `since_s`, with n; None
    without any."""

    channel: str
    offer: Offer
    devices: tuple[DeviceState, ...] = ()
    waiting: tuple[str, ...] = ()
    p95_ms: float | None = None
    n: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Devices per state, all STATES."""
        found = Counter(device.state for device in self.devices)
        return {state: found[state] for state in STATES}


@dataclass(frozen=True)
class Evidence:
    """What telemetry knows of one bundle. events: all that say something about its versions, in the order of arrival.
    running: device -> (version, when its last report arrived). latency: of a version since a time, unix seconds.
    """

    events: Sequence[StoredEvent] = ()
    running: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    latency: Mapping[tuple[int, int], Histogram] = field(default_factory=dict)


def states_of(evidence: Evidence, name: str) -> dict[int, dict[str, DeviceState]]:
    """By version and device: the last that was said counts."""
    found: dict[int, dict[str, DeviceState]] = {}
    for device, (version, time_s) in evidence.running.items():
        found.setdefault(version, {})[device] = DeviceState(device, RUNS, "", time_s)
    for event in evidence.events:
        said = version_event(event.kind, event.detail)
        if said is not None and _name_of(said, event) == name:
            state = DeviceState(event.device, said.state, said.reason, event.received_s)
            found.setdefault(said.version, {})[event.device] = state
    return found


def progress_of(channel: Channel, offer: Offer, evidence: Evidence) -> Progress:
    """One offer's."""
    devices = states_of(evidence, offer.name).get(offer.version, {})
    waiting = tuple(
        device
        for device, (version, _) in sorted(evidence.running.items())
        if device not in devices and version < offer.version and is_in(device, offer.name, offer.version, offer.percent)
    )
    histogram = evidence.latency.get((offer.version, offer.since_s))
    count = histogram.count if histogram is not None else 0
    p95_ms = histogram.percentile(95) if histogram is not None and count else None
    ordered = tuple(devices[device] for device in sorted(devices))
    return Progress(channel.channel, offer, ordered, waiting, p95_ms, count)


def read_evidence(reader: Reader, offers: Iterable[Offer]) -> dict[str, Evidence]:
    """By the bundles' names. Raises as `reader`."""
    from edgeloop.telemetry.reading import Question
    from edgeloop.telemetry.report import HEADLINE_STAGE
    from edgeloop.telemetry.store.selection import Selection

    by_name: dict[str, set[tuple[int, int]]] = {}
    for offer in offers:
        by_name.setdefault(offer.name, set()).add((offer.version, offer.since_s))
    events = reader.events(Question(), KINDS) if by_name else []
    found = {}
    for name, wanted in by_name.items():
        latency = {}
        for version, since_s in wanted:
            question = Question(Selection(bundle=name, version=version, since_s=since_s))
            merged = reader.latency(question).get((HEADLINE_STAGE,))
            if merged is not None:
                latency[version, since_s] = merged
        last = reader.latest(Question(Selection(bundle=name)))
        running = {stored.report.device: (stored.report.version, stored.received_s) for stored in last}
        found[name] = Evidence(events, running, latency)
    return found


def read_progress(reader: Reader, channels: Iterable[Channel]) -> list[Progress]:
    """Of every offer, channel by channel, the newest versions first. Raises as `reader`."""
    every = [(channel, offer) for channel in channels for offer in reversed(channel.offers)]
    evidence = read_evidence(reader, (offer for _, offer in every))
    return [progress_of(channel, offer, evidence[offer.name]) for channel, offer in every]


def _name_of(said: VersionEvent, event: StoredEvent) -> str:
    return said.name or event.bundle
