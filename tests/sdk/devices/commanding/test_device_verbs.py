"""`edgeloop device ...` and `edgeloop bench --device`, as a user types them, against a real agent on a pty."""

from __future__ import annotations

import json
import os
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop.cli.main import main
from edgeloop.telemetry.collector import start_collector
from support.agents import Agents, make_bundle


class Desk:
    """An agent that reports through a line, and the line's host end as a port with a name."""

    def __init__(self, folder: Path) -> None:
        self.agents = Agents(folder)
        device_master, device_slave = os.openpty()
        host_master, host_slave = os.openpty()
        for slave in (device_slave, host_slave):
            tty.setraw(slave)
        self.bundle = make_bundle(folder / "digits.bundle")
        self.port = folder / "ttyHost"
        self.port.symlink_to(os.ttyname(host_slave))
        self.cable = _carry(device_master, host_master)
        self.agent = self.agents.start(
            "--bundle", self.bundle, "--source", "synthetic:", "--rate", "50", "--device", "pi-1",
            "--report-interval", "3600", "--telemetry", f"serial://{os.ttyname(device_slave)}?baud=4000000",
        )  # fmt: skip
        self.agent.wait_until_said("runs on")
        self.url = f"serial://{self.port}?baud=4000000"


def _carry(a: int, b: int) -> object:
    import select
    import threading
    from contextlib import suppress

    def carry() -> None:
        with suppress(OSError):
            while True:
                ready, _, _ = select.select([a, b], [], [])
                for source, sink in ((a, b), (b, a)):
                    if source in ready:
                        os.write(sink, os.read(source, 4096))

    thread = threading.Thread(target=carry, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.agents.close()


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    code = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, (out, err)
    return json.loads(out)


def test_ping_info_and_what_an_operator_asks(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert _json(capsys, "device", "ping", desk.url)["device"] == "pi-1"
    assert _json(capsys, "device", "info", desk.url)["models"][0]["version"] == 7
    assert _json(capsys, "device", "log-level", desk.url, "debug") == {"level": "debug", "was": "info"}
    assert _json(capsys, "device", "report-now", desk.url) == {"reports": 1}
    assert main(["device", "info", desk.url]) == 0
    shown = capsys.readouterr().out
    assert "digits 7 (int8): running on xnnpack" in shown


def test_a_bundle_is_measured_where_it_runs(desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = _json(capsys, "bench", str(desk.bundle), "--device", desk.url, "-n", "30", "--delegate", "cpu")
    assert {"device", "threads", "p50_ms", "p99_ms", "throughput_per_s", "throttled", "rss_bytes", "ci95_ms"} <= set(
        data
    )
    assert (data["n"], data["delegate"], data["worker"]) == (30, "cpu", "running")
    ops = _json(capsys, "bench", str(desk.bundle), "--device", desk.url, "--per-op", "--delegate", "cpu", "-n", "10")
    assert ops["ops"][0]["name"] == "CONV_2D"
    other = make_bundle(tmp_path / "other.bundle", name="other")
    assert main(["bench", str(other), "--device", desk.url]) == 3
    assert "--device ssh://USER@HOST brings it along" in capsys.readouterr().err
    assert main(["device", "bench", desk.url, "-n", "20"]) == 0
    assert "digits 7; the agent's worker: running" in capsys.readouterr().out


@pytest.mark.slow
def test_a_line_that_a_collector_holds_is_reached_through_it(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _json(capsys, "device", "report-now", desk.url)
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}", serial_ports=[f"{desk.port}?baud=4000000"]) as collector:
        assert main(["device", "ping", desk.url]) == 3
        assert "--collector http" in capsys.readouterr().err
        desk.agent.wait_until(lambda: collector.store.counts().reports, "delivered what it had")
        name = ("pi-1", "--collector", collector.url)
        assert _json(capsys, "device", "ping", *name)["device"] == "pi-1"
        data = _json(capsys, "bench", str(desk.bundle), "--device", *name, "-n", "20")
        assert data["n"] == 20


def test_wrong_use_says_what_to_do(desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["device", "ping", "/dev/ttyUSB0"]) == 2
    assert "serial:///dev/ttyUSB0" in capsys.readouterr().err
    assert main(["bench", str(desk.bundle), "--pause"]) == 2
    assert "--device NAME" in capsys.readouterr().err
    model = tmp_path / "m.tflite"
    model.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(40))
    assert main(["bench", str(model), "--device", desk.url]) == 2
    assert "an agent measures bundles" in capsys.readouterr().err
    assert main(["device", "ping", "pi-1", "--collector", "http://127.0.0.1:1", "--timeout", "1"]) == 3
    assert "is `edgeloop collect` running?" in capsys.readouterr().err
