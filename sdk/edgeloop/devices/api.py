"""`edgeloop.connect(url)`: a device as an object with the verbs as methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeloop.devices.connection import Device
from edgeloop.devices.connection import connect as open_device
from edgeloop.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from edgeloop.bench import BenchResult
    from edgeloop.devices.trial import TrialResult


@dataclass(frozen=True)
class ConnectedDevice:
    """A device that is reachable until `close()`; also a context manager."""

    device: Device
    prefix: str | None = None

    def bench(
        self,
        model: str | Path,
        *,
        variant: str | None = None,
        delegate: str | None = None,
        threads: int = 1,
        n: int = 200,
        progress: Progress | None = None,
    ) -> BenchResult:
        """Measure a .tflite or a bundle there: `pi.bench("ic.bundle", n=500).p95_ms`.

        Without `delegate` the bundle's own wish list, in its order. Raises UsageError, RefusedError, DeviceError.
        """
        from edgeloop.bench import BenchRequest
        from edgeloop.devices.benching import bench_on_device, load_models

        models, wishes = load_models(Path(model), [variant] if variant else ())
        delegates: Sequence[str] = [delegate] if delegate else wishes or ("xnnpack",)
        request = BenchRequest(tuple(delegates), threads, n, first_only=delegate is None)
        report = bench_on_device(
            self.device, models, request, progress=progress or SilentProgress(), prefix=self.prefix
        )
        return report.results[0]

    def run(
        self,
        bundle: str | Path,
        source: str,
        *,
        count: int | None = None,
        rate: float | None = None,
        variant: str | None = None,
        delegates: Sequence[str] = (),
        threads: int = 1,
        store_url: str | None = None,
        progress: Progress | None = None,
        **others: Any,
    ) -> TrialResult:
        """Try a bundle there, as `edgeloop run` does: `pi.run("ic.bundle", "folder:test/").summary.latency["invoke"]`.

        store_url: keep the telemetry there; others: further fields of `TrialOptions`. Raises UsageError and its kinds,
        RefusedError, DeviceError.
        """
        from edgeloop.devices.trial import TrialOptions, plan_trial, run_trial

        options = TrialOptions(
            bundle=Path(bundle), source=source, count=count, rate=rate, variant=variant, delegates=tuple(delegates),
            threads=threads, **{"prefix": self.prefix, **others},
        )  # fmt: skip
        with TemporaryDirectory(prefix="edgeloop-") as scratch:
            return run_trial(
                self.device,
                plan_trial(options),
                progress=progress or SilentProgress(),
                on_refresh=lambda _view: None,
                store_url=store_url or f"sqlite:///{scratch}/telemetry.db",
            )

    def close(self) -> None:
        self.device.close()

    def __enter__(self) -> ConnectedDevice:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def connect(url: str = "local:", *, identity: str | Path | None = None, prefix: str | None = None) -> ConnectedDevice:
    """Reach a device: `local:` or `ssh://user@host[:port]`. Raises UsageError, DeviceError, RefusedError."""
    return ConnectedDevice(open_device(url, identity=None if identity is None else Path(identity)), prefix)
