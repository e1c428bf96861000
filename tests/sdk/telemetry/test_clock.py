"""Reports of devices whose clock is wrong: when they were made, by receipt, uptime and what the batch says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.telemetry.clock import OLDEST_S, TOLERANCE_S, SentAt, corrected_times
from edgeloop.telemetry.report import Report
from support.reports import BOOT, OTHER_BOOT, small_report

NOW_S = 1_790_000_000.0
DAY_S = 86400.0


def made(
    uptimes: list[float], wrong_s: float = 0.0, *, boot: str = BOOT, begin_s: float = NOW_S - 1000
) -> list[Report]:
    """Reports of a boot that began at `begin_s`, by a clock that is wrong by `wrong_s`."""
    return [
        replace(small_report(n, boot=boot), uptime_s=uptime_s, time_s=begin_s + uptime_s + wrong_s)
        for n, uptime_s in enumerate(uptimes, 1)
    ]


def truth(uptimes: list[float], begin_s: float = NOW_S - 1000) -> list[float]:
    return [begin_s + uptime_s for uptime_s in uptimes]


def test_a_right_clock_is_left_as_it_is() -> None:
    reports = made([10, 500, 1000])
    assert corrected_times(reports, NOW_S) == [report.time_s for report in reports]


def test_a_backlog_of_a_right_clock_is_left_as_it_is() -> None:
    reports = made([10, 20, 30], begin_s=NOW_S - 30 * DAY_S)
    assert corrected_times(reports, NOW_S) == [report.time_s for report in reports]


@pytest.mark.parametrize("year_1970", [0.0, 100.0])
def test_a_clock_that_was_never_set_is_told_by_receipt_and_uptime(year_1970: float) -> None:
    uptimes = [980.0, 990.0, 1000.0]
    reports = [replace(report, time_s=year_1970 + report.uptime_s) for report in made(uptimes)]
    assert corrected_times(reports, NOW_S) == truth(uptimes)


def test_a_clock_set_in_the_middle_of_a_batch_dates_what_was_before_it() -> None:
    uptimes = [10.0, 20.0, 30.0, 40.0]
    before = [replace(report, time_s=report.uptime_s) for report in made(uptimes)[:2]]
    assert corrected_times([*before, *made(uptimes)[2:]], NOW_S) == truth(uptimes)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S, 365 * DAY_S])
def test_a_clock_that_jumps_in_the_middle_of_a_batch_moves_nothing(jump_s: float) -> None:
    uptimes = [970.0, 980.0, 990.0, 1000.0]
    reports = made(uptimes)[:2] + made(uptimes, jump_s)[2:]
    assert corrected_times(reports, NOW_S) == truth(uptimes)


@pytest.mark.parametrize("wrong_s", [DAY_S, -DAY_S, -30 * DAY_S, 400.0])
def test_a_clock_that_is_wrong_all_the_time_is_told_by_the_time_of_sending(wrong_s: float) -> None:
    uptimes = [100.0, 110.0, 120.0]
    sent = SentAt(BOOT, NOW_S + wrong_s, 1000.0)
    assert corrected_times(made(uptimes, wrong_s), NOW_S, sent) == truth(uptimes)


def test_what_waited_since_before_the_clock_was_set_is_dated_by_the_time_of_sending() -> None:
    """An hour of it, all from 1970; the clock is right by now."""
    uptimes = [10.0, 20.0, 30.0]
    reports = [replace(report, time_s=report.uptime_s) for report in made(uptimes, begin_s=NOW_S - 3600)]
    assert corrected_times(reports, NOW_S, SentAt(BOOT, NOW_S, 3600.0)) == truth(uptimes, NOW_S - 3600)


def test_the_time_of_sending_says_nothing_of_an_earlier_boot() -> None:
    old = made([10.0, 20.0], begin_s=NOW_S - 40_000, boot=OTHER_BOOT)
    reports = old + made([100.0], -DAY_S)
    assert corrected_times(reports, NOW_S, SentAt(BOOT, NOW_S - DAY_S, 1000.0)) == [
        *(report.time_s for report in old),
        *truth([100.0]),
    ]


def test_a_clock_a_day_ahead_is_never_later_than_receipt() -> None:
    assert corrected_times(made([1000.0], DAY_S), NOW_S) == [NOW_S]


times = st.floats(0, 4e9)


@given(
    st.lists(st.tuples(times, st.floats(0, 1e9), st.sampled_from([BOOT, OTHER_BOOT])), min_size=1, max_size=20),
    times,
    st.none() | st.builds(SentAt, st.sampled_from([BOOT, OTHER_BOOT]), times, st.floats(0, 1e9)),
)
def test_whatever_the_clocks_say_there_is_a_time_for_each_that_is_not_in_the_future(
    claims: list[tuple[float, float, str]], received_s: float, sent: SentAt | None
) -> None:
    reports = [
        replace(small_report(n, boot=boot), time_s=time_s, uptime_s=uptime_s)
        for n, (time_s, uptime_s, boot) in enumerate(claims, 1)
    ]
    corrected = corrected_times(reports, received_s, sent)
    assert len(corrected) == len(reports)
    # Within the tolerance twice: of the boot's beginning, and of the report's own time.
    assert all(time_s <= received_s + 2 * TOLERANCE_S for time_s in corrected)
    for report, time_s in zip(reports, corrected, strict=True):
        assert time_s == report.time_s or time_s <= received_s
    assert OLDEST_S < NOW_S


@given(st.lists(st.floats(0, 900), min_size=2, max_size=20, unique=True), st.sampled_from([-DAY_S, 0.0, DAY_S, -NOW_S]))
def test_order_within_a_boot_is_that_of_uptime(uptimes: list[float], wrong_s: float) -> None:
    reports = [replace(report, time_s=max(report.time_s, 0.0)) for report in made(sorted(uptimes), wrong_s)]
    corrected = corrected_times(reports, NOW_S)
    assert corrected == sorted(corrected)
