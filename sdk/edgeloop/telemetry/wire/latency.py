"""Latency by stage as it came over the wire, turned into histograms only where somebody looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeloop.telemetry.histogram import Histogram


class WireLatency(Mapping[str, Histogram]):
    """stage -> Histogram over valid `Histogram.to_wire` bytes; each is decoded on first use, and kept."""

    __slots__ = ("_decoded", "wires")

    def __init__(self, wires: Mapping[str, bytes]) -> None:
        self.wires = wires
        self._decoded: dict[str, Histogram] = {}

    def __getitem__(self, stage: str) -> Histogram:
        known = self._decoded.get(stage)
        if known is None:
            known = self._decoded[stage] = Histogram.from_wire(self.wires[stage])
        return known

    def __iter__(self) -> Iterator[str]:
        return iter(self.wires)

    def __len__(self) -> int:
        return len(self.wires)

    def __repr__(self) -> str:
        return repr(dict(self))


def wires_of(latency: Mapping[str, Histogram]) -> Mapping[str, bytes]:
    """stage -> `Histogram.to_wire`, without decoding what came over the wire."""
    if isinstance(latency, WireLatency):
        return latency.wires
    return {stage: histogram.to_wire() for stage, histogram in latency.items()}
