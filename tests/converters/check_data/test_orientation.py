"""Pictures that an EXIF tag turns are read upright here, and as they lie by most training code."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeloop.contract import InputSpec
from edgeloop.pictures import exif_orientation, read_picture
from edgeloop_converters.check_data.inputs import input_findings
from edgeloop_converters.check_data.observe import observe
from edgeloop_converters.data import open_data


def jpeg(orientation: int | None, order: str = "<", before: bytes = b"") -> bytes:
    """A wide picture, with an EXIF segment of one tag; before: segments that stand in front of it."""
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :16] = 200
    plain = cv2.imencode(".jpg", picture)[1].tobytes()
    if orientation is None:
        return plain
    begins = b"II*\0" if order == "<" else b"MM\0*"
    tiff = begins + struct.pack(f"{order}IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return plain[:2] + before + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_tag_is_read_as_opencv_reads_it(tmp_path: Path, orientation: int, order: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(orientation, order, before=b"\xff\xe0\0\x04xy"))
    assert exif_orientation(str(path)) == orientation
    shape = read_picture(str(path)).shape
    assert shape == ((32, 16, 3) if orientation in (6, 8) else (16, 32, 3))


def test_no_tag_and_no_sound_file_is_as_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    whole = jpeg(6)
    for content in (jpeg(None), b"", b"\x89PNG\r\n\x1a\n", *(whole[:cut] for cut in range(32))):
        path.write_bytes(content)
        assert exif_orientation(str(path)) == 1
    assert exif_orientation(str(tmp_path / "not there")) == 1


def test_turned_pictures_are_counted(tmp_path: Path) -> None:
    for i, orientation in enumerate((6, 1, None, 3)):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(orientation))
    spec = InputSpec("x", "image", (16, 16), "rgb")
    found = input_findings(observe(open_data(tmp_path), range(4)), spec, "evaluation")
    assert [f.numbers["turned"] for f in found if f.check == "orientation"] == [2]
