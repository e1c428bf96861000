"""What people see: the overview, the terminal, questions from Python, and devices that are not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edgeloop.cli.main import main
from edgeloop.errors import DataError, DeviceError, UsageError
from edgeloop.telemetry.collector import CollectorHandle, start_collector
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.overview import WINDOW_REPORTS, Overview
from edgeloop.telemetry.query import open_telemetry
from edgeloop.telemetry.simulation.simulate import Simulation, simulate
from edgeloop.telemetry.store.database import Store
from support.collecting import make_report, with_event


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorHandle]:
    with start_collector(f"sqlite:///{tmp_path / 'x.db'}") as handle:
        yield handle


def test_the_overview_is_over_the_last_reports_of_what_runs_now(collector: CollectorHandle) -> None:
    store = collector.store
    old = [make_report(n, version=2) for n in range(1, 6)]
    new = [make_report(n, version=3) for n in range(6, 6 + WINDOW_REPORTS)]
    store.insert(old)
    store.insert(new)
    overview = Overview(store)
    (view,) = overview.devices()
    assert (view.version, view.window_reports, view.seq) == (3, WINDOW_REPORTS, 5 + WINDOW_REPORTS)
    expected = Histogram.merged([report.latency["invoke"] for report in new])
    assert view.stages["invoke"].p95_ms == expected.percentile(95)
    assert len(view.trend_p95_ms) == WINDOW_REPORTS
    assert overview.devices()[0] is view, "a device that has not reported is not read again"
    store.insert([with_event(make_report(200, version=4, gauges={"throttle_flags": 4.0}))])
    (view,) = overview.devices()
    assert (view.version, view.window_reports, view.throttled) == (4, 1, True)
    assert view.last_event == {"kind": "fallback", "time_s": view.time_s, "detail": "edgetpu -> xnnpack"}


@pytest.mark.parametrize("names", [None, [f"pi-{n}" for n in range(1, 9)]])
def test_a_fleet_that_is_larger_than_a_page_is_read_page_by_page(store: Store, names: list[str] | None) -> None:
    store.insert([make_report(1, device=f"pi-{n}") for n in (1, 2, 4, 5, 6)])
    overview, after, pages = Overview(store, max_devices=2), "", []
    for _ in range(9):
        found = overview.to_dict(0.0, after, names)
        pages.append([device["device"] for device in found["devices"]])
        if found["next"] is None:
            break
        after = found["next"]
    assert sorted(name for page in pages for name in page) == ["pi-1", "pi-2", "pi-4", "pi-5", "pi-6"]
    assert max(map(len, pages)) == 2
    assert [view.device for view in overview.page(names={"pi-6", "pi-9"})[0]] == ["pi-6"]


@pytest.mark.parametrize(("flags", "throttled"), [(0.0, False), (0x50000, False), (0x50005, True), (8.0, True)])
def test_throttled_means_now_not_since_boot(collector: CollectorHandle, flags: float, throttled: bool) -> None:
    collector.store.insert([make_report(1, gauges={"throttle_flags": flags})])
    assert Overview(collector.store).devices()[0].throttled is throttled


def test_questions_from_python(collector: CollectorHandle) -> None:
    collector.store.insert([make_report(n, device=f"pi-{n % 2}", version=2 + n % 2) for n in range(1, 9)])
    with open_telemetry(collector.store.url) as telemetry:
        by_device = telemetry.latency("ic", version=3, stage="invoke", by="device")
        expected = Histogram.merged([make_report(n, device="pi-1").latency["invoke"] for n in (1, 3, 5, 7)])
        assert by_device.percentile(95) == {"pi-1": expected.percentile(95)}
        assert by_device.count() == {"pi-1": 80}
        assert telemetry.histogram("ic").count == 160
        assert telemetry.histogram("none").count == 0
        assert len(list(telemetry.reports())) == 8
        with pytest.raises(DataError, match="cannot group"):
            telemetry.latency("ic", by="weather")


def test_simulated_devices_report_to_a_real_collector(
    collector: CollectorHandle, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["telemetry", "simulate", "--devices", "20", "--reports", "5", "--interval", "0", "--to", collector.url]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["acknowledged"], result["rejected"]) == (100, 0)
    totals = collector.store.counts()
    assert (totals.devices, totals.reports, totals.quarantined) == (20, 100, 0)
    views = {view.device: view for view in Overview(collector.store).devices()}
    assert views["sim-000"].last_event is not None
    assert set(views["sim-007"].stages) == {"capture", "preprocess", "invoke", "postprocess", "total"}


def test_a_simulation_without_a_collector_gives_up_with_one_line() -> None:
    with pytest.raises(DeviceError, match="not reachable") as caught:
        simulate("http://127.0.0.1:1", Simulation(2, 2, 0.0, patience_s=0.0))
    assert caught.value.hint == "start a collector there: edgeloop collect"
    for wrong in ({"devices": 0}, {"reports": 0}, {"interval_s": -1.0}, {"batch": 1000}):
        with pytest.raises(UsageError):
            Simulation(**{"devices": 1, "reports": 1, **wrong})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="scheme"):
        simulate("nowhere", Simulation(1, 1))


def test_the_facade_opens_a_store(collector: CollectorHandle) -> None:
    import edgeloop as el

    collector.store.insert([make_report(1)])
    with el.telemetry.open(collector.store.url) as telemetry:
        assert telemetry.histogram("ic", version=3).count == 20


def test_a_device_that_runs_several_models_is_shown_once_for_each(collector: CollectorHandle) -> None:
    reports = [make_report(n, bundle=("faces", "plates")[n % 2]) for n in range(1, 9)]
    collector.store.insert(reports)
    collector.store.insert([make_report(1, device="pi-2")])
    overview = Overview(collector.store)
    shown = [(view.device, view.bundle, view.window_reports) for view in overview.devices()]
    assert shown == [("pi-1", "faces", 4), ("pi-1", "plates", 4), ("pi-2", "ic", 1)]
    faces = Histogram.merged([r.latency["invoke"] for r in reports if r.bundle == "faces"])
    assert overview.devices()[0].stages["invoke"].p95_ms == faces.percentile(95)


def test_hit_rates_of_the_caches_are_shown_where_there_are_any(collector: CollectorHandle) -> None:
    counters = {"frames": 10, "inferences": 4, "gated": 6, "cache_hits_l1": 6, "cache_misses_l1": 4, "cache_hits_l2": 1}
    collector.store.insert([make_report(1, counters=counters)])
    data = Overview(collector.store).to_dict(0.0)
    caches = data["devices"][0]["caches"]
    assert caches["l1"]["rate"] == 0.6 and caches["l2"]["rate"] == 1.0 and "l3" not in caches


def test_a_name_to_go_on_after_may_be_anything(store: Store) -> None:
    store.insert([make_report(1)])
    for after in ("\x00", "'; DROP TABLE devices;--", "x" * 10_000):
        with suppress(DataError):
            assert len(Overview(store).page(after)[0]) <= 1
    assert len(Overview(store).page()[0]) == 1
