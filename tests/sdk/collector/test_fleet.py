"""The fleet in memory: exact windows, rows by search and order, what other writers put into the store."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop.telemetry.fleet.choosing import Choice
from edgeloop.telemetry.fleet.history import Scope, history_dict, read_history
from edgeloop.telemetry.fleet.live import LiveFleet
from edgeloop.telemetry.fleet.models import expected_of, rollout
from edgeloop.telemetry.fleet.settling import Settling
from edgeloop.telemetry.fleet.window import LatencyWindow
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.overview import WINDOW_REPORTS, Overview
from edgeloop.telemetry.store import StoreUnavailableError
from edgeloop.telemetry.store.database import Store
from support.collecting import make_report, wait_until, with_event

NOW_S = 1_790_000_000.0


@pytest.fixture
def fleet(store: Store) -> LiveFleet:
    return LiveFleet(store, clock=lambda: NOW_S)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(st.floats(0.0, 500.0), max_size=8), st.booleans()), max_size=12), st.integers(1, 5))
def test_a_window_is_exactly_the_merged_last_reports(periods: list[tuple[list[float], bool]], size: int) -> None:
    window = LatencyWindow(size)
    histograms = [Histogram.of_ms(values) for values, _ in periods]
    for each, (_, looked_at) in zip(histograms, periods, strict=True):
        window.add([each.to_wire()])
        if looked_at:
            assert window.histogram.count_without_zeros >= 0
    kept = [each for each in histograms if each.count][-size:]
    assert window.histogram == Histogram.merged(kept) or not kept
    assert window.trend_p95_ms == tuple(each.percentile(95) for each in kept)


def test_a_row_is_what_the_overview_says(store: Store, fleet: LiveFleet) -> None:
    reports = [make_report(n, time_s=NOW_S) for n in range(1, 41)]
    for report in reports:
        store.insert([report], received_s=NOW_S)
        fleet.observe([report], NOW_S)
    fleet.fold()
    (row,), (view,) = fleet.rows(), Overview(store).devices()
    invoke = view.stages["invoke"]
    assert (row.n, row.p50_ms, row.p95_ms) == (invoke.n, round(invoke.p50_ms, 4), round(invoke.p95_ms, 4))
    assert len(row.trend_p95_ms) == WINDOW_REPORTS
    other = LiveFleet(store, clock=lambda: NOW_S)
    other.load()
    assert (other.rows()[0].p99_ms, other.rows()[0].n) == (row.p99_ms, row.n), "the same after a restart"
    assert other.minutes(0, 2**40, None, None).keys() == fleet.minutes(0, 2**40, None, None).keys()


def test_what_others_put_into_the_store_is_swept_in_once(store: Store, fleet: LiveFleet) -> None:
    fleet.load()
    store.insert([make_report(1)], received_s=NOW_S)
    fleet.sweep()
    assert [row.device for row in fleet.rows()] == ["pi-1"]
    late = make_report(2)
    store.insert([late], received_s=NOW_S + 1)
    fleet.sweep()  # takes it from the store, while it is still on its way from the ingest
    fleet.observe([late], NOW_S + 1)
    fleet.fold()
    assert fleet.rows()[0].n == make_report(1).latency["invoke"].count + late.latency["invoke"].count


def test_a_model_that_runs_no_more_leaves_with_the_next_boot(fleet: LiveFleet) -> None:
    fleet.observe([make_report(1, bundle="faces"), make_report(2, bundle="plates")], NOW_S)
    fleet.fold()
    assert sorted(row.bundle for row in fleet.rows()) == ["faces", "plates"]
    fleet.observe([make_report(1, bundle="faces", boot="f" * 16)], NOW_S)
    fleet.fold()
    assert [row.bundle for row in fleet.rows()] == ["faces"]


def test_search_filter_order_and_page(fleet: LiveFleet) -> None:
    for n in range(30):
        fleet.observe([make_report(1, device=f"pi-{n:02d}", gauges={"temperature_c": float(n)})], NOW_S - n)
    fleet.observe([make_report(1, device="none", latency={}, gauges={}, delegate_asked="xnnpack")], NOW_S - 900)
    fleet.fold()
    names = {row.id: row.device for row in fleet.rows()}

    def shown(**query: str) -> list[str]:
        return [names[each] for each in fleet.choose(Choice.parse(query)).ids]

    assert shown(limit="3") == ["none", "pi-00", "pi-01"]
    assert shown(order="temperature", descending="1", limit="2") == ["pi-29", "pi-28"]
    assert shown(order="p95")[0] == "none", "what has no figure is at one end"
    assert shown(search="PI-1 INT8") == [f"pi-{n}" for n in range(10, 20)]
    assert shown(only="silent") == ["none"]
    assert "none" not in shown(only="fallback")
    assert len(shown(offset="9999", limit="10")) == 1, "past the end: the last page"
    for wrong in ({"order": "x"}, {"only": "x"}, {"limit": "x"}, {"version": "x"}):
        with pytest.raises(DataError):
            Choice.parse(wrong)


def test_ten_thousand_devices_are_quick_to_fold_and_to_page(fleet: LiveFleet) -> None:
    """Generous bounds: other things run on the machine; docs/page.md has the figures."""
    template = make_report(1)
    reports = [type(template)(**{**template.__dict__, "device": f"pi-{n:05d}"}) for n in range(10_000)]
    began = time.process_time()
    fleet.observe(reports, NOW_S)
    fleet.fold()
    folded_s = time.process_time() - began
    began = time.process_time()
    page = fleet.choose(Choice(order="p95", descending=True))
    assert (page.matching, len(page.ids)) == (10_000, 50)
    assert time.process_time() - began < 5
    assert folded_s < 60


def test_latency_is_folded_ahead_unless_much_comes_that_nobody_looks_at(fleet: LiveFleet) -> None:
    folded: list[int] = []

    def came(reports: int) -> None:
        settling = Settling(threading.RLock())
        settling.add(type("Row", (), {"id": 1, "settle": lambda _self: folded.append(reports)})())
        if reports == looked_at:
            settling.looked_at()
        settling.settle(reports)

    looked_at = 10_000
    for reports in (1, 5000, looked_at):
        came(reports)
    assert folded == [1, looked_at]
    fleet.observe([make_report(1)], NOW_S)
    fleet.fold()
    fleet.observe([make_report(1, bundle="other", boot="f" * 16)], NOW_S)
    fleet.fold()
    assert [row.bundle for row in fleet.rows()] == ["other"]


def test_history_by_the_minute_and_from_the_store(store: Store, fleet: LiveFleet) -> None:
    hot = [{"temperature_c": 40.0 + n, "throttle_flags": 4.0} for n in range(6)]
    reports = [with_event(make_report(n, time_s=NOW_S - 60 * n, gauges=hot[n])) for n in range(1, 6)]
    for report in reports:
        store.insert([report], received_s=report.time_s)
        fleet.observe([report], report.time_s)
        fleet.fold()
    total = sum(report.latency["invoke"].count for report in reports)
    for scope in (Scope(), Scope(bundle="ic", version=3), Scope(device="pi-1")):
        data = history_dict(read_history(store, fleet, scope, "1h", NOW_S))
        assert len(data["t"]) == 60
        assert sum(n for n in data["stages"]["invoke"]["n"] if n) == total
        assert sum(n for column in data["heat"] for _bucket, n in column) == total
        assert sum(data["throttled"]) == 5
        assert {mark["kind"] for mark in data["marks"]} == {"fallback"}
    assert [v for v in data["gauges"]["temperature_c"] if v] == [45.0, 44.0, 43.0, 42.0, 41.0]
    for span in ("24h", "30d"):
        for scope in (Scope(), Scope(bundle="ic"), Scope(device="pi-1")):
            data = history_dict(read_history(store, fleet, scope, span, NOW_S))
            assert sum(n for n in data["stages"]["invoke"]["n"] if n) == total, (span, scope)
            assert sum(mark["n"] for mark in data["marks"]) == 5
    assert not read_history(store, fleet, Scope(bundle="other"), "24h", NOW_S).bins
    with pytest.raises(DataError):
        read_history(store, fleet, Scope(), "1y", NOW_S)


def test_rollout_counts_versions_and_who_is_well(fleet: LiveFleet) -> None:
    well = {"delegate_asked": "xnnpack"}
    fleet.observe([make_report(1, device=f"new-{n}", version=4, **well) for n in range(3)], NOW_S)
    fleet.observe([make_report(1, device="old", version=3)], NOW_S)
    fleet.observe([make_report(1, device="gone", version=3, **well)], NOW_S - 3600)
    fleet.fold()
    new, old = rollout(fleet.rows(), NOW_S, {("ic", 4): 5.0})
    assert (new.version, new.devices, new.healthy, new.share, new.first_seen_s) == (4, 3, 3, 0.6, 5.0)
    assert (old.devices, old.healthy, old.fell_back, old.silent) == (2, 0, 1, 1)
    assert expected_of(fleet.rows(), "ic", "xnnpack").version == 4


def test_a_defect_or_a_store_that_is_away_does_not_end_the_live_view(store: Store) -> None:
    fleet, said = LiveFleet(store), []

    def say_where_nobody_reads(line: str) -> None:
        said.append(line)
        raise ValueError("I/O operation on closed file")

    fleet.say = say_where_nobody_reads
    troubles = iter([StoreUnavailableError("locked"), ValueError("a defect"), ValueError("a defect")])

    def trouble(_now_s: float) -> None:
        for error in troubles:
            raise error

    fleet.every_second(trouble)
    fleet.start()
    try:
        wait_until(lambda: next(troubles, None) is None, "every trouble was had")
        fleet.observe([make_report(1)], time.time())
        wait_until(lambda: bool(fleet.rows()), "it still folds")
        assert len(said) <= 1
    finally:
        fleet.stop()
