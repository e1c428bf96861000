"""`edgeloop collect` as a process: killed in the middle, two at once, stopped, and started wrongly."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgeloop.cli.main import main
from edgeloop.errors import DeviceError
from edgeloop.telemetry.collector import start_collector
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import encode_report
from support.collecting import CollectorProcess, collector_process, make_report, wait_until

Key = tuple[str, str, int]


class Devices:
    """Threads that send until told to stop, a report again and again until it is acknowledged, as an agent does."""

    def __init__(self, urls: list[str], count: int) -> None:
        self.acknowledged: list[Key] = []
        self.in_flight: set[Key] = set()
        self._urls = urls
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        transport = open_transport(self._urls[number % len(self._urls)])
        device, boot, seq = f"pi-{number}", f"{number:016x}", 0
        while not self._done.is_set():
            keys = [(device, boot, seq + n) for n in (1, 2, 3)]
            seq += 3
            bodies = [encode_report(make_report(key[2], device=device, boot=boot, latency={})) for key in keys]
            while True:
                try:
                    ack = transport.send(bodies, 30.0)
                except DeviceError:
                    if self._done.wait(0.02):
                        self.in_flight.update(keys)
                        break
                else:
                    assert ack.accepted == ((boot, seq - 2, seq),)
                    self.acknowledged += keys
                    break
        transport.close()


def stored(path: Path) -> list[Key]:
    store = open_store(f"sqlite:///{path}", create=False)
    keys = [each.report.key for each in store.reports()]
    store.close()
    return keys


@pytest.mark.slow
def test_kill_9_in_the_middle_loses_no_acknowledged_report_and_doubles_none(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with collector_process(path) as first:
        address = urlsplit(first.url).netloc
        devices = Devices([first.url], 4)
        wait_until(lambda: len(devices.acknowledged) >= 60, "reports are acknowledged")
        first.kill()
    acknowledged = list(devices.acknowledged)
    assert set(acknowledged) <= set(stored(path)), "acknowledged and lost"
    for _ in range(2):
        with collector_process(path, listen=address) as again:
            before = len(devices.acknowledged)
            wait_until(lambda before=before: len(devices.acknowledged) >= before + 60, "they go on")  # type: ignore[misc]
            again.kill()
    devices.finish()
    keys = stored(path)
    assert len(keys) == len(set(keys)), "stored twice"
    assert set(devices.acknowledged) <= set(keys)
    assert set(keys) <= set(devices.acknowledged) | devices.in_flight


@pytest.mark.slow
def test_two_collectors_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with collector_process(path) as one, start_collector(f"sqlite:///{path}") as two:
        devices = Devices([one.url, two.url], 4)
        both = Devices([one.url, two.url], 2)  # the same keys as two of the others, maybe at the other collector
        wait_until(lambda: len(devices.acknowledged) >= 150, "reports are acknowledged")
        devices.finish()
        both.finish()
    keys = stored(path)
    assert len(keys) == len(set(keys))
    assert set(keys) == set(devices.acknowledged) | set(both.acknowledged)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_a_summary(tmp_path: Path, number: signal.Signals) -> None:
    with collector_process(tmp_path / "x.db") as collector:
        transport = open_transport(collector.url)
        transport.send([encode_report(make_report(1))])
        collector.process.send_signal(number)
        out, err = collector.process.communicate(timeout=60)
        transport.close()
    assert collector.process.returncode == 0, err
    assert out == "", "one JSON object, which was read before"
    assert err.splitlines() == ["stopped; 1 report stored, 0 sent again, 0 rejected"]


def test_ready_is_one_json_object_with_the_real_address(tmp_path: Path) -> None:
    with collector_process(tmp_path / "x.db") as collector:
        assert isinstance(collector, CollectorProcess)
        assert urlsplit(collector.url).port not in (0, None)
        assert open_transport(collector.url).send([encode_report(make_report(1))]).accepted


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--listen", "0.0.0.0:0"], 4, "without TLS"),
        (["--listen", "nonsense"], 2, "HOST:PORT"),
        (["--store", "postgres-in-my-head"], 2, "not a store URL"),
        (["--store", "sqlite:////nowhere/x.db"], 2, "does not exist"),
        (["--serial", "/nowhere/ttyUSB0"], 3, "is not there"),
        (["--serial", "/dev/x?baud=fast"], 2, "no speed"),
    ],
)
def test_a_wrong_start_is_one_line_and_the_right_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    options: list[str], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    arguments = ["collect", "--json", "--listen", "127.0.0.1:0", "--store", "sqlite:///x.db", *options]
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert len(captured.err.splitlines()) <= 2
    assert json.loads(captured.out)["error"]["exit_code"] == code
