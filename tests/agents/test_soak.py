"""A short soak; the long one is tests/benchmarks/soak.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.soaking import soak


@pytest.mark.slow
def test_memory_descriptors_and_reports_stay_in_order_with_everything_on(tmp_path: Path) -> None:
    done = soak(tmp_path, seconds=24.0, rate=40.0)
    assert done.frames >= 700 and done.gated > 0 and done.inferences > 0
    assert done.missing == () and done.reports >= 20
    assert done.unbalanced == 0 and done.restarts == 0
    assert done.more_descriptors <= 0
    assert done.growth < 0.01
