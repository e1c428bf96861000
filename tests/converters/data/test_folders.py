"""Folders of images as data."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeloop.errors import DataError
from edgeloop_converters.data import check_samples, open_data
from support.images import class_folders, write_image


def test_class_folders_number_the_classes_alphabetically(tmp_path: Path) -> None:
    data = open_data(class_folders(tmp_path, {"dog": 2, "ant": 3, "cat": 1}))
    assert data.class_names == ("ant", "cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert data.kind == "image"


def test_a_sample_is_what_imread_gives(tmp_path: Path) -> None:
    path = write_image(tmp_path / "one.png")
    sample = open_data(tmp_path).sample(0)
    assert sample.dtype == np.uint8
    assert np.array_equal(sample, cv2.imread(str(path)))


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for i in range(3):
        write_image(tmp_path / f"{i}.jpg", i)
    data = open_data(str(tmp_path))
    assert (len(data), data.labels, data.class_names) == (3, None, None)


def test_hidden_files_and_readmes_do_not_count(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "0.png")
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "a" / "Thumbs.db").write_text("x")
    assert len(open_data(tmp_path)) == 1


def test_labels_csv_gives_class_ids_in_its_own_order(tmp_path: Path) -> None:
    for i in range(3):
        write_image(tmp_path / f"{i}.png", i)
    (tmp_path / "labels.csv").write_text("file,class_id\n2.png,7\n0.png,4\n")
    data = open_data(tmp_path)
    assert data.labels is not None
    assert data.labels.tolist() == [7, 4]
    assert np.array_equal(data.sample(0), cv2.imread(str(tmp_path / "2.png")))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("name,id\n0.png,1\n", "file,class_id"),
        ("file,class_id\n", "no rows"),
        ("file,class_id\n0.png,cat\n", "whole number"),
        ("file,class_id\n0.png,-1\n", "out of range"),
        ("file,class_id\nmissing.png,1\n", "are not there"),
        ("file,class_id\n../0.png,1\n", "inside the data folder"),
        ("file,class_id\n/etc/passwd,1\n", "inside the data folder"),
        ("file,class_id\n0.png\n", "whole number"),
    ],
)
def test_a_wrong_labels_csv_is_one_clear_line(tmp_path: Path, rows: str, words: str) -> None:
    write_image(tmp_path / "0.png")
    (tmp_path / "labels.csv").write_text(rows)
    with pytest.raises(DataError, match=words):
        open_data(tmp_path)


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        open_data(tmp_path / "absent")
    with pytest.raises(DataError, match="no images here"):
        open_data(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="'cat' holds no images"):
        open_data(tmp_path)


def test_loose_images_beside_class_folders_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 1})
    write_image(tmp_path / "stray.png")
    with pytest.raises(DataError, match=r"1 loose images \(such as stray.png\) beside 1 folders"):
        open_data(tmp_path)


def test_files_that_are_not_images_are_named(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 1})
    (tmp_path / "cat" / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes\.txt is not an image"):
        open_data(tmp_path)


def test_a_folder_too_high_up_is_explained(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"cat": 1})
    with pytest.raises(DataError, match="folder inside the class folder: train/cat") as caught:
        open_data(tmp_path)
    assert "train/" in str(caught.value.hint)


def test_unreadable_images_are_counted_and_named(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 4})
    (tmp_path / "cat" / "001.png").write_bytes(b"not a picture")
    (tmp_path / "cat" / "002.png").write_bytes(b"")
    data = open_data(tmp_path)
    with pytest.raises(DataError, match=r"^2 of 4 samples.*001.png: damaged.*; .*002.png"):
        check_samples(data)
    with pytest.raises(DataError, match="the file is empty"):
        data.sample(2)


def test_a_jpeg_that_was_cut_off_is_unreadable(tmp_path: Path) -> None:
    whole = write_image(tmp_path / "0.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole[:-40])
    with pytest.raises(DataError, match=r"^1 of 2 samples.*1\.jpg: damaged: it was cut off"):
        check_samples(open_data(tmp_path))


def test_a_file_whose_name_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = write_image(tmp_path / "0.png")
    expected = cv2.imread(str(path))
    path.rename(tmp_path / os.fsdecode(b"\xff.png"))
    assert np.array_equal(open_data(tmp_path).sample(0), expected)


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png")
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1\.png is not an image"):
        open_data(tmp_path)


def test_a_path_that_is_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.tar"
    path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"'\.tar' file") as caught:
        open_data(path)
    assert "npz" in str(caught.value.hint)
