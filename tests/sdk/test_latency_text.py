"""Latencies for people."""

from __future__ import annotations

import pytest

from edgeloop.latency_text import milliseconds


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.0793, 0.1), ("0.0793 ms", "0.1000 ms")),
        ((0.0017, 0.0021), ("0.0017 ms", "0.0021 ms")),
        ((12.34, 15.0), ("12.3 ms", "15.0 ms")),
        ((0.3,), ("0.300 ms",)),
        ((256.4, 1000.0), ("256 ms", "1000 ms")),
        ((0.0, 0.0), ("0.00 ms", "0.00 ms")),
    ],
)
def test_what_stands_side_by_side_has_one_precision(values: tuple[float, ...], said: tuple[str, ...]) -> None:
    assert milliseconds(*values) == said
