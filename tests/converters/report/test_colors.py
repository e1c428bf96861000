"""Text on the page can be read, in light, dark and print: WCAG 2.2 contrast, 4.5 for text and 3 for what is drawn."""

from __future__ import annotations

import re
from importlib import resources

import pytest

CSS = (resources.files("edgeloop_converters.report") / "style.css").read_text(encoding="utf-8")
_ROOTS = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
SCHEMES = {"light": _ROOTS[:1], "dark": _ROOTS[:2], "print": [_ROOTS[0], _ROOTS[2]]}


def colors(scheme: str) -> dict[str, str]:
    """Variables of a scheme, those of light underneath."""
    return {name: value for root in SCHEMES[scheme] for name, value in re.findall(r"--(\w+): (#\w+);", root)}


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(c * 2 for c in color[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_and_drawings_stand_out(scheme: str) -> None:
    have = colors(scheme)
    for ink in ("ink", "soft", "good", "fail", "doubt", "bar"):
        for ground in ("card", "bg"):
            assert contrast(have[ink], have[ground]) >= 4.5, (scheme, ink, ground)
    for fill in ("bar", "bad", "tpu", "cpu", "gpu", "other", "good", "fail", "doubt"):
        assert contrast(have[fill], have["card"]) >= 3, (scheme, fill)
        assert contrast(have["on"], have[fill]) >= 4.5, (scheme, fill)
    assert contrast(have["good"], have["allowed"]) >= 4.5
    assert contrast(have["ink"], have["allowed"]) >= 4.5
    assert contrast(have["bar"], have["reach"]) >= 3
