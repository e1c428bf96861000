"""Candidates measured on a device, by `measure(model) -> Measurement`: what they cost there, and their latency for the
goals and the bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeloop_converters.shared_work import Around

if TYPE_CHECKING:
    from edgeloop.bench.measurement import Measurement
    from edgeloop_converters.measure import Candidate, Measuring


def measured_on_device(
    models: Mapping[str, bytes], around: Around, how: Measuring, note: Callable[[str], None]
) -> dict[str, Measurement]:
    """All in one run, in turns; {} without a device. Raises UsageError, DeviceError."""
    if not around.device:
        return {}
    from edgeloop.devices.measurers import open_measurer

    with how.stages("measure on device"), open_measurer(around.device, how.progress, around.identity) as measurer:
        found = measurer.measure_all(models)
    for name, measurement in found.items():
        note(f"measured: {name}: {measurement.text()}")
    return found


def with_profiles(candidates: Sequence[Candidate], measured: Mapping[str, Measurement]) -> tuple[Candidate, ...]:
    """Each with the latency that was measured of its name, where one was."""
    return tuple(
        replace(c, profile=measured[c.exported.name].profile) if c.exported.name in measured else c for c in candidates
    )
