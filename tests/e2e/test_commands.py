"""Operator, collector and device as processes of their own: `edgeloop`, `edgeloop collect`, `edgeloop-agent run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tty
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.agents import Agents, make_bundle
from support.collecting import collector_process


def edgeloop(*arguments: str | Path) -> tuple[int, dict, str]:
    done = subprocess.run(
        [sys.executable, "-m", "edgeloop.cli", *map(str, arguments), "--json"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["http", "serial"])
def test_an_operator_measures_a_model_on_a_device_by_its_name(agents: Agents, tmp_path: Path, way: str) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    master, slave = os.openpty()
    tty.setraw(slave)
    # The collector has the other end of the device's line as a port of its own.
    options = ["--serial", os.ttyname(slave)] if way == "serial" else []
    device_end, far_end = (os.openpty() if way == "serial" else (master, slave))[:2]
    if way == "serial":
        _join(master, device_end)
    with collector_process(tmp_path / "x.db", *options) as collector:
        telemetry = collector.url if way == "http" else f"serial://{os.ttyname(far_end)}?baud=115200"
        agent = agents.start(
            "--bundle", bundle, "--source", "synthetic:", "--rate", "50", "--device", "pi-1",
            "--report-interval", "0.5", "--telemetry", telemetry,
        )  # fmt: skip
        agent.wait_until(lambda: _devices(collector.url), "reported")
        by_name = ("pi-1", "--collector", collector.url)
        code, data, err = edgeloop("bench", bundle, "--device", *by_name, "-n", "50", "--pause")
        assert code == 0, err
        assert (data["n"], data["worker"], data["delegate"]) == (50, "paused", "xnnpack")
        low, high = data["ci95_ms"]
        assert low <= data["p50_ms"] <= high
        code, data, err = edgeloop("device", "info", *by_name)
        assert (code, data["device"]) == (0, "pi-1"), err
        code, data, err = edgeloop("device", "ping", "pi-2", "--collector", collector.url, "--timeout", "1")
        assert code == 3
        assert "no report of pi-2 has arrived here; did you mean pi-1?" in data["error"]["message"]
        summary = agent.stop()
        assert summary["reports"]["lost"] == 0


def _devices(url: str) -> bool:
    with urlopen(f"{url}/v1/devices") as answer:
        return bool(json.load(answer)["devices"])


def _join(a: int, b: int) -> None:
    """Two masters as one cable."""
    import select
    import threading
    from contextlib import suppress

    tty.setraw(a)
    tty.setraw(b)

    def carry() -> None:
        with suppress(OSError):
            while True:
                for source in select.select([a, b], [], [])[0]:
                    os.write(b if source == a else a, os.read(source, 4096))

    threading.Thread(target=carry, daemon=True).start()
