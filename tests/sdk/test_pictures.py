"""Pictures are whole or an error; a JPEG that was cut off is not half a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop import pictures
from edgeloop.errors import DataError
from edgeloop.pictures import is_cut_off, read_picture
from support.images import write_image


@pytest.fixture
def jpeg(tmp_path: Path) -> bytes:
    return write_image(tmp_path / "whole.jpg", size=(64, 48)).read_bytes()


def with_thumbnail(jpeg: bytes) -> bytes:
    """With a whole JPEG in its APP1 segment, as cameras write it."""
    segment = (len(jpeg) + 2).to_bytes(2, "big") + jpeg
    return jpeg[:2] + b"\xff\xe1" + segment + jpeg[2:]


def read(folder: Path, content: bytes) -> np.ndarray:
    path = folder / "x.jpg"
    path.write_bytes(content)
    return read_picture(str(path))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".ppm", ".tiff", ".webp"])
def test_the_pixels_are_those_of_opencv(tmp_path: Path, suffix: str) -> None:
    path = str(write_image(tmp_path / f"x{suffix}", size=(37, 21)))
    np.testing.assert_array_equal(read_picture(path), cv2.imread(path))


def test_a_jpeg_that_was_cut_off_is_an_error_wherever_the_cut_is(
    tmp_path: Path, jpeg: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    for content in (jpeg, with_thumbnail(jpeg)):
        for end in range(4, len(content), 97):
            with pytest.raises(DataError, match=r"x\.jpg: damaged: it was cut off"):
                read(tmp_path, content[:end])
        with pytest.raises(DataError, match="cut off"):
            read(tmp_path, content[:-2])
    assert capfd.readouterr().err == ""  # nothing of libjpeg's own


def test_what_cameras_append_after_the_end_does_no_harm(tmp_path: Path, jpeg: bytes) -> None:
    expected = read(tmp_path, jpeg)
    for content in (jpeg + b"\0", jpeg + b"trailer" * 9, with_thumbnail(jpeg) + bytes(99)):
        np.testing.assert_array_equal(read(tmp_path, content), expected)
    progressive = cv2.imencode(".jpg", expected, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1]
    assert not is_cut_off(progressive.tobytes() + b"\0")
    assert is_cut_off(progressive.tobytes()[:-2] + b"\0")


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(content: bytes) -> None:
    assert is_cut_off(b"\xff\xd8" + content) in (True, False)
    assert not is_cut_off(b"GIF8" + content)


def test_what_is_no_picture_says_why(tmp_path: Path) -> None:
    for content, says in ((b"", "the file is empty"), (b"hello", "damaged, or not an image")):
        with pytest.raises(DataError, match=says):
            read(tmp_path, content)
    with pytest.raises(DataError, match="No such file"):
        read_picture(str(tmp_path / "no.png"))
    with pytest.raises(DataError, match="Is a directory"):
        read_picture(str(tmp_path))


def test_opencv_adds_no_lines_to_the_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENCV_LOG_LEVEL", raising=False)
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    before = set_level(3)  # warnings, as OpenCV starts with
    pictures._silence.cache_clear()
    path = tmp_path / "x.tiff"
    assert cv2.imwrite(str(path), np.ones((4, 4), np.float32))
    try:
        with pytest.raises(DataError, match="damaged, or not an image"):
            read_picture(str(path))
        assert capfd.readouterr().err == ""
    finally:
        set_level(before)
