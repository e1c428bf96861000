"""What a store promises, whatever the database: every report once, nothing half, the same answers."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest
from sqlalchemy import event, text

from edgeloop.errors import ConfigError, DataError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.store import Selection, open_store
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.store.rows import to_row
from edgeloop.telemetry.store.schema import SCHEMA_VERSION, prepare
from edgeloop.telemetry.store.writing import MAX_QUARANTINED, MAX_QUARANTINED_BYTES, Quarantined
from edgeloop.telemetry.wire.codec import decode_report, encode_report
from support.collecting import BOOT, make_report, with_event


def test_what_went_in_comes_out(store: Store) -> None:
    reports = [
        make_report(1),
        with_event(make_report(2)),
        make_report(3, unknown={99: [1, "new"]}, unsigned=True, counters={}, gauges={}, latency={}),
        make_report(1, device="küche ☃", counters={"inferences": 2**63 - 1, "#77": 3}),
    ]
    reports = [decode_report(encode_report(report)) for report in reports]
    store.insert(reports, received_s=5.0)
    found = list(store.reports())
    assert [each.report for each in found] == reports
    assert {each.received_s for each in found} == {5.0}


def test_a_key_is_stored_once_whatever_the_batches(store: Store) -> None:
    first = store.insert([make_report(1), make_report(2), make_report(2)])
    assert (first.new, first.duplicates) == ((0, 1), 1)
    again = store.insert([make_report(2), make_report(3), make_report(2, boot="f" * 16), make_report(2, device="pi-2")])
    assert (again.new, again.duplicates) == ((1, 2, 3), 1)
    assert store.counts().reports == 5
    assert store.counts().inferences == 100


def test_a_batch_with_one_report_that_cannot_be_stored_stores_nothing(store: Store) -> None:
    with pytest.raises(DataError, match="finite"):
        store.insert([make_report(1), make_report(2, uptime_s=float("nan"))])
    assert store.counts().reports == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"device": "a\0b"},
        {"version": 2**63},
        {"time_s": 1e300},
        {"time_s": -1.0},
        {"counters": {"inferences": 2**64}},
        {"gauges": {"temperature_c": float("inf")}},
    ],
)
def test_values_that_no_database_holds_are_refused(store: Store, fields: dict[str, object]) -> None:
    with pytest.raises(DataError):
        store.insert([make_report(1, **fields)])


def test_many_threads_store_every_report_once(store: Store) -> None:
    batches = [[make_report(n, device=f"pi-{d}", latency={}) for n in range(1, 21)] for d in range(4)] * 3
    random.Random(1).shuffle(batches)
    results = []
    threads = [threading.Thread(target=lambda b=b: results.append(store.insert(b))) for b in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counts().reports == 80
    assert sum(r.stored for r in results) == 80
    assert sum(r.duplicates for r in results) == 160


def test_batches_that_wait_for_each_other_share_a_transaction(store: Store) -> None:
    store.insert([make_report(100)])  # makes what the first report of a day needs
    commits = []
    event.listen(store.database.writer, "commit", commits.append)
    threads = [threading.Thread(target=store.insert, args=([make_report(n)],)) for n in range(1, 7)]
    with store._write_lock:
        for thread in threads:
            thread.start()
        while len(store._waiting) < 6:
            pass
    for thread in threads:
        thread.join()
    assert len(commits) == 1
    assert store.counts().reports == 7


def test_two_stores_on_one_database_share_it(store_url: str) -> None:
    stores = [open_store(store_url, busy_timeout_s=30) for _ in range(2)]

    def write(store: Store, devices: range) -> None:
        for n in range(1, 11):
            store.insert([make_report(n, device=f"pi-{d}") for d in devices])

    threads = [threading.Thread(target=write, args=(s, range(k, k + 3))) for k, s in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        assert (store.counts().devices, store.counts().reports) == (4, 40)
        assert len({each.report.key for each in store.reports()}) == 40
        store.close()


def test_readers_open_a_store_that_is_being_written(store: Store, store_url: str) -> None:
    store.insert([make_report(1)])
    with store.database.writer.begin():
        reader = open_store(store_url, create=False, busy_timeout_s=0.05)
        assert reader.counts().reports == 1
        reader.close()


def test_one_jobs_bad_value_does_not_fail_the_others_of_its_transaction(store: Store) -> None:
    good, bad = to_row(make_report(1), 1.0), to_row(make_report(2), 1.0)
    bad = replace(bad, values=tuple(None if value == "ic" else value for value in bad.values))  # as if let through
    outcome: dict[str, object] = {}

    def insert(name: str, row: object) -> None:
        try:
            outcome[name] = store.insert_rows([row], refused=(), received_s=1.0).stored  # type: ignore[list-item]
        except DataError as error:
            outcome[name] = error

    threads = [threading.Thread(target=insert, args=item) for item in (("good", good), ("bad", bad))]
    with store._write_lock:
        for thread in threads:
            thread.start()
        while len(store._waiting) < 2:
            pass
    for thread in threads:
        thread.join()
    assert outcome["good"] == 1
    assert isinstance(outcome["bad"], DataError)


def test_merged_latency_equals_the_histogram_of_all_samples(store: Store) -> None:
    reports = [make_report(n, device=f"pi-{n % 2}", version=n % 3) for n in range(1, 40)]
    store.insert(reports)
    everything = Histogram.merged([report.latency["invoke"] for report in reports])
    assert store.latency()[("invoke",)] == everything
    by = store.latency(Selection(version=1), by=["device", "version"])
    wanted = Histogram.merged([r.latency["total"] for r in reports if r.version == 1 and r.device == "pi-0"])
    assert by[("total", "pi-0", "1")] == wanted


def test_latency_is_merged_over_more_reports_than_a_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop.telemetry.store.database._PAGE_ROWS", 7)
    reports = [make_report(n) for n in range(1, 31)]
    store.insert(reports)
    assert store.latency()[("invoke",)] == Histogram.merged([report.latency["invoke"] for report in reports])
    assert [each.report.seq for each in store.reports()] == list(range(1, 31))


def test_grouping_by_an_unknown_column_names_the_known_ones(store: Store) -> None:
    with pytest.raises(DataError, match="device, boot, bundle"):
        store.latency(by=["nothing"])


def test_selections_narrow_what_is_read(store: Store) -> None:
    store.insert([make_report(1), make_report(2, bundle="kws"), make_report(3, device="pi-2"), make_report(9)])
    found = lambda **f: [each.report.seq for each in store.reports(Selection(**f))]  # noqa: E731
    assert found(device="pi-1") == [1, 2, 9]
    assert found(bundle="kws") == [2]
    assert found(since_s=1_750_000_003.0) == [3, 9]
    assert found(since_s=1_750_000_003.0, until_s=1_750_000_009.0) == [3]
    assert found(version=4) == []
    assert found(delegate="xnnpack", boot=BOOT, variant="int8") == [1, 2, 3, 9]


def test_latest_is_the_last_to_arrive_of_each_device(store: Store) -> None:
    store.insert([make_report(1), make_report(2), make_report(1, device="b")])
    store.insert([make_report(3)])
    store.insert([make_report(2)])
    assert [(each.report.device, each.report.seq) for each in store.latest()] == [("b", 1), ("pi-1", 3)]
    assert [each.report.seq for each in store.recent("pi-1", 2)] == [2, 3]


def test_the_quarantine_is_bounded(store: Store) -> None:
    refused = [Quarantined("", "", n, "torn", b"x" * 10_000) for n in range(MAX_QUARANTINED + 5)]
    store.insert([], refused=refused)
    store.insert([], refused=[Quarantined("d\0", "", 2**70, "last", b"y")])
    assert store.counts().quarantined == MAX_QUARANTINED
    newest, older = store.quarantined(2)
    assert (newest.device, newest.reason, newest.body) == ("d\ufffd", "last", b"y")
    assert len(older.body) == MAX_QUARANTINED_BYTES


def test_a_store_of_a_newer_edgeloop_is_refused(store: Store, store_url: str) -> None:
    with store.database.writer.begin() as connection:
        connection.execute(text(f"UPDATE edgeloop_meta SET schema_version = {SCHEMA_VERSION + 1}"))
    with pytest.raises(ConfigError, match=f"schema {SCHEMA_VERSION + 1}"):
        open_store(store_url)


def test_an_older_store_is_brought_forward_step_by_step_or_not_at_all(store: Store) -> None:
    store.insert([make_report(1)])
    steps = {
        SCHEMA_VERSION: lambda c, _: c.execute(text("ALTER TABLE reports ADD COLUMN note TEXT")),
        SCHEMA_VERSION + 1: lambda c, _: c.execute(text("UPDATE reports SET note = 'migrated'")),
    }
    failing = {**steps, SCHEMA_VERSION + 1: lambda c, _: c.execute(text("UPDATE nothing SET x = 1"))}
    with pytest.raises(Exception, match="nothing"), store.database.writer.begin() as connection:
        prepare(connection, current=SCHEMA_VERSION + 2, migrations=failing)
    with store.database.reader.connect() as connection:
        assert connection.execute(text("SELECT schema_version FROM edgeloop_meta")).scalar_one() == SCHEMA_VERSION
    with store.database.writer.begin() as connection:
        prepare(connection, current=SCHEMA_VERSION + 2, migrations=steps)
    with store.database.reader.connect() as connection:
        assert connection.execute(text("SELECT schema_version FROM edgeloop_meta")).scalar_one() == SCHEMA_VERSION + 2
        assert connection.execute(text("SELECT note FROM reports")).scalar_one() == "migrated"


def test_rows_are_asked_for_by_what_came_later(store: Store) -> None:
    store.insert([make_report(n) for n in range(1, 6)])
    second = [each.id for each in store.reports()][1]
    assert [each.report.seq for each in store.reports(after_id=second)] == [3, 4, 5]
    assert store.last_report_id() == [each.id for each in store.reports()][-1]


def test_reports_of_many_days_are_one_store(store: Store) -> None:
    """Partitions of PostgreSQL are by the day of arrival; a key counts across them."""
    for day in range(4):
        store.insert([make_report(day + 1), make_report(100 + day)], received_s=1_750_000_000.0 + day * 86_400)
    again = store.insert([make_report(n) for n in (1, 2, 3, 4, 5)], received_s=1_750_000_000.0 + 9 * 86_400)
    assert (again.new, again.duplicates) == ((4,), 4)
    assert [each.report.seq for each in store.reports()] == [1, 100, 2, 101, 3, 102, 4, 103, 5]


def test_a_range_of_time_is_whole_and_in_the_order_of_arrival_though_times_are_not(store: Store) -> None:
    times = [float((7 * n) % 50) for n in range(1, 51)]
    store.insert([make_report(n, time_s=1e9 + time_s) for n, time_s in enumerate(times, 1)], received_s=1e9)
    for since, until in ((10.0, 20.0), (None, 5.0), (45.0, None), (0.0, 50.0), (60.0, None), (20.0, 20.0)):
        chosen = Selection(
            since_s=None if since is None else 1e9 + since, until_s=None if until is None else 1e9 + until
        )
        wanted = [n for n, t in enumerate(times, 1) if t >= (since or 0.0) and (until is None or t < until)]
        assert [each.report.seq for each in store.reports(chosen)] == wanted
        assert [each.report.seq for each in store.reports(chosen, after_id=25)] == [n for n in wanted if n > 25]
