"""The store itself: commits batches exactly once, and answers questions about what is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import exc as sql_errors
from sqlalchemy import func, select

from edgeloop.errors import DataError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.store import Selection, StoreUnavailableError
from edgeloop.telemetry.store.dialects import Database
from edgeloop.telemetry.store.latency import read_latency
from edgeloop.telemetry.store.retention import Retention
from edgeloop.telemetry.store.rollups import Scope, fold
from edgeloop.telemetry.store.rows import ReportRow, StoredEvent, StoredReport, from_row, to_row
from edgeloop.telemetry.store.schema import DEVICES, QUARANTINE, REPORTS, is_current, prepare
from edgeloop.telemetry.store.selecting import arrived_within, events_matching, group_column, matching
from edgeloop.telemetry.store.upkeep import Upkeep
from edgeloop.telemetry.store.writing import Inserted, Job, Quarantined, Statements, device_ids, write

_PAGE_ROWS = 500
_MAX_KNOWN_DEVICES = 100_000
_EVERYTHING = Selection()


@dataclass(frozen=True)
class Counts:
    """What the store holds."""

    devices: int
    reports: int
    inferences: int
    quarantined: int


@dataclass
class Store:
    """Reports by (device, boot, seq). Safe to use from several threads, and a SQLite file from several processes.

    Batches that arrive while another one is being written share the next transaction (and its one fsync).
    """

    database: Database
    _waiting: list[Job] = field(default_factory=list, repr=False)
    _waiting_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _write_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _known_devices: dict[str, int] = field(default_factory=dict, repr=False)
    _upkeep: Upkeep | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._statements = Statements(self.database)
        try:
            with _opening(self.database.url):
                with self.database.reader.connect() as connection:
                    ready = is_current(connection)
                if not ready:
                    with self.database.writer.begin() as connection:
                        self.database.settle(connection)  # others may be about to do the same
                        prepare(connection)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return self.database.url

    def keep_up(self, retention: Retention | None = None, say: Callable[[str], None] | None = None) -> None:
        """Fold and delete in a thread of its own until `close`; for those who write, one process at least."""
        self._upkeep = Upkeep(self.database, retention or Retention(), say)
        self._upkeep.start()

    def close(self) -> None:
        if self._upkeep is not None:
            self._upkeep.stop()
        self.database.dispose()

    # -- writing

    def insert(
        self, reports: Iterable[Report], *, refused: Sequence[Quarantined] = (), received_s: float | None = None
    ) -> Inserted:
        """Commit all of them, or none: when it returns they survive a power cut, when it raises nothing was stored.

        Reports whose key is there already are counted as duplicates. `refused` goes to the quarantine with them.
        Raises DataError for a report that cannot be stored, StoreUnavailableError when the database is locked or full.
        """
        now = time.time() if received_s is None else received_s
        return self.insert_rows([to_row(report, now) for report in reports], refused=refused, received_s=now)

    def insert_rows(self, rows: list[ReportRow], *, refused: Sequence[Quarantined], received_s: float) -> Inserted:
        """`insert` for reports that were turned into rows before."""
        job = Job(rows, refused, received_s)
        self.commit([job])
        if job.error is not None:
            raise job.error
        return job.result

    def commit(self, jobs: Sequence[Job]) -> None:
        """Write the jobs, and what other threads have waiting, in one transaction; each then has its result or error.

        A job whose values the database refuses has a DataError and does not touch the others.
        """
        with self._waiting_lock:
            self._waiting += jobs
        with self._write_lock:
            with self._waiting_lock:
                mine, self._waiting = self._waiting, []
            if mine:  # else the thread that had the lock before took them along
                self._commit(mine)

    def _commit(self, jobs: list[Job]) -> None:
        try:
            with _translated(self.database.url), self.database.writer.begin() as connection:
                found = device_ids(connection, self._statements, jobs, self._known_devices)
                results = write(connection, self._statements, jobs, found)
        except DataError as error:
            if len(jobs) == 1:
                jobs[0].error = error
            else:  # one job's fault is not the others'
                for job in jobs:
                    self._commit([job])
        except Exception as error:
            for job in jobs:
                job.error = error
        else:
            if len(self._known_devices) + len(found) > _MAX_KNOWN_DEVICES:
                self._known_devices.clear()
            self._known_devices.update(found)
            for job, result in zip(jobs, results, strict=True):
                job.result = result
        finally:
            for job in jobs:
                job.done = True

    # -- reading

    def reports(self, selection: Selection = _EVERYTHING, *, after_id: int = 0) -> Iterator[StoredReport]:
        """In the order of arrival. Reads in pages, so that a long export neither holds memory nor a lock."""
        until: tuple[Any, ...] = ()
        if not after_id and (span := arrived_within(selection)) is not None:
            first, last = self._read(span)[0]
            if first is None:
                return
            after_id, until = first - 1, (REPORTS.c.id <= last,)
        while True:
            page = self._page(
                matching(selection, REPORTS.c.id > after_id, *until).order_by(REPORTS.c.id).limit(_PAGE_ROWS)
            )
            yield from page
            if len(page) < _PAGE_ROWS:
                return
            after_id = page[-1].id

    def events(self, selection: Selection, kinds: Collection[str], *, after_id: int = 0) -> list[StoredEvent]:
        """Events of these kinds in the order of arrival: of the reports that match, of those after `after_id`."""
        return [StoredEvent(*row) for row in self._read(events_matching(selection, kinds, after_id))]

    def latest(
        self,
        selection: Selection = _EVERYTHING,
        *,
        limit: int | None = None,
        after: str = "",
        names: Collection[str] | None = None,
    ) -> list[StoredReport]:
        """The last report to arrive of every device, by device name: those after `after`, only those in `names`.

        `selection` is applied to that report: a device whose last report does not match is left out.
        """
        conditions = [REPORTS.c.id == DEVICES.c.last_report_id]
        if after:
            conditions.append(DEVICES.c.device > after)
        if names is not None:
            conditions.append(DEVICES.c.device.in_(names))
        chosen = matching(selection, *conditions).order_by(DEVICES.c.device)
        return self._page(chosen.limit(limit))

    def recent(self, device: str, limit: int) -> list[StoredReport]:
        """Its last `limit` reports, oldest first."""
        chosen = matching(Selection(device=device)).order_by(REPORTS.c.id.desc()).limit(limit)
        return self._page(chosen)[::-1]

    def latency(
        self, selection: Selection = _EVERYTHING, *, by: Sequence[str] = (), stage: str | None = None
    ) -> dict[tuple[str, ...], Histogram]:
        """Merged histograms by (stage, then the columns named in `by`, as text).

        by: any of "device", "boot", "bundle", "version", "variant", "delegate". stage: only this one. From roll-ups as
        far as they go (`store.rollups`); a time range whose reports are gone is answered for its whole hours or days.
        """
        for name in by:
            group_column(name)  # DataError for one that is unknown
        with _translated(self.database.url):
            return read_latency(self.database, selection, by, stage, _PAGE_ROWS)

    def fold(self, scope: Scope, limit: int) -> int:
        """Put the next reports into the roll-ups, `limit` at most; how many it were."""
        with _translated(self.database.url):
            return fold(self.database, scope, limit)

    def counts(self) -> Counts:
        """Totals; cheap, they are kept per device."""
        d = DEVICES.c
        devices, reports, inferences = self._read(
            select(func.count(), func.coalesce(func.sum(d.reports), 0), func.coalesce(func.sum(d.inferences), 0.0))
        )[0]
        return Counts(
            devices=devices,
            reports=int(reports),
            inferences=int(inferences),
            quarantined=self._read(select(func.count()).select_from(QUARANTINE))[0][0],
        )

    def last_report_id(self) -> int:
        """Grows with every commit of reports; 0 when there are none."""
        return int(self._read(select(func.coalesce(func.max(REPORTS.c.id), 0)))[0][0])

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        """The newest first."""
        q = QUARANTINE.c
        statement = select(q.device, q.boot, q.seq, q.reason, q.body, q.received_s).order_by(q.id.desc()).limit(limit)
        return [Quarantined(*row) for row in self._read(statement)]

    def _read(self, statement: Any) -> Sequence[Any]:
        with _translated(self.database.url), self.database.reader.connect() as connection:
            return connection.execute(statement).all()

    def _page(self, chosen: Any) -> list[StoredReport]:
        with _translated(self.database.url), self.database.reader.connect() as connection:
            return [from_row(*row) for row in connection.execute(chosen)]


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Database errors as ours: DataError is a value's fault, StoreUnavailableError the database's or the disk's."""
    try:
        yield
    except (sql_errors.IntegrityError, sql_errors.DataError, sql_errors.InterfaceError) as error:
        if error.connection_invalidated:
            raise StoreUnavailableError(f"the store {url} is not available: {_said(error)}") from error
        raise DataError(f"cannot be stored: {_said(error)}") from error
    except sql_errors.DBAPIError as error:
        raise StoreUnavailableError(f"the store {url} is not available: {_said(error)}") from error


@contextmanager
def _opening(url: str) -> Iterator[None]:
    try:
        yield
    except sql_errors.OperationalError as error:
        raise StoreUnavailableError(f"the store {url} cannot be opened: {_said(error)}") from error
    except sql_errors.DBAPIError as error:
        raise DataError(f"{url} is not a telemetry store: {_said(error)}", hint="name another file") from error


def _said(error: sql_errors.DBAPIError) -> str:
    """What the database said, on one line."""
    return " ".join(str(error.orig).split())
