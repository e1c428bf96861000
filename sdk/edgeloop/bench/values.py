"""What is measured and what came of it: values, and their form on the way from a device."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from edgeloop.errors import EXIT_REFUSED, EXIT_USAGE, DeviceError, EdgeloopError, RefusedError, UsageError
from edgeloop.runtime.delegates import DelegateFailure, parse_delegate

if TYPE_CHECKING:
    from edgeloop.bundle import Profile

DEFAULT_RUNS = 200
WARM_UP_S = 0.2
COOL_S = 60.0
_ERRORS: Mapping[int, type[EdgeloopError]] = {EXIT_USAGE: UsageError, EXIT_REFUSED: RefusedError}  # others: DeviceError


@dataclass(frozen=True)
class BenchRequest:
    """What to measure on each model: every delegate, or with `first_only` the first of them that opens.

    cool_s: how long a board that is too hot or held back may cool before.
    """

    delegates: tuple[str, ...] = ("xnnpack",)
    threads: int = 1
    n: int = DEFAULT_RUNS
    first_only: bool = False
    warm_up_s: float = WARM_UP_S
    cool_s: float = COOL_S

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n must be at least 1, got {self.n}")
        if self.threads < 1:
            raise UsageError(f"threads must be at least 1, got {self.threads}")
        if not self.delegates:
            raise UsageError("no delegate was named", hint="for example xnnpack or cpu")
        for delegate in self.delegates:
            parse_delegate(delegate)

    def argv(self, models: Sequence[str]) -> list[str]:
        """Arguments for `python -m edgeloop.bench` on the device that has `models` under these paths."""
        delegates = [arg for delegate in self.delegates for arg in ("--delegate", delegate)]
        first = ["--first"] if self.first_only else []
        return [
            "--json",
            "--threads",
            str(self.threads),
            "-n",
            str(self.n),
            "--cool",
            f"{self.cool_s:g}",
            *delegates,
            *first,
            "--",
            *models,
        ]


@dataclass(frozen=True)
class BenchResult:
    """One case. Percentiles are over `n` inferences, interpolated linearly.

    `ci95_ms` covers the true median with 95 % (None: too few runs), see `confidence.median_interval`. `delegate` is
    what ran; `throttled` (while it was measured) and `throttled_before` are None where the board does not tell;
    `waited_s` is how long it was given to cool, `temperature_before_c` what it had then; `rss_bytes` is what a process
    has that holds this one model; `cpu_percent` counts one core as 100. `histogram` has (above, up to and including,
    count) in ms, in the buckets of `edgeloop.telemetry.histogram`, without empty ones.
    """

    model: str
    device: str
    delegate: str
    delegate_asked: str
    delegated_ops: int
    total_ops: int
    runtime: str
    threads: int
    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    min_ms: float
    throughput_per_s: float
    throttled: bool | None
    load_ms: float
    rss_bytes: int | None
    cpu_percent: float
    temperature_c: float | None = None
    frequency_mhz: float | None = None
    governor: str | None = None
    note: str = ""
    histogram: tuple[tuple[float, float, int], ...] = ()
    ci95_ms: tuple[float, float] | None = None
    throttled_before: bool | None = None
    temperature_before_c: float | None = None
    waited_s: float = 0.0

    def __post_init__(self) -> None:  # JSON has no tuples
        object.__setattr__(self, "ci95_ms", None if self.ci95_ms is None else tuple(self.ci95_ms))
        object.__setattr__(self, "histogram", tuple((low, high, n) for low, high, n in self.histogram))

    def profile(self) -> Profile:
        """As it travels in a bundle."""
        from edgeloop.bundle import Profile

        return Profile(
            self.device, self.delegate, self.threads, self.n, self.p50_ms, self.p95_ms, self.p99_ms,
            bool(self.throttled),
        )  # fmt: skip


@dataclass(frozen=True)
class BenchReport:
    """All cases that could be measured, in the order asked for, and the delegates that could not be opened."""

    results: tuple[BenchResult, ...]
    failures: tuple[DelegateFailure, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """`bench --json`: the first case's keys at the top, all cases under `results`."""
        first = asdict(self.results[0]) if self.results else {}
        return {
            **first,
            "results": [asdict(result) for result in self.results],
            "failures": [asdict(failure) for failure in self.failures],
        }

    @staticmethod
    def from_json(text: str | bytes) -> BenchReport:
        """What `python -m edgeloop.bench --json` printed. Raises the error that it printed, else DeviceError."""
        try:
            data = json.loads(text)
            if "error" in data:
                error = data["error"]
                raise _ERRORS.get(error["exit_code"], DeviceError)(str(error["message"]), hint=error["hint"])
            return BenchReport(
                tuple(BenchResult(**_known(BenchResult, result)) for result in data["results"]),
                tuple(DelegateFailure(**_known(DelegateFailure, failure)) for failure in data["failures"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            shown = text[:80] if isinstance(text, str) else text[:80].decode("utf-8", "replace")
            raise DeviceError(f"bench answered with something else than its result: {shown!r}") from None


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that a newer edgeloop on the other side may have added."""
    names = {f.name for f in fields(kind)}
    return {key: value for key, value in data.items() if key in names}
