"""One device's reports put together, as the store has them: what `run` and `demo` show at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import STAGES, Report

if TYPE_CHECKING:
    from edgeloop.telemetry.store.database import Store


@dataclass(frozen=True)
class DeviceSummary:
    """Counters summed and histograms merged over `reports` reports; `last` is the newest of them."""

    reports: int
    counters: Mapping[str, int]
    latency: Mapping[str, Histogram]
    events: tuple[str, ...]
    last: Report

    def latency_table(self) -> list[dict[str, Any]]:
        """A row per stage in pipeline order: stage, n, p50_ms, p95_ms, p99_ms."""
        return [
            {
                "stage": stage,
                "n": histogram.count,
                "p50_ms": histogram.percentile(50),
                "p95_ms": histogram.percentile(95),
                "p99_ms": histogram.percentile(99),
            }
            for stage in STAGES
            if (histogram := self.latency.get(stage)) is not None
        ]

    def latency_text(self) -> str:
        """The same as lines for people."""
        last = self.last
        return "\n".join(
            latency_lines(self.latency_table(), threads=self.threads, delegate=last.delegate_ran, device=last.device)
        )

    @property
    def threads(self) -> int | None:
        """Of the interpreter; None for an agent that does not report them."""
        threads = self.last.gauges.get("threads")
        return None if threads is None else int(threads)

    def ran_text(self) -> str:
        """Which delegate ran, of what it was asked to, how much of the model it took, and the interpreter's threads."""
        last = self.last
        if not last.delegate_ran:
            return f"nothing: no model was loaded (asked: {last.delegate_asked})"
        asked = "" if last.delegate_ran == last.delegate_asked else f" (asked: {last.delegate_asked})"
        ran = f"{last.delegate_ran}{asked}, {last.delegated_ops} of {last.total_ops} ops, {last.runtime}"
        threads = threads_text(last.gauges)
        return f"{ran}, {threads}" if threads else ran


def latency_lines(rows: Iterable[Mapping[str, Any]], *, threads: int | None, delegate: str, device: str) -> list[str]:
    """A head and a line per row {stage, n, p50_ms, p95_ms, p99_ms}. Every line carries what its numbers hold for, in 80
    columns where delegate and device have short names.
    """
    lines = [f"{'stage':<11} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'n':>7} {'threads':>7}  {'ran on':<7} device"]
    where = f"{'-' if threads is None else threads:>7}  {delegate or '-':<7} {device}"
    lines += [
        f"{r['stage']:<11} {r['p50_ms']:>8.3f} {r['p95_ms']:>8.3f} {r['p99_ms']:>8.3f} {r['n']:>7} {where}"
        for r in rows
    ]
    return lines


def threads_text(gauges: Mapping[str, float]) -> str:
    """`1 thread`, `4 threads`; empty for an agent that does not report them."""
    threads = gauges.get("threads")
    return "" if threads is None else f"{threads:g} thread" + ("" if threads == 1 else "s")


def summarize_device(store: Store, device: str) -> DeviceSummary | None:
    """None when no report of this device arrived."""
    from edgeloop.telemetry.store import Selection

    selection = Selection(device=device)
    counters: Counter[str] = Counter()
    events: list[str] = []
    last: Report | None = None
    reports = 0
    for stored in store.reports(selection):
        last = stored.report
        reports += 1
        counters.update(last.counters)
        events += [f"{event.kind}: {event.detail}" for event in last.events]
    if last is None:
        return None
    latency = {group[0]: histogram for group, histogram in store.latency(selection).items()}
    return DeviceSummary(reports, dict(counters), latency, tuple(events), last)
