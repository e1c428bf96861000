"""Many reports decoded together: what numpy read of their histograms to judge them is kept, and summed up later without
another look at the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import DataError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.overview import model_of
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.wire import ordinary
from edgeloop.telemetry.wire.latency import wires_of
from edgeloop.telemetry.wire.report_codec import decode_report, decode_unchecked

if TYPE_CHECKING:
    from edgeloop.telemetry.wire.histogram_arrays import HistogramArrays

Model = tuple[str, int, str, str]
"""(bundle, version, variant, delegate that ran)."""

LatencySums = Mapping[tuple[Model, str], Histogram]
"""By model and stage."""


class Decoded(Protocol):
    """Reports that were decoded together, wherever that was."""

    @property
    def reports(self) -> Sequence[Report | DataError]:
        """In the order of their bodies, each as `decode_report` gives it or what that raises; latency is decoded where
        it is read (`WireLatency`)."""

    def latency_sums(self, of: Iterable[Report]) -> LatencySums:
        """The histograms of some of `reports` (the same objects) merged, exactly."""


@dataclass(frozen=True)
class Together:
    """`Decoded` in this process."""

    reports: Sequence[Report | DataError]
    _columns: HistogramArrays
    _plain: Sequence[bool]
    """Of each report: whether its wires are the next ones in the columns, all of them plain."""
    _wire_counts: Sequence[int]
    """How many wires each has in the columns, plain or not."""

    def latency_sums(self, of: Iterable[Report]) -> LatencySums:
        """The histograms of some of `reports` (the same objects) merged, exactly."""
        from edgeloop.telemetry.wire.histogram_arrays import summed

        wanted, numbers = set(map(id, of)), dict[tuple[Model, str], int]()
        known: dict[tuple[object, ...], list[int]] = {}
        groups: list[int] = []
        others: list[Report] = []
        for report, plain, wires in zip(self.reports, self._plain, self._wire_counts, strict=True):
            if isinstance(report, DataError) or not plain or id(report) not in wanted:
                groups += [-1] * wires
                if isinstance(report, Report) and id(report) in wanted:
                    others.append(report)
                continue
            model = model_of(report)
            key = model, *wires_of(report.latency)
            mine = known.get(key)
            if mine is None:
                mine = known[key] = [numbers.setdefault((model, stage), len(numbers)) for stage in key[1:]]  # type: ignore[arg-type]
            groups += mine
        sums = dict(zip(numbers, summed(self._columns, groups, len(numbers)), strict=True))
        for report in others:
            for stage, histogram in report.latency.items():
                group = model_of(report), stage
                sums[group] = sums.get(group, Histogram()).merge(histogram)
        return sums


def sums_of(reports: Sequence[Report]) -> LatencySums:
    """The latency of reports that were decoded, merged, exactly."""
    from edgeloop.telemetry.wire.histogram_arrays import merged

    numbers: dict[tuple[Model, str], int] = {}
    wires: list[bytes] = []
    groups: list[int] = []
    for report in reports:
        for stage, wire in wires_of(report.latency).items():
            wires.append(wire)
            groups.append(numbers.setdefault((model_of(report), stage), len(numbers)))
    return dict(zip(numbers, merged(wires, groups, len(numbers)), strict=True))


def decode_together(bodies: Sequence[bytes]) -> Together:
    """`decode_report` of each: the same verdict and the same reason, quicker by checking the histograms of all of them
    at once. Needs numpy."""
    from edgeloop.telemetry.wire.histogram_arrays import read_all

    found: list[Report | DataError] = []
    wires: list[bytes] = []
    owners: list[int] = []
    counts: list[int] = []
    for position, data in enumerate(bodies):
        try:
            report = ordinary.read(data) or decode_unchecked(data)
        except DataError as error:
            found.append(error)
            mine: Sequence[bytes] = (b"\0",)  # is no histogram: then `decode_report` has a look, and the reason
        else:
            found.append(report)
            mine = list(wires_of(report.latency).values())
        wires += mine
        counts.append(len(mine))
        owners += [position] * len(mine)
    columns = read_all(wires)
    plain = [True] * len(found)
    for number in (~columns.plain).nonzero()[0].tolist():
        plain[owners[number]] = False
    for position in [position for position, each in enumerate(plain) if not each]:
        try:
            found[position] = decode_report(bodies[position])
        except DataError as error:
            found[position] = error
    return Together(found, columns, plain, counts)
