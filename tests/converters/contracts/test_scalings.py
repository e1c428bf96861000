"""Between trials that the samples do not tell apart, the usual one."""

from __future__ import annotations

from edgeloop.contract import InputSpec
from edgeloop_converters.scalings import Trial, _usual_order_if_as_good


def trial(color: str, accuracy: float, likelihood: float = -1.0) -> Trial:
    return Trial(InputSpec(kind="image", size=(8, 8), color=color, std=(255.0,)), color, 0, accuracy, likelihood)


def test_rgb_is_taken_where_bgr_is_not_clearly_better() -> None:
    bgr, rgb = trial("bgr", 1.0, -0.01), trial("rgb", 1.0, -0.02)
    assert _usual_order_if_as_good(bgr, [bgr, rgb], 200) is rgb


def test_bgr_is_taken_where_it_is() -> None:
    bgr, rgb = trial("bgr", 0.8), trial("rgb", 0.7)
    assert _usual_order_if_as_good(bgr, [bgr, rgb], 200) is bgr
