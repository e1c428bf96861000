"""A spool without a disk: for simulated devices by the thousand, and for boards that have no place to write.

What it holds is gone with its process. Everything else is as in `spool.Spool`, by the same decisions.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from edgeloop.errors import DataError
from edgeloop.telemetry.spool.policy import (
    DEFAULT_MAX_AGE_S,
    DEFAULT_MAX_BYTES,
    FOLD_LEVELS,
    QUARANTINE_SHARE,
    ROW_OVERHEAD_BYTES,
    UNFOLDABLE,
    Settled,
    SpooledReport,
    SpoolFullError,
    SpoolStats,
    aged_run,
    calm_s,
    check_report,
    fold_bodies,
    oldest_run,
)
from edgeloop.telemetry.wire.codec import UNREADABLE_BOOT, Ack
from edgeloop.telemetry.wire.values import tidy


@dataclass(slots=True)
class _Row:
    report: SpooledReport
    subject: int
    put_s: int
    folded: int = 1


class MemorySpool:
    """A `ReportSpool` of plain values, a few hundred bytes when it is empty."""

    def __init__(
        self,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_age_s: float = DEFAULT_MAX_AGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_bytes, self.max_age_s = max_bytes, max_age_s
        self._rows: dict[int, _Row] = {}  # ids grow, but for folded reports, which take their first one's place
        self._ids: dict[tuple[str, int], int] = {}
        self._next_id = 1
        self._quarantine: deque[tuple[str, int, bytes, str]] = deque()
        self._bytes = self._quarantine_bytes = 0
        self._counts: Counter[str] = Counter()
        self._any_deferred = False
        self._lock = threading.Lock()
        self._clock, self._epoch_s = clock, clock()
        self._look_for_aged_s = 0.0

    def put(self, body: bytes, boot: str, seq: int) -> None:
        """See `ReportSpool.put`."""
        subject = check_report(body, boot, seq)
        now_s = int(self._clock() - self._epoch_s)
        with self._lock:
            known = self._ids.get((boot, seq))
            if known is not None:
                if self._rows[known].report.body == body:
                    return
                raise DataError(f"another report is spooled as {boot}/{seq} already")
            self._fold_aged(now_s)
            need_bytes = len(body) + ROW_OVERHEAD_BYTES
            while self._used_bytes + need_bytes > self.max_bytes and (run := self._finest_run()):
                self._fold(run)
            if self._used_bytes + need_bytes > self.max_bytes:
                self._counts["refused"] += 1
                raise SpoolFullError(
                    f"the spool in memory is full ({self.max_bytes} bytes) and nothing in it may be folded",
                    hint="bring the collector back or give the spool more room",
                )
            self._add(self._next_id, _Row(SpooledReport(boot, seq, body), subject, now_s))
            self._next_id += 1

    def pending(
        self, limit: int, max_bytes: int = 256 * 1024, after: SpooledReport | None = None
    ) -> list[SpooledReport]:
        """See `ReportSpool.pending`."""
        behind = (0, 0) if after is None else (after.deferred, after.place)
        with self._lock:
            reports: list[SpooledReport] = []
            total_bytes = 0
            for row in self._in_order():
                if len(reports) == limit or total_bytes >= max_bytes:
                    break
                if (row.report.deferred, row.report.place) <= behind:
                    continue
                reports.append(row.report)
                total_bytes += len(row.report.body)
            return reports

    def mark_sent(self, reports: Iterable[SpooledReport]) -> None:
        """See `ReportSpool.mark_sent`."""
        with self._lock:
            for report in reports:
                self._change(report, sends=1)

    def defer(self, report: SpooledReport) -> None:
        """See `ReportSpool.defer`."""
        with self._lock:
            self._change(report, deferred=1)
            self._any_deferred = True

    def settle(self, ack: Ack) -> Settled:
        """See `ReportSpool.settle`."""
        with self._lock:
            rejected = accepted = 0
            for each in ack.rejected:
                if each.boot == UNREADABLE_BOOT:
                    found = [n for n, row in self._rows.items() if zlib.crc32(row.report.body) == each.seq]
                else:
                    found = self._within(each.boot, each.seq, each.seq)
                for row_id in filter(self._was_sent, found):
                    self._set_aside(row_id, each.reason)
                    rejected += 1
            for span in ack.accepted:
                for row_id in filter(self._was_sent, self._within(*span)):
                    self._remove(row_id)
                    accepted += 1
            self._counts.update(accepted=accepted, rejected=rejected)
            return Settled(accepted, rejected)

    def condense(self, to_bytes: int) -> int:
        """See `ReportSpool.condense`."""
        with self._lock:
            return self._fold(run) if self._bytes > to_bytes and (run := self._finest_run()) else 0

    def stats(self) -> SpoolStats:
        """See `ReportSpool.stats`."""
        with self._lock:
            never_sent = sum(not row.report.sends for row in self._rows.values())
            sent_bytes = sum(
                len(row.report.body) + ROW_OVERHEAD_BYTES for row in self._rows.values() if row.report.sends
            )
            return SpoolStats(
                len(self._rows), never_sent, self._used_bytes, len(self._quarantine), sent_bytes=sent_bytes,
                **{name: count for name, count in self._counts.items() if count},
            )  # fmt: skip

    def quarantined(self, limit: int = 100) -> list[tuple[str, int, bytes, str]]:
        """See `ReportSpool.quarantined`."""
        with self._lock:
            return list(reversed(self._quarantine))[:limit]

    def close(self) -> None:
        """There is no file."""

    def end(self) -> None:
        """There is no file."""

    @property
    def _used_bytes(self) -> int:
        return self._bytes + self._quarantine_bytes

    def _was_sent(self, row_id: int) -> bool:
        return self._rows[row_id].report.sends > 0

    def _within(self, boot: str, first: int, last: int) -> list[int]:
        """Ids of what is in a range of keys, which a stranger may have made as large as he likes."""
        if last - first < len(self._rows):
            return [self._ids[boot, seq] for seq in range(first, last + 1) if (boot, seq) in self._ids]
        return [n for n, row in self._rows.items() if row.report.boot == boot and first <= row.report.seq <= last]

    def _in_order(self) -> Iterator[_Row]:
        if not self._any_deferred:
            return iter(self._rows.values())
        return iter(sorted(self._rows.values(), key=lambda row: row.report.deferred))

    def _add(self, row_id: int, row: _Row) -> None:
        row.report = replace(row.report, place=row_id)
        self._rows[row_id] = row
        self._ids[row.report.boot, row.report.seq] = row_id
        self._bytes += len(row.report.body) + ROW_OVERHEAD_BYTES

    def _remove(self, row_id: int) -> _Row:
        row = self._rows.pop(row_id)
        del self._ids[row.report.boot, row.report.seq]
        self._bytes -= len(row.report.body) + ROW_OVERHEAD_BYTES
        return row

    def _change(self, report: SpooledReport, *, sends: int = 0, deferred: int = 0) -> None:
        row = self._rows.get(self._ids.get((report.boot, report.seq), 0))
        if row is not None:
            now = row.report
            row.report = replace(now, sends=now.sends + sends, deferred=now.deferred + deferred)

    def _set_aside(self, row_id: int, reason: str) -> None:
        report = self._remove(row_id).report
        self._quarantine.append((report.boot, report.seq, report.body, tidy(reason)))
        self._quarantine_bytes += len(report.body) + ROW_OVERHEAD_BYTES
        while self._quarantine_bytes > self.max_bytes // QUARANTINE_SHARE:
            self._quarantine_bytes -= len(self._quarantine.popleft()[2]) + ROW_OVERHEAD_BYTES

    def _never_sent(self) -> Iterator[tuple[int, _Row]]:
        return ((row_id, row) for row_id, row in self._rows.items() if not row.report.sends)

    def _finest_run(self) -> list[int]:
        for level in FOLD_LEVELS:
            if run := oldest_run(((n, row.subject, row.folded) for n, row in self._never_sent()), level):
                return run
        return []

    def _fold_aged(self, now_s: int) -> None:
        if now_s < self._look_for_aged_s:
            return
        oldest_s = now_s - self.max_age_s
        if run := aged_run((n, row.subject, row.put_s) for n, row in self._never_sent() if row.put_s <= oldest_s):
            self._fold(run)
        else:
            self._look_for_aged_s = now_s + calm_s(self.max_age_s)

    def _fold(self, run: Sequence[int]) -> int:
        rows = [self._rows[row_id] for row_id in run]
        merged = fold_bodies([row.report.body for row in rows])
        if merged is None:
            rows[0].subject = UNFOLDABLE
            return 0
        for row_id in run:
            self._remove(row_id)
        report = SpooledReport(merged.boot, merged.seq, merged.body)
        self._add(run[0], _Row(report, rows[0].subject, rows[0].put_s, sum(row.folded for row in rows)))
        self._rows = dict(sorted(self._rows.items()))
        self._counts["folded"] += len(run) - 1
        return len(run) - 1
