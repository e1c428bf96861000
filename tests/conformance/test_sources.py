"""One suite for every source: what a source promises, seen from the frame loop.

A new source gets a line in MAKERS; what stands at its far end goes to tests/support/cameras.py.
"""

from __future__ import annotations

import socket
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeloop.contract import InputSpec
from edgeloop.errors import DataError, UsageError
from edgeloop_agent.sources import SOURCES, Source, Wanted, open_source, parse_source
from edgeloop_agent.sources.live import LiveSource
from support import cameras

IMAGE = Wanted(InputSpec(kind="image", size=(48, 64)), (1, 48, 64, 3), np.dtype(np.uint8), 0.0, 1.0)
TENSOR = Wanted(InputSpec("x", shape=(3,)), (1, 3), np.dtype(np.float32), -1.0, 1.0)
PATIENCE_S = 60.0

Case = tuple[str, Wanted]


def camera(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    endless = lambda _spec: cameras.FakeCapture(cameras.picture(i) for i in count())  # noqa: E731
    patch.setattr("edgeloop_agent.sources.camera.open_v4l2", endless)
    return "camera:0?size=64x48&fps=30&format=mjpg", IMAGE


def csi(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    patch.setenv("PATH", cameras.install_rpicam_vid(folder / "bin", 10_000))
    return "csi:?size=64x48&fps=200", IMAGE


def csi_raw(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    csi(folder, patch, stack)
    return "csi:0?size=64x48&fps=200&format=yuv420", IMAGE


def http(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    server = cameras.mjpeg_server(lambda: (cameras.jpeg(i) for i in count()))
    stack.callback(server.close)
    return f"http://user:secret@127.0.0.1:{server.port}/stream?token=secret", IMAGE


def http_video(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    data = cameras.video(folder / "v.ts", 100, codec="mp4v").read_bytes()

    def talk(connection: socket.socket) -> None:
        cameras.read_head(connection)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n" + data)

    server = cameras.Server(talk)
    stack.callback(server.close)
    return f"http://127.0.0.1:{server.port}/v.ts?token=secret", IMAGE


def rtsp(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    stream = cameras.video(folder / "v.ts", 200, codec="mp4v").read_bytes()
    server = cameras.rtsp_server(stream)
    stack.callback(server.close)
    return f"rtsp://user:secret@127.0.0.1:{server.port}/live", IMAGE


def video(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    return f"video:{cameras.video(folder / 'v.avi', 5)}", IMAGE


def played(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    return f"video:{cameras.video(folder / 'v.avi', 50, fps=50)}?live=1", IMAGE


def pictures(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    (folder / "in").mkdir()
    for i in range(5):
        cv2.imwrite(str(folder / f"in/{i}.png"), cameras.picture(i))
    return f"folder:{folder / 'in'}", IMAGE


def watched(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    return pictures(folder, patch, stack)[0] + "?watch=1", IMAGE


def npz(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    np.savez(folder / "x.npz", x=np.arange(15, dtype=np.float32).reshape(5, 3))
    return f"npz:{folder / 'x.npz'}", TENSOR


def serial(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    sensor = cameras.Sensor()
    stack.callback(sensor.close)
    sensor.say_again_and_again(["1,2,3", "[4, 5, 6]", '{"a": 7, "b": 8, "c": 9}'])
    return f"serial://{sensor.path}?baud=115200", TENSOR


def wav(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    with wave.open(str(folder / "s.wav"), "wb") as file:
        file.setparams((1, 2, 1000, 0, "NONE", ""))
        file.writeframes(np.arange(15, dtype="<i2").tobytes())
    return f"wav:{folder / 's.wav'}", TENSOR


def synthetic(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Case:
    return "synthetic:?seed=7", IMAGE


MAKERS: dict[str, list[Callable[[Path, pytest.MonkeyPatch, ExitStack], Case]]] = {
    "camera": [camera],
    "csi": [csi, csi_raw],
    "rtsp": [rtsp],
    "http": [http, http_video],
    "https": [],  # the same code as http, with TLS around it
    "video": [video, played],
    "folder": [pictures, watched],
    "npz": [npz],
    "serial": [serial],
    "wav": [wav],
    "synthetic": [synthetic],
}


STORED = [video, pictures, npz, wav, synthetic]
"""What stays as it is while nobody reads; a live source goes on."""


@pytest.fixture(params=[make for each in MAKERS.values() for make in each], ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    with ExitStack() as stack:
        yield request.param(tmp_path, monkeypatch, stack)


def opened(case: Case, **options: Any) -> Source:
    return open_source(parse_source(case[0]), case[1], **options)


def next_of(source: Source) -> tuple[Any, str] | None:
    """As the loop reads."""
    if isinstance(source, LiveSource):
        deadline_s = time.monotonic() + PATIENCE_S
        while not source.wait(0.1):
            assert time.monotonic() < deadline_s, ("no frame came", source.take_events())
    return source.read()


def test_every_source_is_under_test() -> None:
    assert set(MAKERS) == set(SOURCES)


def test_frames_come_with_names_and_fit_the_model(case: Case) -> None:
    source = opened(case)
    items = [next_of(source) for _ in range(3)]
    source.close()
    sample = case[1].shape[1:]
    for item in items:
        assert item is not None
        assert np.asarray(item[0]).shape == sample
        assert item[1].isprintable() and len(item[1]) < 200
    assert len({item[1] for item in items if item}) == 3  # no frame twice


def test_a_frame_is_not_changed_by_the_next_one(case: Case) -> None:
    source = opened(case)
    first = next_of(source)
    assert first is not None
    kept = np.array(first[0])
    for _ in range(2):
        next_of(source)
    source.close()
    np.testing.assert_array_equal(first[0], kept)


def test_closing_twice_is_no_error_and_ends_the_thread(case: Case) -> None:
    before = set(threading.enumerate())
    source = opened(case)
    next_of(source)
    source.close()
    source.close()
    ours = [t for t in threading.enumerate() if t not in before and t.name.startswith("source ")]
    assert not [t for t in ours if t.is_alive()]


@pytest.mark.parametrize("case", STORED, indirect=True, ids=lambda make: make.__name__)
def test_a_source_that_is_not_live_goes_on_behind_what_was_read_and_starts_over(case: Case) -> None:
    source = opened(case, skip=2)
    assert not isinstance(source, LiveSource)
    whole = opened(case)
    names = [item[1] for item in iter(whole.read, None) if len(item[1])][:5] if case[0][:3] != "syn" else []
    if names:
        third = source.read()
        assert third is not None and third[1] == names[2]
        looped = opened(case, skip=len(names), loop=True)
        again = looped.read()
        assert again is not None and again[1] == names[0]
        assert opened(case, skip=len(names)).read() is None
        assert opened(case, skip=1000).read() is None
    source.close()


def test_a_live_frame_has_the_time_of_its_capture(case: Case) -> None:
    source = opened(case)
    if isinstance(source, LiveSource):
        next_of(source)
        assert 0 <= time.perf_counter_ns() - source.captured_ns < PATIENCE_S * 1e9
    source.close()


def test_an_unknown_option_is_wrong_use(case: Case) -> None:
    text = case[0]
    if SOURCES[text.partition(":")[0]].place == "url":
        parse_source(text)  # its query is the far end's
        return
    with pytest.raises(UsageError, match="not an option"):
        parse_source(text + ("&" if "?" in text else "?") + "colour=1")


def test_what_people_and_reports_see_has_no_secrets(case: Case) -> None:
    assert "secret" not in str(parse_source(case[0]))
    source = opened(case)
    item = next_of(source)
    source.close()
    assert item is not None and "secret" not in item[1]


def test_several_inputs_are_refused_where_the_source_has_only_one(case: Case) -> None:
    wanted = replace(case[1], others=(TENSOR,))
    if SOURCES[case[0].partition(":")[0]].several:
        return
    with pytest.raises(UsageError, match="one frame at a time"):
        open_source(parse_source(case[0]), wanted)


def test_pictures_are_rgb_where_the_model_takes_a_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blue = np.zeros((48, 64, 3), np.uint8)
    blue[..., 0] = 255
    monkeypatch.setattr("edgeloop_agent.sources.camera.open_v4l2", lambda _spec: cameras.FakeCapture([blue] * 100))
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/0.png"), blue)
    for text in ("camera:0", f"folder:{tmp_path / 'in'}", f"folder:{tmp_path / 'in'}?watch=1"):
        for wanted, place in ((IMAGE, 0), (TENSOR, 2)):
            source = opened((text, wanted))
            item = next_of(source)
            source.close()
            assert item is not None and item[0][0, 0].argmax() == place


def test_errors_are_data_errors_and_the_next_frame_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = cameras.picture(1)
    frames = [good, None, np.zeros((0, 0, 3), np.uint8), good, *[good] * 1000]
    monkeypatch.setattr("edgeloop_agent.sources.camera.open_v4l2", lambda _spec: cameras.FakeCapture(frames, 0.02))
    source = opened(("camera:0", IMAGE))
    errors = frames_read = 0
    while errors < 2 or frames_read < 3:
        try:
            assert next_of(source) is not None
            frames_read += 1
        except DataError as error:
            errors += 1
            assert "an empty frame" in error.message
    source.close()
