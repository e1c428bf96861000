"""Live sources when things go wrong: the newest frame, counted drops, damage said once, reconnects with backoff."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import wave
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.contract import InputSpec
from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop_agent.sinks import SINKS, parse_sink
from edgeloop_agent.sources import SOURCES, Wanted, open_source, parse_source
from edgeloop_agent.sources.csi import PipeFeed
from edgeloop_agent.sources.jpeg_stream import MAX_PICTURE_BYTES, JpegSplitter
from edgeloop_agent.sources.live import BACKOFF_MAX_S, EndOfFeedError, LiveSource, Newest, backoff_s
from edgeloop_agent.sources.pictures import Pictures
from edgeloop_agent.sources.serial_lines import LineFeed, open_port
from edgeloop_agent.sources.stream import MultipartFeed
from support import cameras
from support.agents import Agents, make_bundle

IMAGE = Wanted(InputSpec(kind="image", size=(48, 64)), (1, 48, 64, 3), np.dtype(np.uint8), 0.0, 1.0)
TENSOR = Wanted(InputSpec("x", shape=(3,)), (1, 3), np.dtype(np.float32), -1.0, 1.0)


class Script:
    """A Feed that gives numbers, raises what stands among them, and then is quiet."""

    def __init__(self, *items: Any) -> None:
        self._items = list(items)

    def read(self) -> Any:
        if not self._items:
            time.sleep(0.01)
            return None
        item = self._items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        pass


def plain(item: Any, say: Any) -> Any:
    return item


def take(source: LiveSource, timeout_s: float = 10.0) -> tuple[Any, str] | None:
    deadline_s = time.monotonic() + timeout_s
    while not source.wait(0.05):
        assert time.monotonic() < deadline_s
    return source.read()


def test_the_newest_frame_is_taken_and_the_others_are_counted() -> None:
    source = Newest("x", lambda: Script(*range(1, 11)), plain)
    deadline_s = time.monotonic() + 10
    while source.dropped < 9 and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert take(source) == (10, "x#10")
    assert source.dropped == 9
    assert not source.wait(0.02)
    source.close()


def test_every_damaged_item_is_one_error_and_none_is_a_drop() -> None:
    source = Newest("x", lambda: Script(*[DataError("damaged")] * 3, 7), plain)
    errors = 0
    while True:
        try:
            assert take(source) == (7, "x#1")
            break
        except DataError:
            errors += 1
    assert (errors, source.dropped) == (3, 0)
    source.close()


def test_a_feed_that_is_lost_is_connected_again_and_both_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop_agent.sources.live.BACKOFF_FIRST_S", 0.01)
    attempts = count()

    def connect() -> Script:
        n = next(attempts)
        if 0 < n < 4:
            raise DeviceError("source x: nobody is there")
        if n == 4:
            raise RuntimeError("of a library")
        return Script(n, DeviceError("source x: it is gone") if n == 0 else n)

    source = Newest("x", connect, plain)
    events: list[tuple[str, str]] = []
    while not any(kind == "source_back" for kind, _ in events):
        source.wait(0.01)
        events += source.take_events()
    source.close()
    assert [kind for kind, _ in events] == ["source_lost", "source_back"]
    assert events[0][1] == "source x: it is gone; it is tried again"


def test_the_pause_between_attempts_grows_up_to_a_limit() -> None:
    pauses = [backoff_s(n) for n in range(1, 40)]
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == BACKOFF_MAX_S


def test_a_call_that_never_comes_back_is_a_lost_source() -> None:
    forever = threading.Event()
    source = Newest("x", lambda: forever.wait() and None, plain, stalled_after_s=0.05)  # type: ignore[arg-type, return-value]
    with pytest.raises(DeviceError, match="no answer for"):
        while not source.wait(0.02):
            pass
    forever.set()


def test_a_played_file_ends_behind_its_last_frame() -> None:
    source = Newest("x", lambda: Script(1, EndOfFeedError()), plain)
    assert take(source) == (1, "x#1")
    assert take(source) is None
    source.close()


def test_another_size_is_an_error_until_it_stays() -> None:
    said: list[tuple[str, str]] = []
    check = Pictures("c", IMAGE)

    def ok(size: tuple[int, int]) -> bool:
        try:
            check(cameras.picture(1, size), lambda kind, detail: said.append((kind, detail)))
        except DataError:
            return False
        return True

    assert [ok(size) for size in [(64, 48)] * 2 + [(32, 24)] + [(64, 48)]] == [True, True, False, True]
    assert not said
    assert [ok((32, 24)) for _ in range(4)] == [False, False, True, True]
    assert said == [("frame_size", "c: frames are 32x24, the frames were 64x48; they are used as they are")]


def test_a_camera_that_gives_another_size_than_asked_for_says_so() -> None:
    said: list[tuple[str, str]] = []
    Pictures("c", IMAGE, asked=(640, 480))(cameras.picture(1), lambda k, d: said.append((k, d)))
    assert said == [("frame_size", "c: frames are 64x48, asked for were 640x480; they are used as they are")]


def test_jpegs_are_decoded_no_larger_than_the_contract_needs() -> None:
    wanted = replace(IMAGE, input=replace(IMAGE.input, scaled_decode=True))
    said: list[tuple[str, str]] = []
    picture = Pictures("c", wanted, asked=(512, 512))(cameras.jpeg(1, (512, 512)), lambda k, d: said.append((k, d)))
    assert picture.shape == (64, 64, 3)
    assert not said


# -- JPEG streams


def split(data: bytes, pieces: Iterator[int]) -> tuple[list[bytes], int]:
    splitter, found, errors = JpegSplitter(), [], 0
    at = 0
    while at < len(data):
        step = next(pieces)
        splitter.feed(data[at : at + step])
        at += step
        while True:
            try:
                picture = splitter.take()
            except DataError:
                errors += 1
                continue
            if picture is None:
                break
            found.append(picture)
    return found, errors


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20), st.binary(max_size=50))
def test_pictures_are_found_wherever_the_stream_is_cut(steps: list[int], between: bytes) -> None:
    between = between.replace(b"\xff", b"-")
    pictures = [cameras.jpeg(i) for i in range(4)]
    found, errors = split(between.join([b"head", *pictures, b""]), iter(steps * 10_000))
    assert (found, errors) == (pictures, 0)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=2000))
def test_any_bytes_are_taken_without_a_crash(data: bytes) -> None:
    split(b"\xff\xd8\xff" + data, iter([64] * 100))


def test_a_picture_inside_a_picture_stays_there_and_a_cut_one_is_an_error() -> None:
    inner, outer = cameras.jpeg(1), cameras.jpeg(2)
    segment = b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner
    with_thumbnail = outer[:2] + segment + outer[2:]
    assert split(with_thumbnail + outer, iter([1 << 20])) == ([with_thumbnail, outer], 0)
    assert split(outer[:-40] + outer, iter([1 << 20])) == ([outer], 1)


def test_a_picture_without_end_does_not_fill_the_memory() -> None:
    splitter = JpegSplitter()
    splitter.feed(b"\xff\xd8\xff\xe0\x00\x04ab" + bytes(MAX_PICTURE_BYTES))
    with pytest.raises(DataError, match="more than 32 MiB"):
        splitter.take()


# -- the sources


def test_a_damaged_jpeg_in_a_stream_is_counted_and_the_next_is_there() -> None:
    good = cameras.jpeg(1)
    cut, scrambled = good[: len(good) // 2], good[:2] + b"\xff\xc0\x00\x04zz" + good[-2:]

    def parts() -> Iterator[bytes]:
        yield from (good, cut, good, scrambled, good)
        while True:
            yield good

    server = cameras.mjpeg_server(parts, period_s=0.05)
    source = open_source(parse_source(f"http://127.0.0.1:{server.port}/"), IMAGE)
    errors = []
    for _ in range(8):
        try:
            assert take(source) is not None  # type: ignore[arg-type]
        except DataError as error:
            errors.append(error.message)
    source.close()
    server.close()
    assert len(errors) == 2, errors
    assert "cut off" in errors[0]


def test_a_server_that_ends_the_stream_or_refuses_is_tried_again_and_said_once() -> None:
    server = cameras.mjpeg_server(lambda: [cameras.jpeg(1)])
    source = open_source(parse_source(f"http://127.0.0.1:{server.port}/"), IMAGE)
    assert isinstance(source, LiveSource)
    events: list[tuple[str, str]] = []
    deadline_s = time.monotonic() + 20
    while len(events) < 2 and time.monotonic() < deadline_s:
        if source.wait(0.05):
            source.read()
        events += source.take_events()
    source.close()
    server.close()
    assert [kind for kind, _ in events] == ["source_lost", "source_back"]
    assert "ended the stream" in events[0][1]
    refusing = cameras.Server(lambda c: c.sendall(cameras.read_head(c).encode() and b"HTTP/1.0 401 No\r\n\r\n"))
    source = open_source(parse_source(f"http://127.0.0.1:{refusing.port}/"), IMAGE)
    assert "401 No (basic authentication goes into the URL" in first_event(source)
    refusing.close()


def test_an_address_of_one_picture_is_asked_again_and_again() -> None:
    def talk(connection: Any) -> None:
        cameras.read_head(connection)
        data = cameras.jpeg(1)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + data)

    server = cameras.Server(talk)
    source = open_source(parse_source(f"http://127.0.0.1:{server.port}/snapshot.jpg?key=1"), IMAGE)
    assert [take(source)[1].rpartition("#")[2] for _ in range(3)] == ["1", "2", "3"]  # type: ignore[arg-type, index]
    source.close()
    server.close()


def first_event(source: Any) -> str:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        source.wait(0.02)
        for _, detail in source.take_events():
            source.close()
            return str(detail)
    raise AssertionError("it said nothing")


def test_a_camera_that_is_not_there_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "/dev/video99 is not there" in first_event(open_source(parse_source("camera:99"), IMAGE))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "rpicam-vid is not installed (sudo apt install rpicam-apps)" in first_event(
        open_source(parse_source("csi:"), IMAGE)
    )


def test_a_camera_program_that_dies_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", cameras.install_rpicam_vid(tmp_path, 2))
    text = first_event(open_source(parse_source("csi:?size=64x48&fps=100"), IMAGE))
    assert "ended with code 255: ERROR: the camera was unplugged" in text


def test_raw_frames_of_a_width_that_would_shear_are_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 64"):
        open_source(parse_source("csi:?size=100x48&format=yuv420"), IMAGE)


def test_raw_frames_have_the_colors_of_the_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", cameras.install_rpicam_vid(tmp_path, 100))
    source = open_source(parse_source("csi:?size=64x48&fps=50&format=yuv420"), IMAGE)
    item = take(source)  # type: ignore[arg-type]
    source.close()
    assert item is not None
    level = 10 * (int(item[1].rpartition("#")[2]) - 1) % 256
    assert abs(int(item[0].mean()) - level) <= 2


def test_serial_lines_that_are_no_samples_are_counted_and_the_next_is_read() -> None:
    sensor = cameras.Sensor()
    source = open_source(parse_source(f"serial://{sensor.path}?keys=b,a"), TENSOR)
    assert isinstance(source, LiveSource)
    time.sleep(0.3)
    sensor.say('alf of a line"}')  # on its way when the port was opened: no error
    seen: list[Any] = []
    for line in ('{"a": 1, "b": 2}', '{"a": 1}', "garbage", b"\xff\xfe", '{"a": 3, "b": 4, "c": 5}'):
        sensor.say(line)
        try:
            item = take(source)
            seen.append(None if item is None else item[0].tolist())
        except DataError as error:
            seen.append(error.message.partition(": ")[2])
    source.close()
    sensor.close()
    assert seen == [
        [2, 1],
        "the line has no 'b': '{\"a\": 1}'",
        "not a sample: 'garbage'",
        "not a sample: '��'",
        [4, 3],
    ]


def test_a_sensor_that_is_unplugged_and_a_wrong_speed_are_said() -> None:
    sensor = cameras.Sensor()
    source = open_source(parse_source(f"serial://{sensor.path}"), TENSOR)
    time.sleep(0.2)
    sensor.say(b"\x80" * (1 << 17))
    with pytest.raises(DataError, match="is the speed right"):
        take(source)  # type: ignore[arg-type]
    sensor.unplug()
    assert "the port is gone" in first_event(source)


def test_a_line_may_hold_the_arrays_of_several_inputs() -> None:
    sensor = cameras.Sensor()
    second = Wanted(InputSpec("y", shape=(1,)), (1, 1), np.dtype(np.float32), -1.0, 1.0)
    wanted = Wanted(TENSOR.input, TENSOR.shape, TENSOR.dtype, -1.0, 1.0, others=(second,))
    source = open_source(parse_source(f"serial://{sensor.path}"), wanted)
    time.sleep(0.2)
    sensor.say('{"x": [1, 2, 3], "y": [4]}')
    item = take(source)  # type: ignore[arg-type]
    source.close()
    sensor.close()
    assert item is not None
    assert {name: array.tolist() for name, array in item[0].items()} == {"x": [1, 2, 3], "y": [4]}


def test_a_watched_folder_takes_what_is_done_in_the_order_it_came(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "z.png"), cameras.picture(1))
    source = open_source(parse_source(f"folder:{tmp_path}?watch=1"), IMAGE)
    assert isinstance(source, LiveSource)
    assert take(source)[1] == "z.png"  # type: ignore[index]
    data = cv2.imencode(".png", cameras.picture(2))[1].tobytes()
    with (tmp_path / "a.png").open("wb") as file:
        for i in range(0, len(data), max(1, len(data) // 4)):
            file.write(data[i : i + max(1, len(data) // 4)])
            file.flush()
            assert not source.wait(0.1)  # it grows
    assert take(source)[1] == "a.png"  # type: ignore[index]
    assert not source.wait(0.5)
    (tmp_path / "z.png").write_bytes(data)  # written anew: a new picture
    assert take(source)[1] == "z.png"  # type: ignore[index]
    source.close()


def test_a_watched_folder_goes_on_behind_what_was_read_and_survives_its_loss(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "cab":
        cv2.imwrite(str(folder / f"{name}.png"), cameras.picture(1))
        time.sleep(0.02)
    source = open_source(parse_source(f"folder:{folder}?watch=1"), IMAGE, skip=2)
    assert isinstance(source, LiveSource)
    assert take(source)[1] == "b.png"  # type: ignore[index]
    folder.rename(tmp_path / "away")
    assert not source.wait(0.5)
    (tmp_path / "away").rename(folder)
    cv2.imwrite(str(folder / "new.png"), cameras.picture(1))
    while take(source)[1] != "new.png":  # type: ignore[index]
        pass
    assert [kind for kind, _ in source.take_events()] == ["source_lost", "source_back"]
    deleted = open_source(parse_source(f"folder:{folder}?watch=1"), IMAGE, skip=100)
    assert take(deleted)[1] == "c.png"  # type: ignore[arg-type, index]


# -- files


def test_a_video_that_was_cut_off_is_one_error_and_then_the_end(tmp_path: Path) -> None:
    path = cameras.video(tmp_path / "v.avi", 40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = open_source(parse_source(f"video:{path}"), IMAGE)
    good, errors = 0, []
    while True:
        try:
            if source.read() is None:
                break
            good += 1
        except DataError as error:
            errors.append(error.message)
    assert 5 < good < 30
    assert len(errors) == 1 and f"it ends after {good} of 40 frames" in errors[0]


def wav_file(path: Path, codes: np.ndarray, *, width: int = 2, channels: int = 1, rate: int = 1000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        if width == 3:
            data = codes.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        else:
            data = codes.astype("u1" if width == 1 else f"<i{width}").tobytes()
        file.writeframes(data)
    return path


@pytest.mark.parametrize(
    ("width", "codes"),
    [(1, [128, 0, 192]), (2, [0, -(2**15), 2**14]), (3, [0, -(2**23), 2**22]), (4, [0, -(2**31), 2**30])],
)  # fmt: skip
def test_sound_of_every_width_is_between_minus_one_and_one(tmp_path: Path, width: int, codes: list[int]) -> None:
    path = wav_file(tmp_path / "s.wav", np.array(codes), width=width)
    for values, scale in (("", 1.0), ("?values=int16", 2.0**15)):
        item = open_source(parse_source(f"wav:{path}{values}"), TENSOR).read()
        assert item is not None
        assert item[0].tolist() == [0.0, -scale, 0.5 * scale]


def test_windows_overlap_by_the_hop_and_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([np.arange(10), np.arange(10) + 2], 1).reshape(-1) * 2**8
    path = wav_file(tmp_path / "s.wav", stereo, channels=2)
    source = open_source(parse_source(f"wav:{path}?window=0.004&hop=0.003&values=int16&rate=1000"), TENSOR)
    windows = [item[0] / 2**8 for item in iter(source.read, None)]
    assert [w.tolist() for w in windows] == [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10]]


def test_sound_that_does_not_fit_says_what_to_do(tmp_path: Path) -> None:
    path = wav_file(tmp_path / "s.wav", np.arange(2))
    with pytest.raises(DataError, match="less than one window of 3"):
        open_source(parse_source(f"wav:{path}"), TENSOR)
    with pytest.raises(DataError, match="sampled at 1000 Hz, not 16000"):
        open_source(parse_source(f"wav:{path}?rate=16000"), TENSOR)
    path.write_bytes(b"RIFFxxxx")
    with pytest.raises(DataError, match="not a PCM wav"):
        open_source(parse_source(f"wav:{path}"), TENSOR)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("camera:0?size=640", "size must be WIDTHxHEIGHT"),
        ("camera:0?fps=fast", "fps must be a number from 0.01 to 1000"),
        ("camera:/etc/passwd", "is no camera"),
        ("csi:left", "is no camera's number"),
        ("serial:///dev/ttyUSB0?baud=fast", "baud must be a whole number"),
        ("serial://ttyUSB0", "names no port"),
        ("rtsp://", "not a URL with a host"),
        ("http://[::1", "Invalid IPv6"),
        ("serial://[", "Invalid IPv6"),
        ("nonsense:1", "is not known"),
    ],
)
def test_a_source_that_is_wrong_says_what_is_right(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_source(text)
    assert said in error.value.message
    assert error.value.hint


# -- the whole agent


def test_the_agent_counts_every_frame_of_a_camera_that_is_faster_than_it(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    good, cut = cameras.jpeg(1), cameras.jpeg(2)[:300]
    server = cameras.mjpeg_server(lambda: (cut if i % 20 == 7 else good for i in range(150)), period_s=0.002)
    agents = Agents(tmp_path)
    out = tmp_path / "out.jsonl"
    agent = agents.start(
        "--bundle", bundle, "--source", f"http://127.0.0.1:{server.port}/", "--rate", "50", "--sink", f"jsonl:{out}"
    )
    try:
        agent.wait_until_said("source_back")  # the stream ended once, and was taken up again
        summary = agent.stop()
    finally:
        agents.close()
        server.close()
    assert summary["end"] == "stop"
    assert summary["drops"] > 10 and summary["errors"] >= 1
    assert summary["frames"] == summary["inferences"] + summary["gated"] + summary["errors"] + summary["drops"]
    kinds = [event["kind"] for event in summary["events"]]
    assert kinds.count("bad_input") == 1
    assert kinds.count("source_lost") == kinds.count("source_back") == 1
    assert out.read_text().count("\n") == summary["inferences"]


def test_a_count_is_of_frames_that_were_taken(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    path = cameras.video(tmp_path / "v.avi", 100, fps=100)
    agents = Agents(tmp_path)
    try:
        code, summary, said = agents.run(
            "--bundle", bundle, "--source", f"video:{path}?live=1", "--rate", "20", "--count", "8", "--loop"
        )
    finally:
        agents.close()
    assert code == 0, said
    assert (summary["end"], summary["inferences"]) == ("count", 8)
    assert summary["frames"] == 8 + summary["drops"]
    assert summary["drops"] > 8


def test_an_agent_waits_for_its_camera_and_stops_when_asked(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    agents = Agents(tmp_path)
    agent = agents.start("--bundle", bundle, "--source", "camera:99", "--frame-timeout", "0.5")
    try:
        agent.wait_until_said("source_lost: source camera:99: /dev/video99 is not there")
        time.sleep(1.5)  # waiting is no work on a frame: nobody is ended for it
        began_s = time.monotonic()
        summary = agent.stop()
    finally:
        agents.close()
    assert time.monotonic() - began_s < 2.0
    assert (summary["end"], summary["frames"], summary["restarts"]) == ("stop", 0, 0)
    assert agent.said.count("source_lost") == 1


def test_a_worker_that_is_killed_leaves_exact_counts_of_a_live_source(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "digits.bundle")
    path = cameras.video(tmp_path / "v.avi", 100, fps=100)
    out = tmp_path / "out.jsonl"
    agents = Agents(tmp_path)
    agent = agents.start(
        "--bundle", bundle, "--source", f"video:{path}?live=1", "--loop", "--rate", "30", "--sink", f"jsonl:{out}"
    )
    try:
        agent.wait_until(lambda: out.exists() and out.read_text().count("\n") > 10, "wrote results")
        os.kill(agent.worker_pid or 0, signal.SIGKILL)
        agent.wait_until_said("runs on", 2)
        before = out.read_text().count("\n")
        agent.wait_until(lambda: out.read_text().count("\n") > before + 10, "wrote results again")
        summary = agent.stop()
    finally:
        agents.close()
    assert summary["restarts"] == 1
    assert summary["frames"] == summary["inferences"] + summary["errors"] + summary["drops"]
    assert summary["drops"] > 5


def test_connecting_again_and_again_leaks_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = cameras.mjpeg_server(lambda: [cameras.jpeg(1)])
    sensor = cameras.Sensor()
    monkeypatch.setenv("PATH", cameras.install_rpicam_vid(tmp_path, 0))
    refused = "http://127.0.0.1:9/"

    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    for connect in (
        lambda: MultipartFeed(parse_source(f"http://127.0.0.1:{server.port}/")),
        lambda: MultipartFeed(parse_source(refused)),
        lambda: PipeFeed("csi:", ["--width", "64", "--height", "48", "--framerate", "9"], JpegSplitter()),
        lambda: LineFeed("serial:", open_port(parse_source(f"serial://{sensor.path}"))),
    ):
        counts = []
        for _ in range(4):
            with contextlib.suppress(DeviceError), contextlib.closing(connect()) as feed:
                feed.read()
            time.sleep(0.05)  # the server's own end
            counts.append(open_descriptors())
        assert counts[-1] <= counts[0], counts
    server.close()
    sensor.close()


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([*SOURCES, *SINKS]), st.text(st.characters(codec="utf-8"), max_size=40), st.booleans())
def test_whatever_is_given_as_source_or_sink_is_taken_or_refused_in_words(
    scheme: str, rest: str, slashes: bool
) -> None:
    text = f"{scheme}:{'//' if slashes else ''}{rest}"
    for parse in (parse_source, parse_sink):
        try:
            str(parse(text))
        except UsageError as error:
            assert error.message
