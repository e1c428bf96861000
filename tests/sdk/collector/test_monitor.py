"""`edgeloop monitor`: what it prints, and what it sends to a real terminal (a pty), byte by byte."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeloop.cli._monitor_text import _age, _count, device_lines, fleet_lines, remarks
from edgeloop.cli._terminal import Look, locale_is_utf8, width
from edgeloop.cli.main import main
from edgeloop.cli.monitor import Picture, paged
from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.collector.security.registry import Registry
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.overview import Overview, describe
from edgeloop.telemetry.store.rows import StoredReport
from support.collecting import PATIENCE_S, make_report, wait_until, with_event

HOSTILE = "[red]x\x1b[2J\u202e名前"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorHandle]:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as handle:
        yield handle


def fleet(count: int, collector: CollectorHandle) -> None:
    collector.store.insert(
        [
            make_report(1, device=f"pi-{n:04d}", latency={"invoke": Histogram.of_ms([n + 1.0])}, delegate_ran="edgetpu")
            for n in range(count)
        ]
    )


def once(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["monitor", "--once", *options]) == 0
    return capsys.readouterr().out


def test_a_fleet_is_a_line_per_device_in_80_columns(
    collector: CollectorHandle, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.store.insert([make_report(n, gauges={"temperature_c": 81.0, "throttle_flags": 4.0}) for n in (1, 2)])
    collector.store.insert([make_report(1, device="a-device-with-quite-a-long-name", bundle="b" * 60)])
    text = once(capsys, "--url", collector.url)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "2 devices, 3 reports, 60 inferences" in text
    for words in ("p50 ms", "p99 ms", "trend p95", "ic v3 int8", "xnnpack", "! not edgetpu, throttled at 81 C"):
        assert words in text, words
    assert "\x1b" not in text, "no color and no movement where it is no terminal"


def test_one_device_is_shown_with_everything(collector: CollectorHandle, capsys: pytest.CaptureFixture[str]) -> None:
    counters = {"frames": 10, "inferences": 4, "cache_hits_l1": 6, "cache_misses_l1": 4}
    collector.store.insert([make_report(n, gauges={"threads": 4.0}) for n in range(1, 9)])
    collector.store.insert([with_event(make_report(9, gauges={"threads": 4.0, "load_1m": 0.5}, counters=counters))])
    text = once(capsys, "--store", collector.store.url, "--device", "pi-1")
    assert all(len(line) <= 80 for line in text.splitlines())
    for words in ("capture", "preprocess", "invoke", "postprocess", "total", "88% of ops", "! not edgetpu", "4 threads",
                  "p95 of invoke, last 9 reports", "load_1m 0.5", "L1 hits 60%", "frames 178",
                  "fallback: edgetpu -> xnnpack", "inferences/s"):  # fmt: skip
        assert words in text, words
    assert sum(character in "▁▂▃▄▅▆▇█" for character in text) == 9
    data = json.loads(_json(capsys, "--url", collector.url, "--device", "pi-1"))
    assert [event["kind"] for event in data["events"]] == ["fallback"]


def _json(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["monitor", "--json", *options]) == 0
    return capsys.readouterr().out


def test_filters_and_orders_choose_what_is_shown(
    collector: CollectorHandle, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet(30, collector)
    collector.store.insert([make_report(1, device="quiet", bundle="kws", latency={})])
    for source in (["--store", collector.store.url], ["--url", collector.url]):
        data = json.loads(_json(capsys, *source, "--sort", "p95", "--top", "3"))
        assert [device["device"] for device in data["devices"]] == ["pi-0029", "pi-0028", "pi-0027"]
        assert data["totals"]["devices"] == 31
        data = json.loads(_json(capsys, *source, "--bundle", "kws"))
        assert [device["device"] for device in data["devices"]] == ["quiet"]
        assert json.loads(_json(capsys, *source, "--sort", "p95"))["devices"][-1]["device"] == "quiet"
        assert "no device matches" in once(capsys, *source, "--device", "nobody")


def test_a_device_that_an_overview_leaves_out_is_found_by_name_or_group(
    collector: CollectorHandle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(5, collector)
    registry = Registry(collector.store.database, Audit(collector.store.database))
    registry.set_group(["pi-0001", "pi-0004"], "line-2", by="me")
    every = Overview.page
    monkeypatch.setattr(Overview, "page", lambda overview, *which: (every(overview, *which)[0][:2], None))
    text = once(capsys, "--store", collector.store.url)
    assert "2 of 5 devices" in text and "(first 2 by name)" in text
    wait_until(lambda: collector.fleet.summary().devices == 5, "the collector's own view has all of them")
    for order, first in (("p95", ["pi-0004", "pi-0003"]), ("device", ["pi-0000", "pi-0001"])):
        data = json.loads(_json(capsys, "--url", collector.url, "--sort", order))
        assert [device["device"] for device in data["devices"]] == first, "the first of the whole fleet"
    assert len(json.loads(_json(capsys, "--url", collector.url, "--top", "9"))["devices"]) == 5
    assert "p95 of invoke" in once(capsys, "--url", collector.url, "--device", "pi-0004")
    text = once(capsys, "--url", collector.url, "--group", "line-2")
    assert "2 of 5 devices" in text and "pi-0001" in text and "pi-0004" in text


def test_what_is_wrong_is_named_in_a_line(
    collector: CollectorHandle, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cases = [
        (["--url", "http://127.0.0.1:1"], 3, "not reachable"),
        (["--url", f"{collector.url}/nothing"], 3, "answered 404"),
        (["--url", "ftp://x"], 2, "http://"),
        (["--url", collector.url, "--store", "sqlite:///x.db"], 2, "two places"),
        (["--store", f"sqlite:///{tmp_path / 'none.db'}"], 2, "no telemetry store"),
        (["--url", collector.url, "--top", "0"], 2, "--top"),
        (["--url", collector.url, "--interval", "0"], 2, "--interval"),
    ]
    for options, code, words in cases:
        assert main(["monitor", "--once", *options]) == code
        err = capsys.readouterr().err
        assert words in err
        assert len(err.splitlines()) <= 2


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
@pytest.mark.parametrize("utf8", [True, False])
def test_any_width_holds_and_hostile_names_are_text(columns: int, utf8: bool) -> None:
    hostile = [with_event(make_report(n, device=HOSTILE, bundle="名" * 50), "k\x1b") for n in (1, 2)]
    empty = {"latency": {}, "gauges": {}, "counters": {}, "total_ops": 0, "delegated_ops": 0, "delegate_ran": ""}
    bare = [make_report(1, bundle="", period_s=0.0, **empty)]
    views = [describe([StoredReport(n, 1.0, r) for n, r in enumerate(each)]) for each in (hostile, bare)]
    devices = [view.to_dict() for view in views]
    look = Look(columns, 24, utf8)
    lines = [line for block in fleet_lines(devices, 2.0, look) for line in block]
    event = {"time_s": 0, "kind": HOSTILE, "detail": HOSTILE}
    lines += device_lines(devices, [event], 2.0, look)
    if columns >= 60:
        assert all(width(line.text) <= columns for line in lines)
    for line in lines:
        assert line.text.isprintable()
        assert utf8 or line.text.isascii()


def test_a_thousand_devices_are_pages_of_whole_blocks(collector: CollectorHandle) -> None:
    fleet(5, collector)
    data = Overview(collector.store).to_dict(1.0)
    data["devices"] = [{**data["devices"][n % 5], "device": f"pi-{n:04d}"} for n in range(1000)]
    picture = Picture(data, data["devices"], [], "here", False)
    seen: list[str] = []
    look = Look(80, 24)
    for page in range(1000):
        lines, shown = paged(picture, page, look, "", "device")
        if shown != page:
            break
        assert len(lines) <= 24
        seen += re.findall(r"pi-\d{4}", "\n".join(line.text for line in lines))
    assert seen == [device["device"] for device in data["devices"]]
    lines, _ = paged(picture, 0, look, "the collector is away", "device")
    assert "not up to date: the collector is away" in lines[-1].text


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LC_ALL": "C", "LANG": "C.UTF-8"}, False),
        ({"LANG": "de_DE.ISO-8859-1", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LC_CTYPE": "en_US.UTF-8"}, True),
        ({}, False),
    ],
)
def test_the_locale_says_whether_more_than_ascii_can_be_shown(variables: dict[str, str], expected: bool) -> None:
    assert locale_is_utf8(variables) is expected


@pytest.mark.parametrize(
    ("n", "shown"), [(99_999, "99999"), (1_234_567, "1234k"), (25 * 10**6, "25M"), (3 * 10**10, "30G")]
)
def test_counts_keep_to_five_characters(n: int, shown: str) -> None:
    assert _count(n) == shown


def test_ages_keep_to_six_characters() -> None:
    assert [_age(s) for s in (-5, 3, 99, 100, 6000, 172_800)] == ["0 s", "3 s", "99 s", "2 min", "2 h", "2 d"]


class Terminal:
    """`edgeloop monitor` on a pty."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process, self._fd = process, fd
        self.sent = b""

    def read_until(self, pattern: str) -> str:
        """What came since the last call, up to a match."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern.encode(), self.sent)):
            assert time.monotonic() < give_up_s, self.sent
            if select.select([self._fd], [], [], 0.5)[0]:
                try:
                    self.sent += os.read(self._fd, 1 << 16)
                except OSError as error:  # it ended
                    raise AssertionError(self.sent) from error
        taken, self.sent = self.sent[: found.end()], self.sent[found.end() :]
        return taken.decode()

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def is_cooked(self) -> bool:
        return bool(termios.tcgetattr(self._fd)[3] & termios.ECHO)

    def end(self) -> tuple[int, str]:
        """(exit code, all that it said at the end)."""
        while True:
            try:
                more = os.read(self._fd, 1 << 16)
            except OSError:
                break
            if not more:
                break
            self.sent += more
        return self.process.wait(timeout=PATIENCE_S), self.sent.decode()


@contextmanager
def terminal(*options: str, columns: int = 80, rows: int = 24, **variables: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES", "LC_ALL")}
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeloop.cli", "monitor", *options],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={**environment, "TERM": "xterm-256color", "LANG": "C.UTF-8", **variables},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


FRAME_END = r"\x1b\[J"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def rows_of(frame: str) -> list[str]:
    return [ANSI.sub("", row) for row in frame.rpartition("\x1b[H")[2].split("\r\n")]


def test_it_lives_on_a_terminal_pages_resizes_and_leaves_no_trace(collector: CollectorHandle) -> None:
    fleet(60, collector)
    with terminal("--url", collector.url, "--interval", "0.2", "--sort", "p95") as screen:
        first = screen.read_until(FRAME_END)
        assert first.startswith("\x1b[?1049h\x1b[?25l")
        rows = rows_of(first)
        assert len(rows) == 24
        assert all(len(row) <= 80 for row in rows)
        assert rows[2].startswith("pi-0059")
        assert "page 1 of 3" in rows[-1]
        screen.press("n")
        screen.read_until("page 2 of 3")
        screen.press("s")
        screen.read_until("by p99")
        screen.resize(60, 12)
        screen.read_until(r"page 2 of 7")
        screen.read_until(FRAME_END)
        rows = rows_of(screen.read_until(FRAME_END))
        assert len(rows) <= 12
        assert [row for row in rows if len(row) > 60] == []
        collector.store.insert([make_report(2, device="pi-new")])
        screen.read_until("61 devices")
        assert not screen.is_cooked()
        screen.press("\x03")
        code, rest = screen.end()
        assert code == 0
        assert rest.endswith("\x1b[?25h\x1b[?1049l")
        assert "Traceback" not in rest


def test_a_collector_that_goes_away_leaves_what_was_there(tmp_path: Path) -> None:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as collector:
        fleet(2, collector)
        with terminal("--url", collector.url, "--interval", "0.1") as screen:
            screen.read_until("pi-0001")
            collector.stop()
            text = screen.read_until("not up to date")
            assert "pi-0001" in text
            screen.press("q")
            code, rest = screen.end()
            assert (code, rest.endswith("\x1b[?1049l")) == (0, True)


def test_no_color_and_no_utf8_are_heeded(collector: CollectorHandle) -> None:
    collector.store.insert([make_report(n) for n in range(1, 5)])
    with terminal("--store", collector.store.url, "--once", "--device", "pi-1", LC_ALL="C", NO_COLOR="1") as screen:
        _, text = screen.end()
        assert "pi-1" in text
        assert "\x1b" not in text
        assert text.isascii()
    with terminal("--store", collector.store.url, "--once") as screen:
        _, text = screen.end()
        assert "\x1b[31m  ! not edgetpu" in text
        assert "█" in text


def test_a_terminated_monitor_gives_the_terminal_back(collector: CollectorHandle) -> None:
    fleet(1, collector)
    with terminal("--store", collector.store.url) as screen:
        screen.read_until("pi-0000")
        screen.process.terminate()
        _, rest = screen.end()
        assert rest.endswith("\x1b[?25h\x1b[?1049l")


def test_a_device_that_reports_no_more_is_said_to_be_silent() -> None:
    assert remarks({**QUIET, "received_s": 100.0, "silent_after_s": 30.0}, 131.0) == ["SILENT for 31 s"]
    assert remarks({**QUIET, "received_s": 100.0, "silent_after_s": 30.0}, 129.0) == []


QUIET = {"delegate_asked": "", "delegate_ran": "cpu", "throttled": False, "unsigned": False}
