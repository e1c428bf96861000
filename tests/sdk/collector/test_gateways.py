"""Several collectors over one PostgreSQL: any of them takes any report, and one may die at any moment."""

from __future__ import annotations

import threading
from itertools import cycle

import pytest
from sqlalchemy import func, select

from edgeloop.errors import DeviceError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.store import StoreUnavailableError, open_store
from edgeloop.telemetry.store.rollups import Scope
from edgeloop.telemetry.store.tables.rollups import ROLLUPS
from edgeloop.telemetry.transports import open_transport
from edgeloop.telemetry.wire.codec import encode_report
from support.collecting import collector_process, make_report, wait_until
from support.postgres import PostgresServer, postgres_server

DEVICES, BATCHES, PER_BATCH = 6, 45, 20
TOTAL = DEVICES * BATCHES * PER_BATCH


class Sender(threading.Thread):
    """A device with two addresses: sends a batch, now here, now there, until it is acknowledged; some once more."""

    def __init__(self, number: int, urls: list[str]) -> None:
        super().__init__(daemon=True)
        self.device, self.boot, self.acknowledged = f"pi-{number}", f"{number:016x}", 0
        self._urls = urls[number % len(urls) :] + urls[: number % len(urls)]

    def run(self) -> None:
        transports = cycle([open_transport(url) for url in self._urls])
        latency = {"invoke": Histogram.of_ms([5.0])}
        for batch in range(BATCHES):
            seqs = range(batch * PER_BATCH + 1, (batch + 1) * PER_BATCH + 1)
            bodies = [encode_report(make_report(n, self.device, self.boot, latency=latency)) for n in seqs]
            again = batch % 5 == 0  # as if its acknowledgement had been lost
            while True:
                try:
                    assert next(transports).send(bodies, 30.0).accepted == ((self.boot, seqs[0], seqs[-1]),)
                except DeviceError:
                    continue
                if not again:
                    break
                again = False
            self.acknowledged += PER_BATCH


@pytest.mark.slow
def test_one_of_two_gateways_is_killed_and_every_report_is_stored_once(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with collector_process(url) as one, collector_process(url) as two:
        senders = [Sender(number, [one.url, two.url]) for number in range(DEVICES)]
        for sender in senders:
            sender.start()
        wait_until(lambda: sum(each.acknowledged for each in senders) >= TOTAL // 3, "reports are acknowledged")
        one.kill()
        for sender in senders:
            sender.join(120)
        assert [each.acknowledged for each in senders] == [BATCHES * PER_BATCH] * DEVICES
        two.kill()
    store = open_store(url, create=False)
    keys = [each.report.key for each in store.reports()]
    assert len(keys) == TOTAL
    assert len(set(keys)) == TOTAL
    assert store.counts().reports == TOTAL
    for scope in Scope:
        while store.fold(scope, 2000):
            pass
    with store.database.reader.connect() as connection:
        sums = connection.execute(
            select(func.sum(ROLLUPS.c.reports)).group_by(ROLLUPS.c.width_s, ROLLUPS.c.device_id > 0)
        )
        assert [int(total) for (total,) in sums] == [TOTAL] * 4
    assert store.latency() == {("invoke",): Histogram.merged([Histogram.of_ms([5.0])] * TOTAL)}
    store.close()


@pytest.mark.slow
def test_a_database_that_dies_keeps_what_it_committed_and_is_taken_up_again() -> None:
    with postgres_server() as server:
        store = open_store(server.new_database(), busy_timeout_s=1.0)
        store.insert([make_report(n) for n in range(1, 21)])
        server.stop("immediate")
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="not available"):
                store.insert([make_report(21)])
        with pytest.raises(StoreUnavailableError):
            store.counts()
        server.start()
        again = store.insert([make_report(n) for n in range(15, 26)])
        assert (again.stored, again.duplicates) == (5, 6)
        assert sorted(each.report.seq for each in store.reports()) == list(range(1, 26))
        store.close()


def test_what_cannot_be_a_store_is_one_clear_line() -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be opened") as caught:
        open_store("postgresql://nobody:secret@/nothing?host=/nowhere")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
