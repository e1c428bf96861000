"""Sinks in front of real far ends: a mosquitto, a pty, a folder, a function; what cannot be written is counted."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from edgeloop.errors import ConfigError, MissingExtraError, UsageError
from edgeloop.postprocess import Anomaly, Box, ClassScore, ClassShare, Detection, Keypoint, Mask, Result
from edgeloop_agent.config_reading import load_config
from edgeloop_agent.sinks import SINKS, Sink, Surroundings, json_lines, open_sink, parse_sink
from edgeloop_agent.sinks.lines import result_line
from edgeloop_agent.sinks.overlay import draw
from edgeloop_agent.sinks.queue import QueuedLines
from support import cameras
from support.agents import Agents, make_bundle, run_cli

CAT = Result("classification", (ClassScore(3, "cat", 0.75),))
PATIENCE_S = 60.0


def wait_for(condition: Callable[[], Any], what: str, sink: Sink | None = None) -> Any:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if sink is not None:
            sink.flush()
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"never {what}; {sink and sink.problem}")


# -- the line

MASK = Mask(np.zeros((2, 2), np.uint8), Box(0, 0, 8, 8), (ClassShare(0, "sky", 1.0),))
KINDS = [
    CAT,
    Result("classification", CAT.top, (np.array([1.0], np.float32),), variant="lite", reused=True),
    Result("detection", detections=(Detection(1, "dog", 0.5, Box(1, 2, 3, float("nan"))),)),
    Result("detection"),
    Result("segmentation", mask=MASK),
    Result("keypoints", keypoints=(Keypoint("nose", 1.0, 2.0, 0.9),)),
    Result("anomaly", anomaly=Anomaly(float("inf"), 1.0, True)),
    Result("embedding", values=(np.ones(4, np.float32),)),
    Result("raw", values=(np.ones((1, 2000), np.float32),)),
    Result("raw"),
    Result("classification", variant="lite", reused=True),
]


@pytest.mark.parametrize("result", KINDS, ids=lambda r: r.kind)
def test_every_kind_of_result_is_one_line_of_json_with_its_own_keys(result: Result) -> None:
    line = result_line("camera:0#7", 1000.25, result, 12.5)
    assert "\n" not in line and line.isascii()
    said = json.loads(line, parse_constant=lambda x: pytest.fail(f"{x} is no JSON"))
    assert (said.pop("source"), said.pop("time"), said.pop("latency_ms")) == ("camera:0#7", 1000.25, 12.5)
    assert said == json.loads(json.dumps(result.to_json()))


# -- MQTT


class Broker(NamedTuple):
    port: int
    start: Callable[[], None]
    stop: Callable[[], None]
    messages: Callable[[], list[str]]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("needs mosquitto: apt-get install mosquitto")
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    running: list[subprocess.Popen[bytes]] = []
    messages: list[str] = []
    listener = Client(CallbackAPIVersion.VERSION2)
    listener.reconnect_delay_set(1, 1)
    listener.on_connect = lambda client, *_: client.subscribe("site/#", qos=1)
    listener.on_message = lambda _c, _d, message: messages.append(f"{message.topic} {message.payload.decode()}")

    def start() -> None:
        running.append(subprocess.Popen([str(program), "-c", str(config)], stderr=subprocess.DEVNULL))
        wait_for(lambda: _answers(port), "listening")

    def stop() -> None:
        running[-1].terminate()
        running[-1].wait()

    listener.connect_async("127.0.0.1", port)
    listener.loop_start()
    yield Broker(port, start, stop, lambda: messages)
    listener.loop_stop()
    for process in running:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_results_reach_a_broker_and_wait_while_it_is_away(broker: Broker) -> None:
    sink = open_sink(f"mqtt://127.0.0.1:{broker.port}/site/door?queue=5")
    for i in range(8):  # nobody is there yet: the oldest three make room
        sink.write(f"early{i}", 1.0, CAT, 2.0)
    wait_for(lambda: sink.problem, "said that nobody is there", sink)
    assert "the broker cannot be reached; up to 5 results wait" in sink.problem
    assert (sink.lines, sink.lost) == (0, 3)
    broker.start()
    wait_for(lambda: sink.lines == 5, "written", sink)
    assert sink.problem == ""
    wait_for(lambda: broker.messages() or sink.write("late", 1.0, CAT, 2.0), "heard", sink)
    message = broker.messages()[-1]
    assert message.startswith("site/door {")
    assert json.loads(message.partition(" ")[2])["top"][0]["label"] == "cat"
    sink.close()
    assert sink.lost == 3


def test_a_broker_that_comes_back_gets_what_waited(broker: Broker) -> None:
    broker.start()
    sink = open_sink(f"mqtt://127.0.0.1:{broker.port}/site/a")
    sink.write("first", 1.0, CAT, 2.0)
    wait_for(lambda: sink.lines == 1, "written", sink)
    broker.stop()
    wait_for(lambda: "the connection is lost" in sink.problem, "lost", sink)
    sink.write("meanwhile", 1.0, CAT, 2.0)
    sink.flush()
    broker.start()
    wait_for(lambda: sink.lines == 2, "written after the break", sink)
    sink.close()
    assert (sink.lines, sink.lost) == (2, 0)


def test_what_no_broker_took_by_the_end_is_lost_and_counted() -> None:
    sink = open_sink("mqtt://127.0.0.1:9/site/a")
    sink.write("x", 1.0, CAT, 2.0)
    began_s = time.monotonic()
    sink.close()
    assert time.monotonic() - began_s < 30
    assert (sink.lines, sink.lost) == (0, 1)


def test_mqtt_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop_agent.sinks.mqtt.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match="mqtt"):
        open_sink("mqtt://127.0.0.1/a")


def test_the_agent_sends_to_a_broker(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    bundle = make_bundle(tmp_path / "digits.bundle")
    agents = Agents(tmp_path)
    try:
        code, summary, said = agents.run(
            "--bundle", bundle, "--source", "synthetic:", "--count", "30", "--rate", "200",
            "--sink", f"mqtt://me:secret@127.0.0.1:{broker.port}/site/agent",
        )  # fmt: skip
    finally:
        agents.close()
    assert code == 0, said
    assert "secret" not in said
    assert summary["sink_errors"] == 0
    assert not [e for e in summary["events"] if e["kind"] in ("sink_failed", "results_lost")], summary["events"]


# -- a serial line


def test_results_go_out_on_a_serial_line() -> None:
    sensor = cameras.Sensor()
    sink = open_sink(f"serial://{sensor.path}?baud=115200")
    sink.write("a", 1.0, CAT, 2.0)
    heard = sensor.heard(until=b"}\n")
    assert json.loads(heard)["source"] == "a"
    wait_for(lambda: sink.lines == 1, "counted")
    sensor.unplug()
    sink.write("b", 1.0, CAT, 2.0)
    wait_for(lambda: sink.problem, "said")
    sink.close()
    assert (sink.lines, sink.lost) == (1, 1)


def test_a_queue_that_is_full_loses_the_oldest() -> None:
    got: list[str] = []

    class Slow:
        def send(self, line: str) -> None:
            time.sleep(0.02)
            got.append(json.loads(line)["source"])

        def close(self) -> None:
            pass

    sink = QueuedLines("slow", Slow, limit=3)
    for i in range(10):
        sink.write(str(i), 1.0, CAT, 1.0)
    sink.close()
    assert got[-3:] == ["7", "8", "9"]
    assert sink.lines + sink.lost == 10
    assert sink.lost >= 6


def test_a_port_that_is_not_there_is_said_and_nothing_blocks() -> None:
    sink = open_sink("serial:///dev/ttyNONE")
    sink.write("a", 1.0, CAT, 1.0)
    wait_for(lambda: "No such file" in sink.problem, "said")
    sink.close()
    assert sink.lost == 1


# -- snapshots


def snapshots(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_snapshots_are_drawn_on_and_only_the_last_stay(tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    sink = open_sink(f"snapshots:{folder}?every=0&keep=3&free=0")
    frame = np.full((96, 128, 3), 200, np.uint8)
    for i in range(6):
        sink.write("x", 1_700_000_000.0 + i, CAT, 1.0, frame)
        wait_for(lambda i=i: sink.lines == i + 1, "written", sink)
    sink.close()
    assert snapshots(folder) == [f"snapshot-20231114T22132{i}.000000Z.jpg" for i in (3, 4, 5)]
    picture = cv2.imread(str(folder / snapshots(folder)[-1]))
    assert picture.shape == frame.shape
    assert (np.abs(picture.astype(int) - 200) > 60).any()
    assert (frame == 200).all()
    again = open_sink(f"snapshots:{folder}?every=0&keep=2&free=0")
    again.write("x", 1_700_000_009.0, CAT, 1.0, frame[:, :, 0])
    wait_for(lambda: again.lines == 1, "written", again)
    again.close()
    assert snapshots(folder) == [f"snapshot-20231114T22132{i}.000000Z.jpg" for i in (5, 9)]


def test_results_that_are_not_due_are_no_losses(tmp_path: Path) -> None:
    sink = open_sink(f"snapshots:{tmp_path / 's'}?every=1000&free=0")
    for i in range(5):
        sink.write("x", float(i), CAT, 1.0, np.zeros((48, 64, 3), np.uint8))
    sink.close()
    assert (sink.lines, sink.lost) == (5, 0)
    assert len(snapshots(tmp_path / "s")) == 1


@pytest.mark.parametrize(
    ("options", "frame", "said"),
    [
        ("every=0&free=1000000", np.zeros((48, 64, 3), np.uint8), "less than 1e+06 MiB are free"),
        ("every=0&free=0", np.zeros(3, np.float32), "the frames are no pictures"),
        ("every=0&free=0", None, "the frames are no pictures"),
    ],
)
def test_a_snapshot_that_cannot_be_is_counted_and_said(tmp_path: Path, options: str, frame: Any, said: str) -> None:
    sink = open_sink(f"snapshots:{tmp_path / 's'}?{options}")
    sink.write("x", 1.0, CAT, 1.0, frame)
    wait_for(lambda: sink.lost == 1, "counted", sink)
    sink.close()
    assert said in sink.problem
    assert snapshots(tmp_path / "s") == []


def test_frames_that_are_rgb_are_saved_in_their_colors(tmp_path: Path) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    sink = open_sink(f"snapshots:{tmp_path}?every=0&free=0", Surroundings(is_rgb=True))
    sink.write("x", 1.0, Result("raw"), 1.0, red)
    wait_for(lambda: sink.lines == 1, "written", sink)
    sink.close()
    assert cv2.imread(str(tmp_path / snapshots(tmp_path)[0]))[40, 60].argmax() == 2


def test_what_was_found_is_drawn_where_it_is() -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    box = draw(picture, Result("detection", detections=(Detection(1, "dog", 0.5, Box(100, 200, 300, 400)),)))
    assert box[300, 100].any() and box[300, 300].any() and not box[300, 200].any()
    class_ids = np.array([[0, 1]], np.uint8)
    mask = draw(picture, Result("segmentation", mask=Mask(class_ids, Box(0, 0, 640, 480))))
    assert mask[240, 500].any() and not mask[240, 100].any()
    points = (Keypoint("nose", 320, 240, 0.9), Keypoint("hidden", 100, 100, 0.01))
    keypoints = draw(picture, Result("keypoints", keypoints=points))
    assert keypoints[240, 320].any() and not keypoints[100, 100].any()
    for result in KINDS:
        draw(np.zeros((4, 4, 3), np.uint8), result if "nan" not in str(result) else CAT)


# -- a function of the user's own

CALLBACK = """
seen = open("seen.txt", "a", buffering=1)

