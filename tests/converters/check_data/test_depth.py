"""Pictures of more than 8 bits lose the rest, and that is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeloop.contract import InputSpec
from edgeloop.pictures import bits_per_channel
from edgeloop_converters.check_data.inputs import input_findings
from edgeloop_converters.check_data.observe import observe
from edgeloop_converters.data import open_data


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_the_header_tells_the_bits(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    for dtype, bits in ((np.uint8, 8), (np.uint16, 16)):
        path = str(tmp_path / f"x.{suffix}")
        cv2.imwrite(path, np.full(shape, 77, dtype))
        assert bits_per_channel(path) == bits
        whole = Path(path).read_bytes()
        for cut in range(0, 60, 3):
            Path(path).write_bytes(whole[:cut])
            bits_per_channel(path)


def test_deep_pictures_are_counted(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(6):
        frame = random.integers(0, 65536, (8, 8, 3)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame if i < 2 else (frame >> 8).astype(np.uint8))
    spec = InputSpec("x", "image", (8, 8), "rgb")
    found = [
        f for f in input_findings(observe(open_data(tmp_path), range(6)), spec, "evaluation") if f.check == "depth"
    ]
    assert [f.numbers["deep"] for f in found] == [2]
    assert "2 of 6 evaluation pictures have 16 bits per channel" in found[0].what
