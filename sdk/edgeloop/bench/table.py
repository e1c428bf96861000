"""A bench report as a table for people."""

from __future__ import annotations

from edgeloop.bench.values import BenchReport, BenchResult


def as_text(report: BenchReport) -> str:
    """A table; device, threads and n stand on the line of the numbers they belong to."""
    first = report.results[0]
    width = max(len("model"), *(len(result.model) for result in report.results))
    lines = [
        first.runtime,
        f"{'model':<{width}} {'ran on':<12} {'ops':>9} {'p50 ms':>9} {'95 % CI':>17} {'p95 ms':>9} {'p99 ms':>9} "
        f"{'n':>6} {'threads':>7} {'per s':>9} {'load ms':>8} {'RSS':>9} {'CPU':>6}  device",
    ]
    lines += [_row(result, width) for result in report.results]
    lines += [f"{result.model}: {result.note}" for result in report.results if result.note]
    if first.waited_s:
        lines.append(f"waited {first.waited_s:.0f} s for the board to cool")
    if first.throttled_before:
        lines.append("THROTTLED before it began")
    if any(result.throttled for result in report.results):
        lines.append("THROTTLED while measuring: too hot or too little power; these numbers are too high")
    if first.governor not in (None, "performance"):
        lines.append(f"CPU governor is {first.governor}: the clock may vary")
    return "\n".join(lines)


def _row(r: BenchResult, width: int) -> str:
    rss = f"{r.rss_bytes / (1 << 20):.0f} MiB" if r.rss_bytes is not None else "-"
    ops = f"{r.delegated_ops}/{r.total_ops}"
    sure = f"{r.ci95_ms[0]:.3f}-{r.ci95_ms[1]:.3f}" if r.ci95_ms is not None else "-"
    return (
        f"{r.model:<{width}} {r.delegate:<12} {ops:>9} {r.p50_ms:>9.3f} {sure:>17} {r.p95_ms:>9.3f} {r.p99_ms:>9.3f} "
        f"{r.n:>6} {r.threads:>7} {r.throughput_per_s:>9.1f} "
        f"{r.load_ms:>8.1f} {rss:>9} {r.cpu_percent:>5.0f}%  {r.device}"
    )
