"""A real Prometheus, from Debian's package, scrapes a collector: what it computes is what we compute."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.histogram import Histogram
from support.collecting import batch_of, make_report, wait_until

RULES = Path(__file__).resolve().parents[3] / "docs" / "prometheus"
BUCKET = math.sqrt(2)
"""The factor between two bounds of ours on the page."""


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (apt-get install prometheus)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Prometheus:
    """Its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: object) -> Any:
        address = f"{self._url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=60) as answer:
            return json.load(answer)["data"]

    def value(self, query: str) -> float | None:
        """Of a query with one result; None while there is none."""
        found = self.get("/api/v1/query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def is_ready(self) -> bool:
        try:
            return self.value("vector(1)") == 1
        except OSError:
            return False


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    (folder / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "200ms", "evaluation_interval": "500ms"},
                "rule_files": [str(RULES / "alerts.yml")],
                "scrape_configs": [{"job_name": "edgeloop", "static_configs": [{"targets": [target]}]}],
            }
        )
    )
    port = free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [need("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        made = Prometheus(port)
        wait_until(made.is_ready, "prometheus answers")
        yield made
    finally:
        process.terminate()
        process.wait(timeout=60)


def collect(folder: Path, port: int) -> CollectorHandle:
    return start_collector(f"sqlite:///{folder / 'x.db'}", f"127.0.0.1:{port}")


def test_the_rules_and_the_configuration_of_the_docs_are_sound() -> None:
    promtool = need("promtool")
    for what, name in (("rules", "alerts.yml"), ("config", "scrape.yml")):
        done = subprocess.run([promtool, "check", what, RULES / name], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_fire_for_what_they_say_and_for_nothing_else(tmp_path: Path) -> None:
    promtool = need("promtool")
    bucket = 'edgeloop_latency_seconds_bucket{bundle="ic",version="3",stage="invoke",'
    series = {
        'up{job="edgeloop",instance="gone"}': "1x2 0x28",
        'up{job="edgeloop",instance="well"}': "1x30",
        'edgeloop_collector_reports_rejected_total{instance="well"}': "0x10 5x20",
        'edgeloop_device_last_report_timestamp_seconds{device="silent"}': "0x30",
        'edgeloop_device_last_report_timestamp_seconds{device="well"}': "0+60x30",
        'edgeloop_device_alert_seconds{device="pi-1",bundle="ic",alert="fallback"}': "0+60x30",
        'edgeloop_device_temperature_celsius{device="hot"}': "60x5 85x25",
        'edgeloop_device_temperature_celsius{device="well"}': "60x30",
        f'{bucket}le="0.1"}}': "0+50x30",
        f'{bucket}le="1"}}': "0+100x30",
        f'{bucket}le="+Inf"}}': "0+100x30",
        'edgeloop_agent_errors_total{bundle="ic",version="3"}': "0+1x30",
        'edgeloop_agent_frames_total{bundle="ic",version="3"}': "0+1000x30",
    }
    firing = {
        "EdgeloopCollectorAway": 1, "EdgeloopReportsRejected": 1, "EdgeloopDeviceSilent": 1, "EdgeloopFallbackLasts": 1,
        "EdgeloopDeviceHot": 1, "EdgeloopModelSlow": 1, "EdgeloopModelFails": 0, "EdgeloopStoreNotWritable": 0,
    }  # fmt: skip
    queries = [
        {
            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
            "eval_time": "20m",
            "exp_samples": [{"labels": "{}", "value": count}],
        }
        for name, count in firing.items()
    ]
    test = {
        "rule_files": [str(RULES / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": queries,
            }
        ],
    }
    (tmp_path / "rules_test.yml").write_text(json.dumps(test))
    done = subprocess.run([promtool, "test", "rules", tmp_path / "rules_test.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_real_prometheus_agrees_with_us_and_sees_through_a_restart(tmp_path: Path) -> None:
    need("prometheus")
    reports = [make_report(n, device=f"pi-{n % 3}") for n in range(1, 31)]
    port = free_port()
    with prometheus(tmp_path, f"127.0.0.1:{port}") as server:
        with collect(tmp_path, port) as collector:
            wait_until(lambda: server.value("edgeloop_collector_reports_stored_total") == 0, "an empty collector seen")
            collector.ingest.handle(batch_of(*reports[:10]))
            wait_until(lambda: server.value("edgeloop_collector_reports_stored_total") == 10, "10 reports seen")
            collector.ingest.handle(batch_of(*reports))
            wait_until(lambda: server.value("edgeloop_collector_reports_stored_total") == 30, "30 reports seen")
            for stage in ("invoke", "total"):
                merged = Histogram.merged(report.latency[stage] for report in reports)
                for p in (50, 95, 99):
                    query = f'sum by (le) (edgeloop_latency_seconds_bucket{{stage="{stage}"}})'
                    theirs_s = server.value(f"histogram_quantile({p / 100}, {query})")
                    assert theirs_s is not None
                    ours_s = merged.percentile(p) / 1000
                    assert ours_s / BUCKET < theirs_s < ours_s * BUCKET
                count = server.value(f'sum(edgeloop_latency_seconds_count{{stage="{stage}"}})')
                assert count == merged.count
            assert server.value('edgeloop_device_temperature_celsius{device="pi-1"}') == 51.5
            assert server.value("sum(increase(edgeloop_latency_seconds_count[1m]))") > 0  # type: ignore[operator]
        wait_until(lambda: server.value("up") == 0, "the collector gone")
        with collect(tmp_path, port) as collector:
            collector.ingest.handle(batch_of(*reports, make_report(31)))
            wait_until(lambda: server.value("edgeloop_store_reports_total") == 31, "31 reports seen")
            assert server.value("edgeloop_collector_reports_stored_total") == 1
            assert server.value("edgeloop_collector_reports_duplicate_total") == 30
            assert server.value("resets(edgeloop_collector_reports_stored_total[5m])") == 1
            assert server.value("resets(edgeloop_store_reports_total[5m])") == 0
            assert server.value("resets(edgeloop_store_inferences_total[5m])") == 0
            grown = server.value("increase(edgeloop_collector_reports_stored_total[5m])")
            assert grown is not None and grown > 29  # a reset is no loss to `increase`
            query = "edgeloop_collector_reports_stored_total"
            now_s = time.time()
            values = server.get("/api/v1/query_range", query=query, start=now_s - 60, end=now_s, step=0.2)
            numbers = [float(value) for _, value in values["result"][0]["values"]]
            falls = sum(after < before for before, after in pairwise(numbers))
            assert falls == 1, "but for the restart it never falls"
            groups = server.get("/api/v1/rules")["groups"]
            health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
            wait_until(lambda: _healthy(server), "every rule evaluated")
            assert len(health) == 10


def _healthy(server: Prometheus) -> bool:
    groups = server.get("/api/v1/rules")["groups"]
    found = [(rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]]
    assert all(error == "" for _health, error in found), found
    return {health for health, _error in found} == {"ok"}
