"""Simulated devices: the device's own path, many of them on few threads, against a real collector."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edgeloop.cli.main import main
from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.simulation.simulate import MAX_ON_DISK, Simulation, simulate
from edgeloop.telemetry.transports import NotAcknowledgedError
from edgeloop.telemetry.transports.http import HttpTransport
from edgeloop.telemetry.wire.codec import Ack


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorHandle]:
    with start_collector(f"sqlite:///{tmp_path / 'telemetry.db'}", listen="127.0.0.1:0") as handle:
        yield handle


@pytest.mark.parametrize("spool", ["memory", "sqlite"])
def test_every_report_of_every_device_arrives_once(
    collector: CollectorHandle, spool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ["--devices", "5", "--reports", "6", "--interval", "0.02", "--batch", "2", "--spool", spool]
    assert main(["telemetry", "simulate", "--to", collector.url, "--json", *plan]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["acknowledged"], result["rejected"], result["merged"], result["lost"]) == (30, 0, 0, 0)
    assert 0 < result["ack_p50_ms"] <= result["ack_p95_ms"]
    stored = sorted((s.report.device, s.report.seq) for s in collector.store.reports())
    assert stored == [(f"sim-{device:03d}", seq) for device in range(5) for seq in range(1, 7)]


def test_a_batch_that_is_not_acknowledged_comes_again(
    collector: CollectorHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, failures = HttpTransport.send, [1, 1, 1]

    def sometimes(self: HttpTransport, batch: Sequence[bytes], timeout_s: float = 10.0) -> Ack:
        ack = send(self, batch, timeout_s)
        if failures:
            failures.pop()
            raise NotAcknowledgedError("the answer was lost")  # what comes again is a duplicate
        return ack

    monkeypatch.setattr(HttpTransport, "send", sometimes)
    result = simulate(collector.url, Simulation(3, 2, 0.0))
    assert (result.acknowledged, result.retries) == (6, 3)
    assert collector.store.counts().reports == 6


def test_who_reports_to_nobody_hears_of_it_at_once_and_not_for_long() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url, said = f"http://127.0.0.1:{taken.getsockname()[1]}", list[tuple[float, str]]()
        began_s = time.monotonic()
        with pytest.raises(DeviceError, match="refused"):
            simulate(
                url,
                Simulation(20, 2, 0.1, first_patience_s=1.0),
                say=lambda line: said.append((time.monotonic(), line)),
            )
    assert time.monotonic() - began_s < 120
    ((said_s, line),) = said
    assert said_s - began_s < 60
    assert line.endswith("; tried again for 1 s")


def test_what_cannot_be_simulated_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="on the disk"):
        Simulation(MAX_ON_DISK + 1, 1, spool="sqlite")
    with pytest.raises(UsageError, match="spool must be"):
        Simulation(1, 1, spool="tape")
