"""Live sources when things go wrong: the newest frame, counted drops, damage said once, reconnects with backoff."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop_agent.sinks import SINKS, parse_sink
from edgeloop_agent.sources import SOURCES, open_source, parse_source
from edgeloop_agent.sources.csi import PipeFeed
from edgeloop_agent.sources.jpeg_stream import JpegSplitter
from edgeloop_agent.sources.live import BACKOFF_MAX_S, EndOfFeedError, LiveSource, Newest, backoff_s, failed_in_a_row
from edgeloop_agent.sources.pictures import Pictures
from edgeloop_agent.sources.serial_lines import LineFeed, open_port
from edgeloop_agent.sources.stream import MultipartFeed
from support import cameras
from support.live import IMAGE, first_event, take


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


def test_the_newest_frame_is_taken_and_the_others_are_counted() -> None:
    source = Newest("x", lambda: Script(*range(1, 11)), plain)
    deadline_s = time.monotonic() + 60
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


def test_a_source_that_breaks_again_and_again_is_not_said_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop_agent.sources.live.BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr("edgeloop_agent.sources.live.BACKOFF_MAX_S", 0.001)
    scripts: list[Script] = []

    def connect() -> Script:
        scripts.append(Script(len(scripts), DeviceError("gone")))
        return scripts[-1]

    source = Newest("x", connect, plain)
    events: list[tuple[str, str]] = []
    while len(scripts) < 20:
        source.wait(0.01)
        events += source.take_events()
    source.close()
    assert [kind for kind, _ in events] == ["source_lost", "source_back"]


def test_a_connection_that_held_for_a_while_is_taken_up_again_at_once() -> None:
    assert [failed_in_a_row(n, 0.0) for n in (0, 1, 2)] == [1, 2, 3]
    assert failed_in_a_row(5, 2 * backoff_s(5) + 0.1) == 1
    assert failed_in_a_row(5, backoff_s(5)) == 6


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
    deadline_s = time.monotonic() + 60
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


def stand_in(folder: Path, script: str) -> str:
    """A `rpicam-vid` of a shell script; the PATH on which it is found."""
    (folder / "one.jpg").write_bytes(cameras.jpeg(1))
    program = folder / "rpicam-vid"
    program.write_text(f"#!/bin/sh\ncd {folder}\n{script}\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_a_camera_program_that_talks_a_lot_is_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = "head -c 100000 /dev/zero | tr '\\0' x >&2"
    frames = f"for i in 1 2 3 4 5 6; do cat one.jpg; {talk}; done; echo >&2; echo 'ERROR: no room' >&2; exit 3"
    monkeypatch.setenv("PATH", stand_in(tmp_path, frames))
    feed = PipeFeed("csi:", [], JpegSplitter())
    seen = 0
    with pytest.raises(DeviceError, match="ended with code 3: ERROR: no room"):
        while True:
            seen += feed.read() is not None
    feed.close()
    assert seen == 6
    assert len(feed._said) <= 2000


def test_a_camera_program_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PATH", stand_in(tmp_path, "trap '' TERM; echo $$ > pid; exec 2>&-; cat one.jpg; exec sleep 1000")
    )
    source = open_source(parse_source("csi:"), IMAGE)
    take(source)
    source.close()
    pid = (tmp_path / "pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
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
