"""A short latency profile of the exported file on this host, always labelled as what it is."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, replace

from edgeloop.bench import BenchRequest, BenchResult, bench_models, random_inputs
from edgeloop.bundle import Profile
from edgeloop.runtime import open_session
from edgeloop.targets import Target

_BUDGET_S = 0.6
_FAST_BUDGET_S = 0.1
_WARM_UP_S = 0.1
_FAST_WARM_UP_S = 0.01  # behind an evaluation, which keeps the CPU busy
_LOOK_S = 0.01
_MAX_FLOAT_S = 1.0
_MIN_RUNS, _MAX_RUNS, _FAST_MAX_RUNS = 20, 500, 200
_MACHINES = {"x86_64": "x86-64", "AMD64": "x86-64", "arm64": "aarch64"}


def is_like_host(target: Target) -> bool:
    """The target stands for any machine of this host's kind, so that a latency measured here is one of the target."""
    return target.id.startswith("generic-") and target.architecture == platform.machine()


def host_label(target: Target) -> str:
    """ "this host (x86-64), not the target"."""
    host = f"this host ({_MACHINES.get(platform.machine(), platform.machine())})"
    return host if is_like_host(target) else f"{host}, not the target"


Histogram = tuple[tuple[float, float, int], ...]


@dataclass(frozen=True)
class HostLatency:
    """histogram: (above, up to and including, count) in ms over the runs of `profile`.

    float_profile, float_histogram: of the float model, measured in turns with it; None and empty where it was not.
    """

    profile: Profile
    histogram: Histogram = ()
    float_profile: Profile | None = None
    float_histogram: Histogram = ()


def host_profile(model: bytes, target: Target, *, fast: bool = False) -> Profile:
    """The profile of `host_latency`."""
    return host_latency(model, target, fast=fast).profile


def host_latency(model: bytes, target: Target, *, float_model: bytes | None = None, fast: bool = False) -> HostLatency:
    """Benchmark on XNNPACK, 1 thread: 20 to 500 runs in about half a second (fast: to 200, a tenth).

    float_model: measured in turns with `model`, unless that would take more than a second. Raises as `open_session`
    does.
    """
    once_s = _once_s(model)
    budget_s = _FAST_BUDGET_S if fast else _BUDGET_S
    runs = min(_FAST_MAX_RUNS if fast else _MAX_RUNS, max(_MIN_RUNS, int(budget_s / max(once_s, 1e-6))))
    models = {"model": model}
    if float_model is not None and float_model != model and runs * _once_s(float_model) <= _MAX_FLOAT_S:
        models["float"] = float_model
    request = BenchRequest(n=runs, warm_up_s=_FAST_WARM_UP_S if fast else _WARM_UP_S)
    results = bench_models(models, request).results
    return HostLatency(*_labelled(results[0], target), *(_labelled(results[1], target) if len(results) > 1 else ()))


def _once_s(model: bytes) -> float:
    """The fastest of a few runs after the first, which packs weights: other work on the host must not decide."""
    with open_session(model) as session:
        samples = random_inputs(session)
        session.run(*samples)
        fastest = float("inf")
        until = time.perf_counter() + _LOOK_S
        while fastest == float("inf") or time.perf_counter() < until:
            started = time.perf_counter()
            session.run(*samples)
            fastest = min(fastest, time.perf_counter() - started)
        return fastest


def _labelled(result: BenchResult, target: Target) -> tuple[Profile, Histogram]:
    return replace(result.profile(), device=host_label(target)), result.histogram
