"""Every kind of spool: order, once, folding by bytes and by age, settling. What a disk does: tests/sdk/telemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeloop.errors import DataError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.spool.memory import MemorySpool
from edgeloop.telemetry.spool.policy import DAY_S, ReportSpool, SpoolFullError
from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.wire.codec import Ack, Rejected, decode_report
from support.reports import BOOT, OTHER_BOOT, small_body, small_report

ALL = 10_000
MakeSpool = Callable[..., ReportSpool]


class Clock:
    """Seconds that pass when the test says so."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "memory"])
def make_spool(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[MakeSpool]:
    opened: list[ReportSpool] = []

    def make(**options: object) -> ReportSpool:
        arguments: dict[str, object] = {"clock": clock, **options}
        spool: ReportSpool
        if request.param == "sqlite":
            spool = Spool(tmp_path / "spool.db", **arguments)  # type: ignore[arg-type]
        else:
            spool = MemorySpool(**arguments)  # type: ignore[arg-type]
        opened.append(spool)
        return spool

    yield make
    for spool in opened:
        spool.close()


@pytest.fixture
def spool(make_spool: MakeSpool) -> ReportSpool:
    return make_spool()


def put(spool: ReportSpool, *seqs: int, variant: str = "int8", boot: str = BOOT) -> None:
    for seq in seqs:
        spool.put(small_body(seq, variant=variant, boot=boot), boot, seq)


def waiting(spool: ReportSpool) -> list[Report]:
    return [decode_report(report.body) for report in spool.pending(ALL, 1 << 40)]


def seqs(spool: ReportSpool) -> list[int]:
    return [report.seq for report in spool.pending(ALL, 1 << 40)]


def frames(spool: ReportSpool) -> int:
    return sum(report.counters["frames"] for report in waiting(spool))


def test_reports_wait_in_order_once_and_within_limits(spool: ReportSpool) -> None:
    put(spool, 1, 2, 3, 2)
    assert seqs(spool) == [1, 2, 3]
    assert [report.seq for report in spool.pending(2)] == [1, 2]
    assert len(spool.pending(ALL, max_bytes=1)) == 1
    stats = spool.stats()
    assert (stats.reports, stats.never_sent) == (3, 3)
    assert stats.bytes > 3 * len(small_body(1))


def test_reports_behind_one_are_found_also_when_it_is_gone(spool: ReportSpool) -> None:
    put(spool, 1, 2, 3, 4)
    first, second, third, _fourth = spool.pending(ALL)
    assert [report.seq for report in spool.pending(ALL, after=second)] == [3, 4]
    spool.mark_sent([first, second])
    spool.settle(Ack(((BOOT, 1, 2),)))
    assert [report.seq for report in spool.pending(1, after=second)] == [3]
    spool.defer(third)
    put(spool, 5)
    assert [report.seq for report in spool.pending(ALL, after=second)] == [4, 5, 3]
    assert spool.pending(ALL, after=spool.pending(ALL)[-1]) == []


def test_what_is_no_report_of_this_key_is_refused(spool: ReportSpool) -> None:
    put(spool, 1)
    with pytest.raises(DataError, match="already"):
        spool.put(small_body(1, variant="other"), BOOT, 1)
    with pytest.raises(DataError, match="is not"):
        spool.put(small_body(1), BOOT, 2)
    for key in (("nonsense", 1), (BOOT, 0), (BOOT, 2**63), ("0" * 16, 1)):
        with pytest.raises(DataError):
            spool.put(b"x", *key)


def test_only_what_was_sent_is_settled(spool: ReportSpool) -> None:
    put(spool, 1, 2, 3, 4)
    spool.mark_sent(spool.pending(2))
    settled = spool.settle(Ack(((BOOT, 0, 2**63 - 1), (OTHER_BOOT, 1, 9)), (Rejected(BOOT, 4, "no"),)))
    assert (settled.accepted, settled.rejected) == (2, 0)
    assert seqs(spool) == [3, 4]
    assert spool.stats().accepted == 2


def test_rejected_reports_are_set_aside_with_their_reason(spool: ReportSpool) -> None:
    put(spool, 1, 2)
    spool.put(b"garbage", BOOT, 3)
    spool.mark_sent(spool.pending(9))
    ack = Ack(((BOOT, 1, 1),), (Rejected(BOOT, 2, "not\nwanted"), Rejected.unreadable(b"garbage", "no report")))
    assert spool.settle(ack).rejected == 2
    assert spool.settle(ack).rejected == 0
    assert seqs(spool) == []
    assert spool.quarantined() == [(BOOT, 3, b"garbage", "no report"), (BOOT, 2, small_body(2), "not wanted")]
    stats = spool.stats()
    assert (stats.accepted, stats.rejected, stats.quarantined) == (1, 2, 2)


def test_the_quarantine_is_bounded(make_spool: MakeSpool) -> None:
    spool = make_spool(max_bytes=20_000)
    for seq in range(1, 60):
        put(spool, seq)
        spool.mark_sent(spool.pending(1))
        spool.settle(Ack((), (Rejected(BOOT, seq, "no"),)))
    stats = spool.stats()
    assert stats.rejected == 59
    assert 2 <= stats.quarantined < 20
    assert spool.quarantined(1)[0][1] == 59


def test_deferred_reports_go_last(spool: ReportSpool) -> None:
    put(spool, 1, 2, 3)
    spool.defer(spool.pending(1)[0])
    assert seqs(spool) == [2, 3, 1]


def test_a_full_spool_folds_and_counts_everything(make_spool: MakeSpool) -> None:
    spool = make_spool(max_bytes=30_000)
    put(spool, *range(1, 1001))
    stats = spool.stats()
    assert stats.bytes <= 30_000
    assert stats.reports + stats.folded == 1000
    merged = waiting(spool)
    assert sum(report.counters["frames"] for report in merged) == 1000
    assert sum(report.counters.get("reports_merged", 0) for report in merged) == stats.folded
    assert [report.seq for report in merged] == sorted(report.seq for report in merged)
    everything = Histogram.merged(report.latency["total"] for report in merged)
    assert everything == Histogram.merged(small_report(seq).latency["total"] for seq in range(1, 1001))


def test_two_models_that_take_turns_are_folded_each_with_its_own(make_spool: MakeSpool) -> None:
    spool = make_spool(max_bytes=12_000)
    for seq in range(1, 501):
        put(spool, seq, variant="int8" if seq % 2 else "float")
    merged = waiting(spool)
    for variant in ("int8", "float"):
        assert sum(report.counters["frames"] for report in merged if report.variant == variant) == 250
    assert spool.stats().refused == 0


def test_an_agent_that_starts_again_and_again_does_not_fill_it(make_spool: MakeSpool) -> None:
    spool = make_spool(max_bytes=12_000)
    for start in range(1, 301):
        put(spool, 1, boot=f"{start:016x}")
    assert frames(spool) == 300
    assert spool.stats().refused == 0


def test_what_was_sent_once_is_never_folded_and_a_full_spool_refuses_loudly(make_spool: MakeSpool) -> None:
    spool = make_spool(max_bytes=10_000)
    last = 0
    while spool.stats().bytes < 9_700:
        last += 1
        put(spool, last)
    spool.mark_sent(spool.pending(ALL))
    with pytest.raises(SpoolFullError, match="full") as caught:
        put(spool, last + 1, last + 2)
    assert "\n" not in str(caught.value)
    assert seqs(spool)[:last] == list(range(1, last + 1))
    assert spool.stats().refused == 1
    spool.settle(Ack(((BOOT, 1, last),)))
    put(spool, last + 2)


def test_reports_about_different_things_are_not_folded_together(make_spool: MakeSpool) -> None:
    spool = make_spool(max_bytes=12_000)
    with pytest.raises(SpoolFullError):
        for seq in range(1, 200):
            put(spool, seq, variant=f"v{seq}")
    assert spool.stats().folded == 0


def test_old_reports_that_were_never_sent_become_one_a_day(make_spool: MakeSpool, clock: Clock) -> None:
    spool = make_spool(max_age_s=2 * DAY_S)
    for seq in range(1, 201):  # ten days, twenty reports each
        put(spool, seq, variant="float" if seq % 4 == 0 else "int8")
        clock.now_s += DAY_S / 20
    for seq in range(201, 301):  # looking for old ones goes a run at a time
        put(spool, seq)
        clock.now_s += DAY_S / 1000
    kept = waiting(spool)
    old = [report for report in kept if report.seq <= 160]
    assert (
        sorted((report.variant, report.counters["frames"]) for report in old) == [("float", 5)] * 8 + [("int8", 15)] * 8
    ), "eight days: one report for each variant and day"
    assert frames(spool) == 300
    assert spool.stats().folded == 300 - len(kept)
    assert sum(report.counters.get("reports_merged", 0) for report in kept) == 300 - len(kept)
    assert [report.seq for report in kept if report.seq > 170] == list(range(171, 301)), "the newest are whole"


def test_old_reports_that_were_sent_are_kept_as_they_are(make_spool: MakeSpool, clock: Clock) -> None:
    spool = make_spool(max_age_s=DAY_S)
    put(spool, 1, 2, 3)
    spool.mark_sent(spool.pending(ALL))
    clock.now_s += 30 * DAY_S
    put(spool, 4)
    assert seqs(spool) == [1, 2, 3, 4]


def test_condensing_folds_only_down_to_what_was_asked(make_spool: MakeSpool) -> None:
    spool = make_spool()
    put(spool, *range(1, 401))
    before = spool.stats().bytes
    while spool.condense(before // 2):
        pass
    stats = spool.stats()
    assert before // 4 < stats.bytes <= before // 2
    assert frames(spool) == 400
    assert stats.reports + stats.folded == 400
