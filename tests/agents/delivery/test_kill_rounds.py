"""kill -9 in the middle of updates: there is always a whole, verified model to run. Forty: benchmarks/door.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.kill_rounds import kill_rounds


@pytest.mark.slow
def test_killed_updates_leave_a_model_that_runs_and_no_torn_read(tmp_path: Path) -> None:
    tally = kill_rounds(tmp_path, 6)
    assert (tally.without_model, tally.torn) == (0, 0), tally
    assert tally.reads > 100 and tally.killed_agents == 2 and tally.killed_updates + tally.finished == 6, tally