def on_result(inference):
    print(inference.source, inference.result.label, inference.frame.shape, file=seen)
    if inference.source.endswith("[2]"):
        raise ValueError("not this one")
"""


def test_a_function_is_called_for_every_result_and_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CALLBACK)
    bundle = make_bundle(tmp_path / "digits.bundle")
    agents = Agents(tmp_path)
    try:
        code, summary, said = agents.run(
            "--bundle", bundle, "--source", "synthetic:", "--count", "5", "--sink", "call:mine:on_result"
        )
    finally:
        agents.close()
    assert code == 0, said
    assert len((tmp_path / "seen.txt").read_text().splitlines()) == 5
    assert summary["sink_errors"] == 1
    assert "sink_failed: call:mine:on_result raised ValueError: not this one" in said


FATAL_CALLBACK = """
import os, sys, time
n = len(os.listdir("seen"))
def on_result(inference):
    global n
    n += 1
    open(f"seen/{n}", "w").close()
    if n == 1:
        time.sleep(60)
    if n == 2:
        os.kill(os.getpid(), 11)
    if n == 3:
        sys.exit("enough")
"""


@pytest.mark.slow
def test_a_function_that_hangs_dies_or_exits_is_not_held_against_the_delegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seen").mkdir()
    (tmp_path / "fatal.py").write_text(FATAL_CALLBACK)
    bundle = make_bundle(tmp_path / "digits.bundle")
    agents = Agents(tmp_path)
    try:
        code, summary, said = agents.run(
            "--bundle", bundle, "--source", "synthetic:", "--count", "5", "--sink", "call:fatal:on_result",
            "--frame-timeout", "1",
        )  # fmt: skip
    finally:
        agents.close()
    assert code == 0, said
    assert "hung: a sink took more than 1 s for one result" in said
    assert "worker died of SIGSEGV while a sink had its result" in said
    assert "raised SystemExit: enough" in said
    assert (summary["restarts"], summary["fallbacks"], summary["sink_errors"]) == (2, [], 3)
    assert len(list((tmp_path / "seen").iterdir())) == 5


def test_a_reader_that_stands_still_does_not_hold_the_loop_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "_READER_S", 0.2)
    reader, writer = os.pipe()
    sink = json_lines.JsonLines(parse_sink("jsonl:-"), where=Surroundings(writer))
    os.close(writer)
    for i in range(3000):
        sink.write(f"frame-{i}", 1.0, CAT, 1.0)
    sink.flush()
    assert "read nothing" in sink.problem
    assert 0 < sink.lost < 3000
    read = os.read(reader, 1 << 20)
    sink.write("last", 1.0, CAT, 1.0)
    sink.close()
    read += os.read(reader, 1 << 20)
    lines = [json.loads(line) for line in read.splitlines()]
    assert not sink.problem and lines[-1]["source"] == "last"
    assert len(lines) == sink.lines == 3001 - sink.lost


def test_what_a_function_prints_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loud.py").write_text("def f(inference):\n    print('seen', inference.source)\n")
    bundle = make_bundle(tmp_path / "digits.bundle")
    done = run_cli(
        "run", "--bundle", bundle, "--source", "synthetic:", "--count", "2", "--state", tmp_path / "state",
        "--sink", "call:loud:f",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("seen synthetic[0]\nseen synthetic[1]\n")


def test_a_function_that_is_not_there_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_one.py").write_text("1 / 0")
    for text, said in (
        ("call:no_such_module:f", "no module 'no_such_module'"),
        ("call:json:nothing", "has no attribute 'nothing'"),
        ("call:json:__name__", "is no function"),
        ("call:broken_one:f", "ZeroDivisionError while it was imported"),
    ):
        with pytest.raises(UsageError, match=said):
            open_sink(text)


def test_a_config_file_cannot_ask_for_code(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('bundle = "a.bundle"\nsource = "synthetic:"\nsink = ["jsonl:-", "call:os:abort"]\n')
    with pytest.raises(ConfigError, match="runs code, which a file cannot ask for"):
        load_config({}, file)
    assert load_config({"bundle": Path("a"), "source": "synthetic:", "sinks": ("call:os:getpid",)}).sinks


# -- all


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mqtt://broker", "is not complete"),
        ("mqtt:topic", "is not complete"),
        ("mqtt://broker/a?qos=2", "qos must be a whole number from 0 to 1"),
        ("mqtt://broker:x/a", "Port could not"),
        ("snapshots:d?keep=0", "keep must be"),
        ("snapshots:d?colour=1", "'colour' is not an option"),
        ("serial://ttyUSB0", "is not complete"),
        ("call:os; import x:y", "names no function"),
        ("csv:x", "is not known"),
    ],
)
def test_a_sink_that_is_wrong_says_what_is_right(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_sink(text)
    assert said in error.value.message
    assert error.value.hint


def test_people_and_reports_see_no_passwords() -> None:
    for text in ("mqtt://me:secret@broker:1883/a", "mqtts://me:secret@broker/a?password_file=secret"):
        assert "secret" not in str(parse_sink(text))
    assert str(parse_sink("mqtt://me:secret@broker:1884/a")) == "mqtt://broker:1884/a"
    assert set(SINKS) == {"jsonl", "mqtt", "mqtts", "serial", "snapshots", "call"}
