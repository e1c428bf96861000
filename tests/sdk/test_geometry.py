"""From source pixels into the model's input and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.geometry import fit, placement
from edgeloop.preprocess import resize

sizes = st.integers(1, 2000)
HOW = ("stretch", "letterbox", "crop")


@given(sizes, sizes, sizes, sizes, st.sampled_from(HOW))
def test_the_way_back_is_the_inverse_of_the_way_there(height, width, to_height, to_width, how):
    part, inner = fit(height, width, to_height, to_width, how)
    assert part.top >= 0 and part.top + part.height <= height and part.left >= 0 and part.left + part.width <= width
    assert inner.top >= 0 and inner.top + inner.height <= to_height
    assert inner.left >= 0 and inner.left + inner.width <= to_width
    back = placement(height, width, to_height, to_width, how)
    for at, (inner_low, inner_size), (low, size), full, scale, offset in (
        ("y", (inner.top, inner.height), (part.top, part.height), to_height, back.y_scale, back.y_offset),
        ("x", (inner.left, inner.width), (part.left, part.width), to_width, back.x_scale, back.x_offset),
    ):
        for share in (0.0, 0.25, 1.0):
            fraction = (inner_low + share * inner_size) / full
            assert fraction * scale + offset == pytest.approx(low + share * size, abs=1e-6 * size + 1e-6), at


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("shape", [(240, 320), (320, 200), (64, 64)])
def test_a_mark_in_the_picture_is_found_where_it_was(how, shape):
    height, width = shape
    y, x = height // 2 + 9, width // 2 - 7  # inside every crop
    picture = np.zeros((height, width), np.uint8)
    picture[y - 4 : y + 4, x - 4 : x + 4] = 255
    seen = resize(picture, 96, 96, how).astype(np.float64)
    seen[seen == 114] = 0  # the letterbox bars
    rows, columns = np.mgrid[0:96, 0:96] + 0.5
    back = placement(height, width, 96, 96, how)
    found_y = (rows * seen).sum() / seen.sum() / 96 * back.y_scale + back.y_offset
    found_x = (columns * seen).sum() / seen.sum() / 96 * back.x_scale + back.x_offset
    assert abs(found_y - y) < 0.75 and abs(found_x - x) < 0.75
