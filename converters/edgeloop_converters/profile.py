"""A short latency profile of the exported file on this host, always labelled as what it is."""

from __future__ import annotations

import platform
import time
from dataclasses import replace

from edgeloop.bench import WARM_UP_S, BenchRequest, bench_models, random_inputs
from edgeloop.bundle import Profile
from edgeloop.runtime import open_session
from edgeloop.targets import Target

_BUDGET_S = 0.6
_FAST_BUDGET_S = 0.1
_FAST_WARM_UP_S = 0.03
_MIN_RUNS, _MAX_RUNS = 20, 500
_MACHINES = {"x86_64": "x86-64", "AMD64": "x86-64", "arm64": "aarch64"}


def is_like_host(target: Target) -> bool:
    """The target stands for any machine of this host's kind, so that a latency measured here is one of the target."""
    return target.id.startswith("generic-") and target.architecture == platform.machine()


def host_label(target: Target) -> str:
    """ "this host (x86-64), not the target"."""
    host = f"this host ({_MACHINES.get(platform.machine(), platform.machine())})"
    return host if is_like_host(target) else f"{host}, not the target"


def host_profile(model: bytes, target: Target, *, fast: bool = False) -> Profile:
    """Benchmark on XNNPACK, 1 thread: 20 to 500 runs in about half a second (fast: a tenth).

    Raises as `open_session` does.
    """
    with open_session(model) as session:
        samples = random_inputs(session)
        session.run(*samples)
        started = time.perf_counter()
        session.run(*samples)
        once_s = time.perf_counter() - started
    budget_s = _FAST_BUDGET_S if fast else _BUDGET_S
    runs = min(_MAX_RUNS, max(_MIN_RUNS, int(budget_s / max(once_s, 1e-6))))
    request = BenchRequest(n=runs, warm_up_s=_FAST_WARM_UP_S if fast else WARM_UP_S)
    report = bench_models({"model": model}, request)
    return replace(report.results[0].profile(), device=host_label(target))
