"""/metrics: numbers that add up, in a format that Prometheus takes whatever devices call themselves."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.telemetry.collector.metrics import MAX_DEVICES, MAX_MODELS, IngestMetrics, cumulative, render
from edgeloop.telemetry.histogram import Histogram
from support.collecting import make_report

SAMPLE = re.compile(r'^[a-z_]+(\{([a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,(?=[a-z_])|(?=\})))*\})? (\+Inf|[-+0-9.e]+)$')
HOSTILE = 'a"b\\c{d}=,# HELP\\n'


def page(*reports: object) -> str:
    metrics = IngestMetrics()
    metrics.count("batches", 3)
    metrics.observe(reports)  # type: ignore[arg-type]
    return render(metrics, [(1000.5, report) for report in reports], "1.2.3")  # type: ignore[misc]


def value(text: str, start: str) -> float:
    return float(next(line for line in text.splitlines() if line.startswith(start)).rpartition(" ")[2])


def test_counts_and_latency_add_up() -> None:
    reports = [make_report(n, device=f"pi-{n % 2}") for n in range(1, 9)]
    text = page(*reports)
    merged = Histogram.merged([report.latency["invoke"] for report in reports])
    labels = '{bundle="ic",version="3",variant="int8",delegate="xnnpack"'
    assert value(text, "edgeloop_collector_batches_total ") == 3
    assert value(text, f"edgeloop_agent_inferences_total{labels}}}") == 160
    assert value(text, f'edgeloop_latency_seconds_count{labels},stage="invoke"}}') == merged.count
    assert value(text, f'edgeloop_latency_seconds_sum{labels},stage="invoke"}}') == pytest.approx(merged.sum_ms / 1000)
    buckets = [line for line in text.splitlines() if line.startswith("edgeloop_latency_seconds_bucket")]
    invoke = [line for line in buckets if 'stage="invoke"' in line]
    bounds = [float(re.search(r',le="([^"]+)"', line)[1]) for line in invoke]  # type: ignore[index]
    counts = [float(line.rpartition(" ")[2]) for line in invoke]
    assert bounds == sorted(bounds)
    assert bounds[-1] == float("inf")
    assert counts == sorted(counts)
    assert counts[-1] == merged.count
    for bound, count in zip(bounds[:-1], counts[:-1], strict=True):
        assert count == merged.count_at_most(bound * 1000)
    assert value(text, 'edgeloop_device_last_report_timestamp_seconds{device="pi-0"}') == 1000.5
    assert value(text, 'edgeloop_device_temperature_celsius{device="pi-1"}') == 51.5


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=50))
def test_bucket_bounds_split_no_sample(values_ns: list[int]) -> None:
    below = cumulative(Histogram.of_ns(values_ns))
    bounds_ns = [2.0 ** (bound / 2) for bound in range(26, 71)]
    exact = [sum(v <= bound for v in values_ns) for bound in bounds_ns]
    near = [sum(v <= bound * (1 - 1e-9) for v in values_ns) for bound in bounds_ns]
    assert all(low <= found <= high for low, found, high in zip(near, below, exact, strict=True))


@given(st.text(max_size=40))
def test_any_name_keeps_the_format(name: str) -> None:
    """Also names that the codec would not have let in."""
    text = page(make_report(1, device=name, bundle=name, delegate_ran=name, runtime=name))
    for line in text.removesuffix("\n").split("\n"):
        assert line.startswith(("# HELP edgeloop_", "# TYPE edgeloop_")) or SAMPLE.match(line), line


def test_many_models_and_devices_do_not_make_the_page_grow_without_end() -> None:
    metrics = IngestMetrics()
    metrics.observe(make_report(1, bundle=f"b{n}", latency={}) for n in range(MAX_MODELS + 7))
    devices = [(1.0, make_report(1, device=f"d{n}", latency={})) for n in range(MAX_DEVICES + 5)]
    text = render(metrics, devices, "1")
    assert value(text, "edgeloop_collector_reports_without_series_total ") == 7
    assert text.count("edgeloop_device_info{") == MAX_DEVICES


def test_stages_and_counters_of_the_devices_own_making_get_no_series() -> None:
    latency = {"invoke": Histogram.of_ms([1.0]), "#99": Histogram.of_ms([1.0]), "mine": Histogram.of_ms([1.0])}
    text = page(make_report(1, latency=latency, counters={"inferences": 1, "mine": 5}))
    assert "mine" not in text
    assert "#99" not in text


def test_promtool_accepts_the_page() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    text = page(make_report(1), make_report(1, device=HOSTILE, bundle=HOSTILE))
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_are_those_of_every_models_last_report_in_the_devices_last_boot() -> None:
    def alerting(seq: int, bundle: str, seconds: float, boot: str = "00112233445566aa") -> object:
        gauges = {"alert_fallback": seconds} if seconds else {}
        return make_report(seq, bundle=bundle, boot=boot, gauges=gauges)

    metrics = IngestMetrics()
    metrics.observe([alerting(1, "faces", 600), alerting(2, "plates", 0), alerting(3, "faces", 610)])  # type: ignore[list-item]
    assert metrics.alerts() == [("pi-1", "faces", "fallback", 610)]
    text = render(metrics, [], "1")
    assert 'edgeloop_device_alert_seconds{device="pi-1",bundle="faces",alert="fallback"} 610' in text
    metrics.observe([alerting(1, "plates", 0, "00112233445566bb")])  # type: ignore[list-item]
    assert metrics.alerts() == []
    many = {f"alert_{i}": 1.0 for i in range(30)}
    metrics.observe([make_report(n, bundle=f"b{n}", gauges=many) for n in range(1, 60)])
    assert len(metrics.alerts()) <= 16 * 8
