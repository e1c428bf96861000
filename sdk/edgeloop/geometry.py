"""Where a picture lies in the model's input, and the way back: which source pixel a place of the input shows.

Forth (`fit`, used by the resizing) and back (`placement`, used by the decoders) come from the same rectangles.
"""

from __future__ import annotations

from typing import NamedTuple


class Rectangle(NamedTuple):
    """Whole pixels: `height` x `width` from (top, left)."""

    top: int
    left: int
    height: int
    width: int


class Fit(NamedTuple):
    """`part` of the source picture fills `inner` of the model's input."""

    part: Rectangle
    inner: Rectangle


def fit(height: int, width: int, to_height: int, to_width: int, how: str) -> Fit:
    """A picture of [height, width] brought to [to_height, to_width].

    stretch: both axes freely; letterbox: the whole picture, centered between bars; crop: the largest centered part of
    the right proportions.
    """
    if how == "crop":
        scale = min(height / to_height, width / to_width)
        part_h, part_w = max(1, round(to_height * scale)), max(1, round(to_width * scale))
        part = Rectangle((height - part_h) // 2, (width - part_w) // 2, part_h, part_w)
        return Fit(part, Rectangle(0, 0, to_height, to_width))
    whole = Rectangle(0, 0, height, width)
    if how != "letterbox":
        return Fit(whole, Rectangle(0, 0, to_height, to_width))
    scale = min(to_height / height, to_width / width)
    inner_h, inner_w = max(1, round(height * scale)), max(1, round(width * scale))
    return Fit(whole, Rectangle((to_height - inner_h) // 2, (to_width - inner_w) // 2, inner_h, inner_w))


class Placement(NamedTuple):
    """From fractions of the model's input (0..1 over its whole height and width) to places in the source picture:
    x = fraction * x_scale + x_offset, y likewise. `height`, `width`: of the source picture, in the same unit.
    """

    y_scale: float
    x_scale: float
    y_offset: float
    x_offset: float
    height: float
    width: float


WHOLE = Placement(1.0, 1.0, 0.0, 0.0, 1.0, 1.0)
"""Where no source picture is known: places stay fractions of the model's input."""


def placement(height: int, width: int, to_height: int, to_width: int, how: str) -> Placement:
    """The way back of `fit` for the same arguments, to source pixels."""
    part, inner = fit(height, width, to_height, to_width, how)
    y_step, x_step = part.height / inner.height, part.width / inner.width
    return Placement(
        y_scale=to_height * y_step,
        x_scale=to_width * x_step,
        y_offset=part.top - inner.top * y_step,
        x_offset=part.left - inner.left * x_step,
        height=height,
        width=width,
    )
