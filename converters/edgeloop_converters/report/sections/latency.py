"""Latency: of the model alone where it was profiled, and per stage as a device reported it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from edgeloop_converters.report.charts import histogram_chart
from edgeloop_converters.report.charts.histogram import Intervals, extent
from edgeloop_converters.report.html import Markup, section, soft, table, tag
from edgeloop_converters.report.words import Values, measured_on, milliseconds

STAGES = ("capture", "preprocess", "invoke", "postprocess", "total")
_PERCENTILES = (50, 95, 99)


class Latencies(Protocol):
    """What is read of `edgeloop.telemetry.histogram.Histogram`."""

    @property
    def count(self) -> int: ...
    @property
    def max_ms(self) -> float: ...
    def percentile(self, p: float) -> float: ...
    def intervals_ms(self) -> Iterable[tuple[float, float, int]]: ...


def latency_section(report: Values, device: str, latency: Mapping[str, Latencies]) -> Markup | None:
    parts = [*_of_the_model(report), *_of_stages(device, latency)]
    if not parts:
        return None
    return section(
        "latency", "Latency", parts, soft("Milliseconds on a logarithmic axis; the height is the number of runs.")
    )


def _of_the_model(report: Values) -> Iterable[Markup]:
    """Histograms of the profile's runs, the float model's beside them on the same axis."""
    histograms = report.get("latency") or {}
    shown: list[tuple[str, Values, Intervals]] = []
    for name, profile in _profiles(report):
        intervals: Sequence[tuple[float, float, int]] = [(lo, hi, n) for lo, hi, n in histograms.get(name) or ()]
        if profile and extent(intervals):
            shown.append((name, profile, intervals))
    if not shown:
        return
    ends = [e for e in (extent(intervals) for _, _, intervals in shown) if e]
    axis = min(e[0] for e in ends), max(e[1] for e in ends)
    yield tag("h3", "The model alone")
    yield soft(f"On {measured_on(shown[-1][1])}.")
    plots = []
    for name, profile, intervals in shown:
        marks = [(f"p{p}", float(profile[f"p{p}_ms"])) for p in _PERCENTILES if profile.get(f"p{p}_ms") is not None]
        chart = histogram_chart(f"latency of {name} in ms", intervals, marks, axis=axis)
        told = ", ".join(f"{mark} {milliseconds(ms)}" for mark, ms in marks)
        plots.append(tag("figure", tag("h4", name), chart, tag("figcaption", told)))
    yield tag("div", plots, class_="plots")


def _profiles(report: Values) -> Iterable[tuple[str, Values]]:
    yield "float", (report.get("float") or {}).get("profile") or {}
    for variant in report.get("variants") or ():
        yield str(variant.get("name")), variant.get("profile") or {}


def _of_stages(device: str, latency: Mapping[str, Latencies]) -> Iterable[Markup]:
    stages = [s for s in STAGES if s in latency and latency[s].count] + sorted(
        s for s in latency if s not in STAGES and latency[s].count
    )
    if not stages:
        return
    rows = [
        [s, *(milliseconds(latency[s].percentile(p)) for p in _PERCENTILES), milliseconds(latency[s].max_ms),
         latency[s].count]
        for s in stages
    ]  # fmt: skip
    plots = []
    for stage in stages:
        one = latency[stage]
        marks = [(f"p{p}", one.percentile(p)) for p in _PERCENTILES]
        chart = histogram_chart(f"latency of {stage} in ms", list(one.intervals_ms()), marks)
        plots.append(tag("figure", tag("h4", stage), chart))
    yield tag("h3", "As the device reported it")
    if device:
        yield soft(f"Measured on {device}.")
    yield tag("div", plots, class_="plots")
    yield table(["stage", "p50", "p95", "p99", "max", "samples"], rows)
