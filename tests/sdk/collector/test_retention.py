"""Old reports go, in small steps and only once they are summed up; what was asked before is answered as before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy.exc import OperationalError

from edgeloop.errors import UsageError
from edgeloop.telemetry.store import Selection, StoreUnavailableError, open_store, retention, upkeep_process
from edgeloop.telemetry.store import upkeep as upkeep_module
from edgeloop.telemetry.store.database import Store
from edgeloop.telemetry.store.retention import Retention, delete_hours, delete_old, delete_reports, parse_days
from edgeloop.telemetry.store.rollups import DAY_S, HOUR_S, Scope, waiting
from edgeloop.telemetry.store.upkeep import Upkeep
from support.collecting import make_report, wait_until, with_event
from support.postgres import PostgresServer

NOW_S = 1_750_000_000.0


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = open_store(store_url)
    for day in range(10):
        received_s = NOW_S - (10 - day) * DAY_S
        reports = [
            with_event(make_report(10 * day + n, device=f"pi-{n % 2}", time_s=received_s + 60 * n))
            for n in range(1, 11)
        ]
        opened.insert(reports, received_s=received_s)
    opened.insert([make_report(1, device="gone", time_s=NOW_S - 30 * DAY_S)], received_s=NOW_S - 9.5 * DAY_S)
    yield opened
    opened.close()


def fold_all(store: Store) -> None:
    for scope in Scope:
        while store.fold(scope, 1000):
            pass


def test_nothing_goes_that_is_not_summed_up(store: Store) -> None:
    assert delete_reports(store.database, NOW_S) == 0
    store.fold(Scope.ALL, 1000)
    store.fold(Scope.DEVICE, 5)
    assert delete_reports(store.database, NOW_S) == 5


def test_old_reports_go_and_every_answer_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP_ROWS", 7)
    before = store.latency(by=("device", "version"))
    fold_all(store)
    steps = 0
    while delete_old(store.database, Retention(report_days=3.5), NOW_S):
        steps += 1
    left = [each.report for each in store.reports()]
    assert steps == 10
    assert sorted({r.seq for r in left if r.device != "gone"}) == list(range(71, 101))
    assert [r.device for r in left if r.device == "gone"] == ["gone"], "the last report of a device stays"
    assert {each.report.device for each in store.latest()} == {"gone", "pi-0", "pi-1"}
    assert store.latency(by=("device", "version")) == before
    assert store.counts().reports == 101
    again = store.insert([make_report(100, device="pi-0"), make_report(101, device="pi-0")])
    assert (again.stored, again.duplicates) == (1, 1)


def test_ids_are_not_given_again_when_the_newest_reports_go(store: Store) -> None:
    last = store.last_report_id()
    fold_all(store)
    with store.database.writer.begin() as connection:
        connection.exec_driver_sql("DELETE FROM reports")
    store.insert([make_report(500)])
    assert store.last_report_id() == last + 1
    assert store.fold(Scope.ALL, 10) == 1


def test_hours_go_and_days_stay(store: Store) -> None:
    fold_all(store)
    first_day = (NOW_S - 9 * DAY_S) // DAY_S * DAY_S
    of_a_day = Selection(since_s=first_day, until_s=first_day + DAY_S)
    of_an_hour = Selection(since_s=NOW_S - 2 * DAY_S, until_s=NOW_S - 2 * DAY_S + 4 * HOUR_S)
    before = store.latency(of_a_day), store.latency(of_an_hour)
    while delete_hours(store.database, NOW_S - 5 * DAY_S):
        pass
    while delete_reports(store.database, NOW_S - 5 * DAY_S):
        pass
    assert (store.latency(of_a_day), store.latency(of_an_hour)) == before


def test_the_upkeep_does_all_that_is_due(store: Store) -> None:
    upkeep = Upkeep(store.database, Retention(report_days=3.5), clock=lambda: NOW_S)
    before = store.latency(by=("device",))
    upkeep.run_once()
    upkeep.run_once()
    upkeep.stop()
    assert len(list(store.reports())) == 31
    assert store.latency(by=("device",)) == before


def test_much_upkeep_is_done_by_a_process_that_ends_with_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_module, "EVERY_S", 0.05)
    monkeypatch.setattr(upkeep_module, "MUCH", 1)
    before = store.latency()
    upkeep = Upkeep(store.database)
    monkeypatch.setattr(upkeep, "run_once", lambda: None)
    upkeep.start()
    wait_until(lambda: waiting(store.database, Scope.ALL) == 0, "all reports are folded")
    process = upkeep._process
    assert process is not None
    upkeep.stop()
    assert process.poll() is not None
    assert store.latency() == before


def test_upkeep_whose_process_ends_is_done_here(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_module, "EVERY_S", 0.05)
    monkeypatch.setattr(upkeep_module, "MUCH", 1)
    monkeypatch.setattr(upkeep_process, "_CODE", "raise SystemExit(1)")
    upkeep = Upkeep(store.database)
    upkeep.start()
    wait_until(lambda: waiting(store.database, Scope.ALL) == 0, "all reports are folded")
    upkeep.stop()


def test_a_day_whose_reports_are_gone_leaves_the_database_too(postgres: PostgresServer) -> None:
    with closing(open_store(postgres.new_database())) as store:
        for day in (0, 1, 2, 9):
            store.insert([make_report(day + 1, device=f"pi-{day > 0}")], received_s=NOW_S - (10 - day) * DAY_S)
        fold_all(store)

        def days() -> int:
            with store.database.reader.connect() as connection:
                found = connection.exec_driver_sql(
                    "SELECT count(*) FROM pg_inherits WHERE inhparent='reports'::regclass"
                )
                return int(found.scalar_one())

        keep = Retention(report_days=3.5)
        with store.database.reader.connect() as reading:
            reading.exec_driver_sql("SELECT count(*) FROM reports")
            while delete_old(store.database, keep, NOW_S):
                pass
            assert days() == 4, "who reads is not waited for"
        delete_old(store.database, keep, NOW_S)
        assert days() == 2, "that of a device's last report stays"
        assert [each.report.seq for each in store.reports()] == [1, 10]
        store.insert([make_report(20)], received_s=NOW_S - 9 * DAY_S)
        with store.database.writer.begin() as connection:  # as another gateway does
            connection.exec_driver_sql(f"DROP TABLE reports_d{int((NOW_S - 9 * DAY_S) // DAY_S)}")
        with pytest.raises(StoreUnavailableError):
            store.insert([make_report(21)], received_s=NOW_S - 9 * DAY_S)
        assert store.insert([make_report(21)], received_s=NOW_S - 9 * DAY_S).stored == 1


@pytest.mark.parametrize(("text", "days"), [("30d", 30.0), ("2w", 14.0), ("12h", 0.5), ("forever", None)])
def test_times_to_keep_something(text: str, days: float | None) -> None:
    assert parse_days(text, "--retain") == days


@pytest.mark.parametrize("text", ["", "30", "0d", "-1d", "1y", "d"])
def test_other_times_are_one_clear_line(text: str) -> None:
    with pytest.raises(UsageError, match="--retain"):
        parse_days(text, "--retain")


def test_two_gateways_drop_the_same_days_while_reports_come_in(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with closing(open_store(url)) as one, closing(open_store(url)) as other:
        for day in range(20):
            one.insert([make_report(day + 1)], received_s=NOW_S - (30 - day) * DAY_S)
        one.insert([make_report(100)], received_s=NOW_S)
        fold_all(one)
        while delete_reports(one.database, NOW_S - DAY_S):
            pass
        with ThreadPoolExecutor(3) as pool:
            drops = [pool.submit(each.database.drop_empty, NOW_S - DAY_S) for each in (one, other)]
            came = pool.submit(lambda: [one.insert([make_report(n)], received_s=NOW_S) for n in range(101, 121)])
            assert sum(each.stored for each in came.result()) == 20
            for drop in drops:
                drop.result()
        one.database.drop_empty(NOW_S - DAY_S)  # what both were in each other's way with
        with one.database.reader.connect() as connection:
            left = connection.exec_driver_sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'reports'::regclass")
            assert left.scalar_one() == 1


def test_a_store_that_is_locked_is_no_defect_of_the_upkeep(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    turns: list[float] = []

    def locked(_upkeep: Upkeep) -> None:
        turns.append(NOW_S)
        raise OperationalError("BEGIN IMMEDIATE", None, Exception("database is locked"))

    monkeypatch.setattr("edgeloop.telemetry.store.upkeep.EVERY_S", 0.01)
    monkeypatch.setattr(Upkeep, "run_once", locked)
    upkeep = Upkeep(store.database, say=said.append)
    upkeep.start()
    wait_until(lambda: len(turns) > 2, "tried again and again")
    upkeep.stop()
    assert said == []


def test_of_several_collectors_over_one_database_one_keeps_up_and_another_takes_over(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with closing(open_store(url)) as first, closing(open_store(url)) as second:
        first.insert([make_report(n) for n in range(1, 6)])
        with first.database.upkeep_turn() as mine:
            assert mine
            Upkeep(second.database).run_once()
            assert waiting(second.database, Scope.ALL) == 5
        Upkeep(second.database).run_once()
        assert waiting(first.database, Scope.ALL) == 0
        first.insert([make_report(6)])
        with first.database.upkeep_turn(), second.database.writer.begin() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )

        def folded() -> bool:
            Upkeep(second.database).run_once()
            return waiting(first.database, Scope.ALL) == 0

        wait_until(folded, "the session that ended let go of it")
