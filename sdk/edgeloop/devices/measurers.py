"""Devices as measurers of models: latencies on a machine that one can log in to, instructions on an emulated core."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgeloop.bench import BenchRequest
from edgeloop.bench.instructions import LABEL
from edgeloop.bench.measurement import INSTRUCTIONS_UNIT, LATENCY_UNIT, Measurement, Measurer
from edgeloop.devices.connection import Device
from edgeloop.devices.emulated.cpus import SCHEME, cpu_of
from edgeloop.devices.emulated.op_costs import Meter
from edgeloop.errors import DeviceError, UsageError
from edgeloop.progress import Progress
from edgeloop.telemetry.serial_link.address import is_serial_url

_RUNS = 200
_ARM = ("aarch64", "arm64", "armv7l", "armv8l")


class LatencyMeasurer:
    """Median latency of one inference, one thread, XNNPACK, by `edgeloop bench` on the device."""

    def __init__(self, device: Device, progress: Progress, runs: int = _RUNS, prefix: str | None = None) -> None:
        self._device, self._progress, self._runs, self._prefix = device, progress, runs, prefix

    @property
    def device(self) -> str:
        return self._device.url

    def measure(self, model: bytes, name: str = "model") -> Measurement:
        """Raises DeviceError."""
        return self.measure_all({name: model})[name]

    def measure_all(self, models: Mapping[str, bytes]) -> dict[str, Measurement]:
        """Raises DeviceError."""
        from edgeloop.devices.benching import bench_on_device

        request = BenchRequest(n=self._runs)
        report = bench_on_device(self._device, models, request, progress=self._progress, prefix=self._prefix)
        found = {
            r.model: Measurement(r.model, self.device, r.p50_ms, LATENCY_UNIT, "median", r.profile())
            for r in report.results
        }
        if missing := [name for name in models if name not in found]:
            raise DeviceError(f"{self.device} measured nothing of {missing[0]}")
        return found


class InstructionMeasurer:
    """SIMD instructions of one inference on an emulated core."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    @property
    def device(self) -> str:
        return self._meter.device

    def measure(self, model: bytes, name: str = "model") -> Measurement:
        """Raises UsageError, DeviceError as `InstructionMeter.measure`."""
        cost = self._meter.measure(model, name).cost
        return Measurement(name, self.device, float(cost.simd_instructions), INSTRUCTIONS_UNIT, LABEL)

    def measure_all(self, models: Mapping[str, bytes]) -> dict[str, Measurement]:
        return {name: self.measure(model, name) for name, model in models.items()}


def check_measures(url: str) -> None:
    """Before any work. Raises UsageError for a device that cannot rank models."""
    if url.startswith(SCHEME):
        cpu_of(url)
        return
    if is_serial_url(url) or not (":" in url or "@" in url or url == "local"):
        raise UsageError(
            f"{url}: an agent measures bundles, and candidates are not bundled yet",
            hint="--device ssh://USER@HOST, or emulated:cortex-a72",
        )
    if url.startswith("local") and platform.machine() not in _ARM:
        raise UsageError(
            f"{url}: this host ({platform.machine()}) does not rank models for a board: its int8 kernels take as long "
            "for narrow layers as for wide ones",
            hint="--device ssh://USER@HOST, or emulated:cortex-a72",
        )


@contextmanager
def open_measurer(url: str, progress: Progress, identity: Path | None = None) -> Iterator[Measurer]:
    """For as many models as one likes. identity: SSH private key. Raises UsageError, DeviceError."""
    check_measures(url)
    if url.startswith(SCHEME):
        from edgeloop.devices.emulated.meter import InstructionMeter

        with InstructionMeter(cpu_of(url), progress) as meter:
            yield InstructionMeasurer(meter)
        return
    from edgeloop.devices import connect

    device = connect(url, identity=identity, note=progress.note)
    try:
        yield LatencyMeasurer(device, progress)
    finally:
        device.close()
