"""Measuring models in this process, interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop import probes
from edgeloop.bench.confidence import median_interval
from edgeloop.bench.thermal import Start, wait_until_cool
from edgeloop.bench.values import DEFAULT_RUNS, BenchReport, BenchRequest, BenchResult
from edgeloop.boards import detect_board
from edgeloop.errors import DelegateError, EdgeloopError, UsageError
from edgeloop.runtime.delegates import DelegateFailure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeloop.runtime import Session

_WARM_UP_RUNS = 3  # at least
_ROUNDS = 10
_BUCKETS_PER_OCTAVE = 16


def bench_model(
    model: bytes | Path, *, delegates: Sequence[str] = ("xnnpack",), threads: int = 1, n: int = DEFAULT_RUNS,
    first_only: bool = False, name: str = "",
) -> BenchReport:  # fmt: skip
    """Measure one model in this process. Raises like `open_session`; a delegate that is not there is in `failures`,
    and a DelegateError when none is.
    """
    label = name or (model.stem if isinstance(model, Path) else "model")
    return bench_models({label: model}, BenchRequest(tuple(delegates), threads, n, first_only))


def bench_models(
    models: Mapping[str, bytes | Path],
    request: BenchRequest,
    *,
    on_case: Callable[[str], None] = lambda _name: None,
    note: Callable[[str], None] = lambda _text: None,
) -> BenchReport:
    """Measure every model on every delegate of the request, interleaved. `on_case` hears each case before it loads,
    `note` what people should know."""
    from edgeloop.runtime.interpreter import load_backend

    load_backend()  # its import is no part of a model's load time
    base_rss = probes.rss_bytes()
    failures: list[DelegateFailure] = []
    cases: list[_Case] = []
    start = wait_until_cool(detect_board(), request.cool_s, note=note)
    try:
        for name, model in models.items():
            for delegate in request.delegates:
                on_case(f"{name} on {delegate}")
                try:
                    cases.append(_Case(name, model, delegate, request, base_rss))
                except DelegateError as error:
                    failures.append(DelegateFailure(str(delegate), error.message, error.hint or ""))
                    continue
                if request.first_only:
                    break
        if not cases:
            raise DelegateError("; ".join(f.reason for f in failures), hint=failures[-1].fix or None)
        _measure(cases, request.n)
        return BenchReport(tuple(case.result(start) for case in cases), tuple(failures))
    finally:
        for case in cases:
            case.session.close()


def _measure(cases: Sequence[_Case], n: int) -> None:
    rounds = min(_ROUNDS, n)
    for index in range(rounds):
        count = n // rounds + (index < n % rounds)
        for case in cases if index % 2 == 0 else reversed(cases):
            case.run(count)


class _Case:
    """One model on one delegate: loaded, warmed up, and its samples so far."""

    def __init__(
        self, name: str, model: bytes | Path, delegate: str, request: BenchRequest, base_rss: int | None
    ) -> None:
        from edgeloop.runtime.session import open_session

        self.name, self.threads = name, request.threads
        before = probes.rss_bytes()
        started = time.perf_counter()
        self.session = open_session(model, delegate=delegate, threads=request.threads)
        self.load_ms = (time.perf_counter() - started) * 1e3
        try:
            self.frame = random_inputs(self.session)
            self._warm_up(request.warm_up_s)
        except EdgeloopError:
            self.session.close()
            raise
        after = probes.rss_bytes()
        # Later cases share this process with earlier ones: each is given the empty process plus what it added.
        known = before is not None and after is not None and base_rss is not None
        self.rss_bytes = base_rss + after - before if known else None  # type: ignore[operator]
        self.samples_ns: list[int] = []
        self.wall_s = 0.0
        self.throttled: bool | None = None
        self._board = detect_board()

    def _warm_up(self, seconds: float) -> None:
        self.session.run(*self.frame)  # checks the frame, and packs weights on the first call
        cpu, wall, until = time.process_time(), time.perf_counter(), time.perf_counter() + seconds
        count = 1
        while count < _WARM_UP_RUNS or time.perf_counter() < until:
            self.session.run(*self.frame)
            count += 1
        # CPU time is counted in coarse ticks on some kernels: warm-up makes the base long enough for small models.
        self.cpu_s, self.cpu_wall_s = time.process_time() - cpu, time.perf_counter() - wall

    def run(self, count: int) -> None:
        session, frame, samples = self.session, self.frame, self.samples_ns
        set_input, invoke, output, clock = session.set_input, session.invoke, session.output, time.perf_counter_ns
        inputs, outputs = tuple(enumerate(frame)), range(len(session.outputs))
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(count):
            started = clock()
            for i, array in inputs:
                set_input(i, array)
            invoke()
            for i in outputs:
                output(i)
            samples.append(clock() - started)
        elapsed = time.perf_counter() - wall
        self.wall_s += elapsed
        self.cpu_s, self.cpu_wall_s = self.cpu_s + time.process_time() - cpu, self.cpu_wall_s + elapsed
        now = self._board.is_throttled()
        self.throttled = now if self.throttled is None else bool(now or self.throttled)

    def result(self, start: Start) -> BenchResult:
        import numpy as np

        ms = np.array(self.samples_ns, dtype=np.float64) / 1e6
        p50, p95, p99 = (round(float(x), 4) for x in np.percentile(ms, (50, 95, 99)))
        ran = self.session.ran_on
        return BenchResult(
            model=self.name, device=probes.board_name(), delegate=ran.ran, delegate_asked=ran.asked,
            delegated_ops=ran.delegated_ops, total_ops=ran.total_ops, runtime=ran.runtime, threads=self.threads,
            n=len(self.samples_ns), p50_ms=p50, p95_ms=p95, p99_ms=p99, mean_ms=round(float(ms.mean()), 4),
            min_ms=round(float(ms.min()), 4), throughput_per_s=round(len(self.samples_ns) / self.wall_s, 2),
            throttled=self.throttled, load_ms=round(self.load_ms, 3), rss_bytes=self.rss_bytes,
            cpu_percent=round(100 * self.cpu_s / self.cpu_wall_s, 1), temperature_c=probes.temperature_c(),
            frequency_mhz=probes.frequency_mhz(), governor=probes.governor(), note=ran.note,
            histogram=_histogram(self.samples_ns), ci95_ms=_interval_ms(self.samples_ns),
            throttled_before=start.throttled, temperature_before_c=start.temperature_c, waited_s=start.waited_s,
        )  # fmt: skip


def _interval_ms(samples_ns: Sequence[int]) -> tuple[float, float] | None:
    found = median_interval(samples_ns)
    return None if found is None else (round(found[0] / 1e6, 4), round(found[1] / 1e6, 4))


def _histogram(samples_ns: Sequence[int]) -> tuple[tuple[float, float, int], ...]:
    """Buckets (base**i, base**(i + 1)] ns with base = 2 ** (1 / 16), bounds in ms."""
    import numpy as np

    ns = np.maximum(np.array(samples_ns, np.float64), 1.0)
    indices, counts = np.unique(np.ceil(np.log2(ns) * _BUCKETS_PER_OCTAVE).astype(int) - 1, return_counts=True)
    return tuple(
        (float(2 ** (i / _BUCKETS_PER_OCTAVE) / 1e6), float(2 ** ((i + 1) / _BUCKETS_PER_OCTAVE) / 1e6), int(n))
        for i, n in zip(indices, counts, strict=True)
    )


def random_inputs(session: Session) -> list[npt.NDArray[np.generic]]:
    """One sample per input, always the same: 8 and 16 bits over their whole range, floats in 0..1.

    Wider integers are ids into a table, of which only 0 is sure to be there.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    samples: list[npt.NDArray[np.generic]] = []
    for info in session.inputs:
        if info.dtype.kind in "iu" and info.dtype.itemsize > 2:
            samples.append(np.zeros(info.shape, info.dtype))
        elif info.dtype.kind in "iu":
            limits = np.iinfo(info.dtype)
            samples.append(rng.integers(limits.min, limits.max, info.shape, dtype=info.dtype, endpoint=True))
        elif info.dtype.kind in "fb":
            samples.append(rng.random(info.shape).astype(info.dtype))
        else:
            raise UsageError(f"input {info.name} is of type {info.dtype}: no sample can be made up for it")
    return samples
