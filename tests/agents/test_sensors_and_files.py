"""Lines of sensors, sound, watched folders and video files: what is damaged is counted, what is whole is read."""

from __future__ import annotations

import time
import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeloop.contract import InputSpec
from edgeloop.errors import DataError
from edgeloop_agent.sources import Wanted, open_source, parse_source
from edgeloop_agent.sources.live import LiveSource
from support import cameras
from support.live import IMAGE, TENSOR, first_event, take


def test_serial_lines_that_are_no_samples_are_counted_and_the_next_is_read() -> None:
    sensor = cameras.Sensor()
    source = open_source(parse_source(f"serial://{sensor.path}?keys=b,a"), TENSOR)
    assert isinstance(source, LiveSource)
    sensor.wait_until_opened()
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
    sensor.wait_until_opened()
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
    sensor.wait_until_opened()
    sensor.say('{"x": [1, 2, 3], "y": [4]}')
    item = take(source)  # type: ignore[arg-type]
    source.close()
    sensor.close()
    assert item is not None
    assert {name: array.tolist() for name, array in item[0].items()} == {"x": [1, 2, 3], "y": [4]}


def test_lines_make_windows_that_overlap_and_have_no_gaps() -> None:
    sensor = cameras.Sensor()
    wanted = Wanted(InputSpec("x", shape=(4, 2)), (1, 4, 2), np.dtype(np.float32), -1.0, 1.0)
    source = open_source(parse_source(f"serial://{sensor.path}?window=4&hop=2"), wanted)
    sensor.wait_until_opened()
    seen: list[Any] = []
    for lines in (["0,0", "1,1", "2,2", "3,3"], ["4,4", "5,5"], ["6,6", "garbage"], ["8,8", "9,9", "10,10", "11"]):
        sensor.say(*lines)
        try:
            item = take(source)  # type: ignore[arg-type]
            seen.append(None if item is None else item[0][:, 0].tolist())
        except DataError as error:
            seen.append(error.message)
    sensor.say("1,1", "2,2", "3,3", "4,4")
    item = take(source)  # type: ignore[arg-type]
    source.close()
    sensor.close()
    assert seen[:2] == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert "not a sample: 'garbage'" in seen[2]
    assert "a line of 1 values, and those before had 2" in seen[3]
    assert item is not None and item[0][:, 0].tolist() == [1, 2, 3, 4]


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
