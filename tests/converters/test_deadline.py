"""The minutes of a search hold in the middle of its work."""

from __future__ import annotations

import pytest

from edgeloop.errors import GoalNotMetError
from edgeloop.progress import SilentProgress
from edgeloop_converters.deadline import Deadline, OutOfTimeError


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_work_is_cut_off_at_its_next_step_and_what_comes_behind_is_kept_free() -> None:
    clock = Clock()
    deadline = Deadline(1.0, clock)
    deadline.reserve_s = 20.0
    assert (deadline.left_s, deadline.is_over) == (40.0, False)
    with deadline.watch(SilentProgress()).step("refitting layers", total=3) as advance:
        advance(1)
        clock.now_s += 41
        with pytest.raises(OutOfTimeError, match="refitting layers"):
            advance(1)
    assert deadline.is_over
    with pytest.raises(GoalNotMetError), deadline.watch(SilentProgress()).step("more"):
        pytest.fail("nothing begins after it")


def test_without_minutes_nothing_is_watched() -> None:
    deadline, progress = Deadline(), SilentProgress()
    assert deadline.watch(progress) is progress
    assert not deadline.is_over
