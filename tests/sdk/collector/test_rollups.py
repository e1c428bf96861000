"""Sums by hour and day say exactly what the reports say, whatever happens in between."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.store import Selection
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.store.rollups import DAY_S, HOUR_S, Scope, cut
from edgeloop.telemetry.store.tables.rollups import ROLLUPS
from support.collecting import make_report

START_S = 1_750_000_000.0


def some_reports(count: int, seed: int = 1) -> list[Report]:
    """Over three days, two models, five devices; some with a wild clock, some without latency."""
    rng = random.Random(seed)
    return [
        make_report(
            n,
            device=f"pi-{n % 5}",
            version=1 + n % 2,
            time_s=rng.choice([START_S + rng.randrange(3 * DAY_S)] * 9 + [float(rng.randrange(10**9))]),
            **({"latency": {}} if n % 11 == 0 else {}),
        )
        for n in range(1, count + 1)
    ]


def expected(reports: list[Report], selection: Selection, by: tuple[str, ...]) -> dict[tuple[str, ...], Histogram]:
    parts: dict[tuple[str, ...], list[Histogram]] = {}
    for report in reports:
        wanted = (selection.device, selection.version)
        if any(
            value not in (None, found) for value, found in zip(wanted, (report.device, report.version), strict=True)
        ):
            continue
        if not (selection.since_s or 0.0) <= report.time_s < (selection.until_s or 1e12):
            continue
        for stage, histogram in report.latency.items():
            parts.setdefault((stage, *(str(getattr(report, name)) for name in by)), []).append(histogram)
    return {group: Histogram.merged(histograms) for group, histograms in parts.items()}


QUESTIONS = [
    (Selection(), ()),
    (Selection(), ("version",)),
    (Selection(), ("device", "version")),
    (Selection(device="pi-3"), ()),
    (Selection(version=2), ("bundle", "variant")),
    (Selection(since_s=START_S + 1234.5), ("version",)),
    (Selection(until_s=START_S + DAY_S + 17.25), ("device",)),
    (Selection(since_s=START_S + 100, until_s=START_S + 2 * DAY_S + 50), ("version",)),
    (Selection(since_s=START_S + 100, until_s=START_S + 5 * HOUR_S + 50), ("version",)),
    (Selection(since_s=START_S + 100, until_s=START_S + 700), ()),
    (Selection(), ("boot",)),
]


@pytest.mark.parametrize("folded", [0, 1, 130, 400])
def test_answers_are_the_same_however_much_was_folded(store: Store, folded: int) -> None:
    reports = some_reports(400)
    store.insert(reports)
    for scope in Scope:
        left = folded
        while left:
            left -= store.fold(scope, min(left, 97))
    for selection, by in QUESTIONS:
        assert store.latency(selection, by=by) == expected(reports, selection, by), (selection, by)
    invoke = store.latency(stage="invoke")
    assert invoke == {("invoke",): expected(reports, Selection(), ())[("invoke",)]}


def test_roll_ups_grow_with_what_comes_later(store: Store) -> None:
    first, later = some_reports(150, 1), [r for r in some_reports(300, 2) if r.seq > 150]
    for part in (first, later):
        store.insert(part)
        for scope in Scope:
            assert store.fold(scope, 10_000) == 150
            assert store.fold(scope, 10_000) == 0
    assert store.latency(by=("device",)) == expected([*first, *later], Selection(), ("device",))
    assert sums_of(store) == {(HOUR_S, 0): 300, (DAY_S, 0): 300, (HOUR_S, 1): 300, (DAY_S, 1): 300}


def sums_of(store: Store) -> dict[tuple[int, int], int]:
    """(width, 1 where devices are apart) -> reports."""
    apart = ROLLUPS.c.device_id > 0
    with store.database.reader.connect() as connection:
        chosen = select(ROLLUPS.c.width_s, apart, func.sum(ROLLUPS.c.reports)).group_by(ROLLUPS.c.width_s, apart)
        return {(width, int(each)): int(total) for width, each, total in connection.execute(chosen)}


def test_counts_that_no_single_device_can_have_are_kept(store: Store) -> None:
    full = Histogram.of_ms([5.0])
    full.buckets = dict.fromkeys(full.buckets, 2**53)
    full.sum_ns *= 2**53
    store.insert([make_report(n, latency={"invoke": full}) for n in (1, 2)])
    for _ in range(2):
        store.fold(Scope.ALL, 1)
    assert store.latency()[("invoke",)].count == 2**54


@given(st.floats(0, 10**7), st.floats(0, 10**7), st.booleans(), st.booleans(), st.integers(0, 10**7))
def test_a_time_range_is_cut_into_parts_that_cover_it_once(
    a: float, b: float, with_since: bool, with_until: bool, moment: int
) -> None:
    since, until = (min(a, b) if with_since else None), (max(a, b) if with_until else None)
    times = cut(since, until)
    if times is None:
        assert since is not None
        assert until is not None
        assert until - since < 2 * HOUR_S
        return
    hits = sum(first <= moment < last for first, last in times.reports)
    for width_s, first, last in times.rollups:
        start = moment // width_s * width_s
        hits += (first is None or start >= first) and (last is None or start < last)
    inside = (since is None or moment >= since) and (until is None or moment < until)
    assert hits == inside


FOLDER = """
import sys
from edgeloop.telemetry.store import open_store
from edgeloop.telemetry.store.rollups import Scope
store = open_store(sys.argv[1])
print("ready", flush=True)
while True:
    for scope in Scope:
        store.fold(scope, 61)
"""


@pytest.mark.slow
def test_a_folder_that_is_killed_at_any_point_counts_nothing_twice_and_forgets_nothing(
    store: Store, store_url: str
) -> None:
    rng = random.Random(3)
    reports = some_reports(1500)
    store.insert(reports[:500])
    for round_ in range(4):
        process = subprocess.Popen([sys.executable, "-c", FOLDER, store_url], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        store.insert(reports[500 + 250 * round_ : 750 + 250 * round_])
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert store.latency(stage="invoke", by=("device",)) == {
            group: histogram
            for group, histogram in expected(reports[: 750 + 250 * round_], Selection(), ("device",)).items()
            if group[0] == "invoke"
        }
    for scope in Scope:
        while store.fold(scope, 1000):
            pass
    assert sums_of(store) == {(HOUR_S, 0): 1500, (DAY_S, 0): 1500, (HOUR_S, 1): 1500, (DAY_S, 1): 1500}
