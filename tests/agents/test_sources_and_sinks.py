"""Sources yield what the contract wants, in order, from any position; sinks survive a full disk."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeloop.contract import InputSpec
from edgeloop.errors import DataError, RefusedError, UsageError
from edgeloop.postprocess import ClassScore, Result
from edgeloop_agent.sinks import open_sink, parse_sink
from edgeloop_agent.sources import Wanted, open_source, parse_source
from support.agents import frames

GRAY = Wanted(InputSpec(kind="image", size=(8, 8), color="gray"), (1, 8, 8, 1), np.dtype(np.int8), 0.0, 1.0)
RGB = Wanted(InputSpec(kind="image", size=(8, 8)), (1, 8, 8, 3), np.dtype(np.uint8), 0.0, 1.0)
TENSOR = Wanted(InputSpec(shape=(4,), mean=(10.0,), std=(2.0,)), (1, 4), np.dtype(np.int8), -1.0, 1.0)


def names(text: str, wanted: Wanted = GRAY, limit: int = 100, **options: object) -> list[str]:
    source = open_source(parse_source(text), wanted, **options)  # type: ignore[arg-type]
    found: list[str] = []
    while len(found) < limit:
        try:
            item = source.read()
        except DataError as error:
            found.append(f"error: {error.message}")
            continue
        if item is None:
            break
        found.append(item[1])
    source.close()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.png", "b/10.png", "a/1.PNG", "0.jpg"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((9, 7, 3), (1, 2, 3), np.uint8))
    (tmp_path / "pictures/a/readme.txt").write_text("no image")
    (tmp_path / "pictures/.hidden.png").write_text("no image")
    return tmp_path / "pictures"


def test_a_folder_is_read_recursively_in_sorted_order(folder: Path) -> None:
    assert names(f"folder:{folder}") == ["0.jpg", "a/1.PNG", "b/10.png", "b/2.png"]
    assert names(f"folder:{folder}/", skip=3) == ["b/2.png"]
    assert names(f"folder:{folder}", skip=5, loop=True, limit=4) == ["a/1.PNG", "b/10.png", "b/2.png", "0.jpg"]


def test_an_unreadable_image_is_an_error_of_its_own_and_the_next_follows(folder: Path) -> None:
    (folder / "a/1.PNG").write_bytes(b"not a picture")
    (folder / "b/10.png").write_bytes(b"")
    read = names(f"folder:{folder}")
    assert "damaged, or not an image" in read[1]
    assert "the file is empty" in read[2]
    assert read[3] == "b/2.png"


def test_names_that_are_not_utf8_are_read_and_pipes_and_links_to_nowhere_are_left_out(folder: Path) -> None:
    (folder / "b/2.png").rename(folder / os.fsdecode(b"b/\xff.png"))
    os.mkfifo(folder / "b/pipe.png")
    (folder / "b/zero.png").symlink_to("/dev/zero")
    (folder / "b/link.png").symlink_to("nowhere.png")
    read = names(f"folder:{folder}")
    assert read[:3] == ["0.jpg", "a/1.PNG", "b/10.png"]
    assert [os.fsencode(name) for name in read[3:]] == [b"b/\xff.png"]


def test_pictures_are_bgr_for_image_contracts_and_rgb_for_tensors(folder: Path) -> None:
    for wanted, pixel in ((RGB, [1, 2, 3]), (TENSOR, [3, 2, 1])):
        item = open_source(parse_source(f"folder:{folder}"), wanted, skip=1).read()
        assert item is not None
        assert item[0][0, 0].tolist() == pixel


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_samples_come_in_order(tmp_path: Path, save: object) -> None:
    path = tmp_path / "x.npz"
    data = frames(5)
    save(path, features=data, labels=np.arange(5))  # type: ignore[operator]
    source = open_source(parse_source(f"npz:{path}"), GRAY, skip=3)
    item = source.read()
    assert item is not None
    np.testing.assert_array_equal(item[0], data[3])
    assert item[1] == "x.npz[3]"
    assert names(f"npz:{path}", skip=4, loop=True, limit=3) == ["x.npz[4]", "x.npz[0]", "x.npz[1]"]


def test_color_pictures_in_an_npz_are_rgb(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.full((1, 2, 2, 3), (1, 2, 3), np.uint8))
    for wanted, pixel in ((RGB, [3, 2, 1]), (TENSOR, [1, 2, 3])):
        item = open_source(parse_source(f"npz:{tmp_path / 'x.npz'}"), wanted).read()
        assert item is not None
        assert item[0][0, 0].tolist() == pixel


def test_an_npz_with_several_arrays_of_samples_says_which_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((2, 8, 8), np.uint8), features=np.zeros((2, 8, 8), np.uint8), y=np.zeros(2))
    assert open_source(parse_source(f"npz:{path}"), GRAY).notes == ("the samples are 'x', not 'features'",)
    np.savez(path, x=np.zeros((2, 8, 8), np.uint8), y=np.zeros(2))
    assert open_source(parse_source(f"npz:{path}"), GRAY).notes == ()


def test_an_npz_bomb_or_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 27,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(1000))
    with pytest.raises(RefusedError):
        names(f"npz:{path}")
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(RefusedError, match="pickled"):
        names(f"npz:{path}")
    np.savez(path, y=np.zeros(3))
    with pytest.raises(DataError, match="no samples: it holds y"):
        names(f"npz:{path}")


def test_a_video_is_read_frame_by_frame(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (16, 16))
    for i in range(4):
        writer.write(np.full((16, 16, 3), 60 * i, np.uint8))
    writer.release()
    assert names(f"video:{path}") == ["v.avi#0", "v.avi#1", "v.avi#2", "v.avi#3"]
    assert names(f"video:{path}", skip=3, loop=True, limit=3) == ["v.avi#3", "v.avi#0", "v.avi#1"]
    (tmp_path / "no.avi").write_bytes(b"no video")
    with pytest.raises(DataError, match="not a video"):
        names(f"video:{tmp_path / 'no.avi'}")


def test_synthetic_frames_fit_the_model_and_are_the_same_for_a_seed() -> None:
    def first(text: str, wanted: Wanted, skip: int = 0) -> np.ndarray:
        item = open_source(parse_source(text), wanted, skip=skip).read()
        assert item is not None
        return item[0]

    assert first("synthetic:", GRAY).shape == (8, 8)
    assert first("synthetic:", RGB).shape == (8, 8, 3)
    values = first("synthetic:", TENSOR)
    assert values.shape == (4,)
    assert ((values >= 8) & (values <= 12)).all()  # raw values: the model's -1..1 after (x - 10) / 2
    np.testing.assert_array_equal(first("synthetic:?seed=3", RGB, skip=5), first("synthetic:?seed=3", RGB, skip=5))
    assert (first("synthetic:?seed=3", RGB) != first("synthetic:?seed=4", RGB)).any()


@pytest.mark.parametrize("text", ["", "folder", "folder:", "camera:x", "synthetic:x", "synthetic:?speed=3", "npz:"])
def test_an_unknown_source_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError):
        parse_source(text)


def test_a_source_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    for text in (f"folder:{tmp_path}/no", f"npz:{tmp_path}/no.npz", f"npz:{tmp_path}", f"folder:{__file__}"):
        with pytest.raises(DataError):
            parse_source(text)
    with pytest.raises(DataError, match="no images here"):
        names(f"folder:{tmp_path}")


RESULT = Result("classification", (ClassScore(1, 'a "b"', 0.5), ClassScore(0, "", float("nan"))))


def test_json_lines_are_json_whatever_names_and_scores_are(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = open_sink(f"jsonl:{path}")
    sink.write('odd "name"\n\udcff.png', 12.5, RESULT, 1.25)
    sink.write("raw", 13.0, Result("raw", values=(np.array([1.0, np.inf], np.float32),)), 0.5)
    sink.close()
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first["source"].startswith('odd "name"\n')
    assert first["top"] == [
        {"class_id": 1, "label": 'a "b"', "score": 0.5},
        {"class_id": 0, "label": "", "score": None},
    ]
    assert (first["time"], first["latency_ms"]) == (12.5, 1.25)
    assert second["values"] == [[1.0, None]]


def test_a_full_disk_loses_lines_and_counts_them() -> None:
    sink = open_sink("jsonl:/dev/full")
    for _ in range(3):
        sink.write("x", 1.0, RESULT, 1.0)
    sink.flush()
    assert sink.lost == 3
    assert "No space left" in sink.problem
    sink.close()


def test_a_line_cut_by_a_full_disk_is_finished_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    sink = open_sink(f"jsonl:{path}")
    room = 100
    write = os.write

    def small_disk(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        done = write(fd, data[:room])
        room -= done
        return done

    monkeypatch.setattr(os, "write", small_disk)
    for i in range(3):
        sink.write(f"{i}", 1.0, Result("classification", (ClassScore(i, "label", 0.5),)), 1.0)
    sink.flush()
    room = 1 << 20
    sink.write("after", 1.0, RESULT, 1.0)
    sink.close()
    assert [json.loads(line)["source"] for line in path.read_text().splitlines()] == ["0", "after"]
    assert sink.lost == 2


@pytest.mark.parametrize("text", ["", "jsonl", "jsonl:", "csv:x"])
def test_an_unknown_sink_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError):
        parse_sink(text)


def test_a_sink_that_cannot_be_opened_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        open_sink(f"jsonl:{tmp_path}/no/out.jsonl")


def test_a_path_without_its_scheme_is_told_how_to_write_it(tmp_path: Path) -> None:
    (tmp_path / "x.NPZ").write_bytes(b"")
    for path, meant in [(tmp_path, "folder:"), (tmp_path / "x.NPZ", "npz:"), (tmp_path / "no", "one of camera:0, ")]:
        with pytest.raises(UsageError, match="is not known") as caught:
            parse_source(str(path))
        assert (caught.value.hint or "").startswith(meant)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fodler:/tmp", "source 'fodler:/tmp' is not known (did you mean folder:/tmp?)"),
        ("rstp://me:secret@cam/1", "source 'rstp://cam/1' is not known (did you mean rtsp://cam/1?)"),
        ("Camera:0", "source 'Camera:0' is not known (did you mean camera:0?)"),
        ("/dev/video0", "source '/dev/video0' is not known (camera:/dev/video0)"),
        ("/dev/ttyUSB0", "source '/dev/ttyUSB0' is not known (serial:///dev/ttyUSB0)"),
    ],
)
def test_a_misspelt_source_names_the_one_that_was_meant(text: str, said: str) -> None:
    with pytest.raises(UsageError) as failed:
        parse_source(text)
    assert str(failed.value) == said


def test_a_misspelt_sink_names_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError) as failed:
        parse_sink("mqt://me:secret@broker/topic")
    assert str(failed.value) == "sink 'mqt://broker/topic' is not known (did you mean mqtt://broker/topic?)"


def test_a_sink_without_its_scheme_is_told_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not known") as caught:
        parse_sink("out.jsonl")
    assert (caught.value.hint or "").startswith("jsonl:out.jsonl, or one of jsonl:FILE, mqtt://HOST/TOPIC, serial:")
    with pytest.raises(UsageError, match="No such file") as caught:
        open_sink(f"jsonl:{tmp_path}/no/out.jsonl")
    assert caught.value.hint == f"there is no folder {tmp_path}/no"


def test_a_folder_with_a_typo_names_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    with pytest.raises(DataError) as failed:
        parse_source(f"folder:{tmp_path / 'frmaes'}")
    assert failed.value.hint == f"did you mean {tmp_path / 'frames'}?"
