"""The spool: what `put` returned from is never lost, it is bounded, and it copes with what disks do."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DataError, DeviceError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.spool.policy import AGED_ROWS, DAY_S, FOLD_ROWS, aged_run, oldest_run
from edgeloop.telemetry.spool.spool import Spool, SpoolFullError
from edgeloop.telemetry.wire.codec import Ack, Rejected, decode_report
from support import spool_writer
from support.reports import BOOT, small_body, small_report

ALL = 10_000


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "state" / "spool.db")
    yield opened
    opened.close()


def _put(spool: Spool, *seqs: int, variant: str = "int8") -> None:
    for seq in seqs:
        spool.put(small_body(seq, variant=variant), BOOT, seq)


def _seqs(spool: Spool) -> list[int]:
    return [report.seq for report in spool.pending(ALL, 1 << 40)]


def _frames(spool: Spool) -> int:
    return sum(decode_report(report.body).counters["frames"] for report in spool.pending(ALL, 1 << 40))


def test_reports_wait_in_order_and_survive_a_restart(spool: Spool) -> None:
    _put(spool, 1, 2, 3)
    spool.close()
    assert [(report.boot, report.seq, report.body) for report in spool.pending(2)] == [
        (BOOT, 1, small_body(1)),
        (BOOT, 2, small_body(2)),
    ]
    assert spool.stats().reports == spool.stats().never_sent == 3


def test_the_same_report_twice_is_kept_once_and_another_under_its_key_is_refused(spool: Spool) -> None:
    _put(spool, 1)
    _put(spool, 1)
    assert _seqs(spool) == [1]
    with pytest.raises(DataError, match="already"):
        spool.put(small_body(1, variant="other"), BOOT, 1)
    with pytest.raises(DataError, match="is not"):
        spool.put(small_body(1), BOOT, 2)
    for key in (("nonsense", 1), (BOOT, 0), (BOOT, 2**63), ("0" * 16, 1)):
        with pytest.raises(DataError):
            spool.put(b"x", *key)
    with pytest.raises(DataError):
        spool.put(b"x" * 65537, BOOT, 5)


def test_a_full_spool_folds_and_counts_everything(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", max_bytes=30_000)
    _put(spool, *range(1, 2001))
    stats = spool.stats()
    assert stats.bytes <= 30_000
    assert stats.reports + stats.folded == 2000
    assert _frames(spool) == 2000
    merged = [decode_report(report.body) for report in spool.pending(ALL)]
    assert [report.seq for report in merged] == sorted(report.seq for report in merged)
    assert sum(report.period_s for report in merged) == 2000
    assert sum(report.counters.get("reports_merged", 0) for report in merged) == stats.folded
    everything = Histogram.merged(report.latency["total"] for report in merged)
    assert everything == Histogram.merged(small_report(seq).latency["total"] for seq in range(1, 2001))
    assert merged[-1].period_s == 1, "the newest are whole"
    assert merged[0].period_s < 600, "not everything old went into one"
    spool.close()


def test_what_was_sent_once_is_never_folded_and_a_full_spool_refuses_loudly(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", max_bytes=10_000)
    last = 0
    while spool.stats().bytes < 9_700:
        last += 1
        _put(spool, last)
    spool.mark_sent(spool.pending(ALL))
    before = [report.body for report in spool.pending(ALL)]
    with pytest.raises(SpoolFullError, match="full") as caught:
        _put(spool, last + 1, last + 2)
    assert "\n" not in str(caught.value)
    assert [report.body for report in spool.pending(ALL)][: len(before)] == before
    assert spool.stats().refused == 1
    spool.settle(Ack(((BOOT, 1, last),)))
    _put(spool, last + 2)
    spool.close()
    assert Spool(tmp_path / "spool.db").stats().refused == 1, "the count survives a restart"


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=30), st.sampled_from([8, 64]))
def test_a_run_is_of_one_subject_with_none_of_it_left_out(shape: list[tuple[int, int]], level: int) -> None:
    rows = [(number, subject, folded) for number, (subject, folded) in enumerate(shape)]
    run = oldest_run(rows, level)
    assert run == [] or 2 <= len(run) <= FOLD_ROWS
    assert len({rows[number][1] for number in run} - {0}) == bool(run)
    assert sum(rows[number][2] for number in run) <= level
    by_subject = [[row for row in rows if row[1] == subject] for subject in (1, 2)]
    assert not run or any(run == [row[0] for row in own if run[0] <= row[0] <= run[-1]] for own in by_subject)
    if not run:
        assert all(a[2] + b[2] > level for own in by_subject for a, b in pairwise(own)), "two could have been folded"


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=80))
def test_an_aged_run_is_of_one_subject_and_one_day(shape: list[tuple[int, int]]) -> None:
    rows = [(number, subject, day * DAY_S + number) for number, (subject, day) in enumerate(shape)]
    run = aged_run(rows)
    assert len(run) <= AGED_ROWS
    assert len({shape[number] for number in run}) <= 1
    foldable = [place for place in shape if place[0]]
    assert bool(run) == (len(set(foldable)) < len(foldable))
    assert run == sorted(run)


@pytest.mark.parametrize("max_bytes", [1 << 24, 20_000], ids=["roomy", "folding"])
def test_kill_9_loses_no_report_that_put_returned_from(tmp_path: Path, max_bytes: int) -> None:
    path = tmp_path / "spool.db"
    rng = random.Random(9)
    acknowledged = 0
    for _ in range(6):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen(
            [sys.executable, "-m", spool_writer.__name__, str(path), str(acknowledged + 1), str(max_bytes)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert process.stdout is not None
        for line in islice(process.stdout, rng.randrange(5, 150)):
            acknowledged = int(line)
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            acknowledged = int(line)
        process.wait()
        process.stdout.close()
        spool = Spool(path, max_bytes=max_bytes)
        assert spool.stats().moved_aside == 0
        frames, last = _frames(spool), max(_seqs(spool))
        # One more may be on the disk than was said: killed between the commit and the line.
        assert (frames, last) in ((acknowledged, acknowledged), (acknowledged + 1, acknowledged + 1))
        acknowledged = last
        spool.close()
    assert acknowledged > 30


def test_a_spool_of_the_first_layout_is_taken_on(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path)
    _put(spool, 1, 2)
    spool._file.run(lambda db: db.execute("ALTER TABLE reports DROP COLUMN put_s"))
    spool._file.run(lambda db: db.execute("PRAGMA user_version = 1"))
    spool.close()
    spool = Spool(path)
    _put(spool, 3)
    assert _seqs(spool) == [1, 2, 3]
    assert spool.stats().moved_aside == 0
    spool.close()


def test_age_goes_on_over_a_restart(tmp_path: Path) -> None:
    now = [0.0]

    def opened() -> Spool:
        return Spool(tmp_path / "spool.db", max_age_s=DAY_S, clock=lambda: now[0])

    for start in range(5):
        spool = opened()
        _put(spool, 2 * start + 1)
        now[0] += DAY_S / 2
        _put(spool, 2 * start + 2)
        spool.close()
        now[0] = -1000.0 * start  # a new process counts from anywhere
    spool = opened()
    _put(spool, 11)
    kept = [decode_report(report.body).counters["frames"] for report in spool.pending(ALL)]
    assert sum(kept) == 11
    assert kept[0] > 1
    spool.close()


def test_threads_may_share_it(spool: Spool) -> None:
    errors: list[BaseException] = []

    def put(start: int) -> None:
        try:
            _put(spool, *range(start, start + 25))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=put, args=(1 + 25 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(_seqs(spool)) == list(range(1, 101))


@pytest.mark.parametrize("damage", ["no database", "half", "empty page", "foreign"])
def test_a_damaged_file_is_put_aside_once_and_said_once(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path)
    _put(spool, *range(1, 101))
    spool.close()
    whole = path.read_bytes()
    if damage == "no database":
        path.write_bytes(b"\x00\x01" * 4096)
    elif damage == "half":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty page":
        path.write_bytes(whole[:4096] + bytes(4096) * (len(whole) // 4096 - 1))
    else:
        path.unlink()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE someone_elses (x)")
    notices: list[str] = []
    spool = Spool(path, on_notice=notices.append)
    _put(spool, 500)
    assert 500 in _seqs(spool)
    assert spool.stats().moved_aside == 1
    assert (tmp_path / "spool.db.damaged").exists()
    assert len(notices) == 1
    assert "\n" not in notices[0]
    assert "damaged" in notices[0]
    spool.close()
    assert Spool(path, on_notice=notices.append).stats().moved_aside == 1
    assert len(notices) == 1


def test_a_file_damaged_under_a_running_agent_keeps_what_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path)
    _put(spool, *range(1, 101))
    spool.close()
    data = bytearray(path.read_bytes())
    page = next(n for n in range(1, len(data) // 4096) if small_body(90) in data[n * 4096 : (n + 1) * 4096])
    data[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))
    spool = Spool(path)
    kept = _seqs(spool)
    assert 1 in kept
    assert 20 < len(kept) < 100
    spool.close()


def test_a_report_whose_bytes_changed_on_the_disk_is_never_sent(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path)
    _put(spool, 1, 2, 3)
    spool.close()
    data = path.read_bytes()
    body = small_body(2)
    changed = body[:-3] + bytes([body[-3] ^ 1]) + body[-2:]
    assert data.count(body) == 1
    path.write_bytes(data.replace(body, changed))
    spool = Spool(path)
    assert _seqs(spool) == [1, 3]
    assert spool.stats().damaged == 1
    assert "changed" in spool.quarantined()[0][3]
    spool.close()


def test_a_full_disk_is_said_counted_and_over_when_there_is_room_again(spool: Spool) -> None:
    """SQLite's own limit on pages gives the very error of a full disk."""
    _put(spool, 1)
    limit = spool._file.run(lambda db: db.execute("PRAGMA page_count").fetchone()[0]) + 2
    spool._file.run(lambda db: db.execute(f"PRAGMA max_page_count = {limit}").fetchone())
    _put(spool, 2, 3, 4)
    spool.mark_sent(spool.pending(ALL))
    _put(spool, *range(5, 100))
    assert _frames(spool) == 99, "older ones are folded to make room, none is lost"
    last = 99
    with pytest.raises(SpoolFullError, match="disk is full"):
        while last < 500:
            spool.mark_sent(spool.pending(ALL))  # what was sent is never folded
            _put(spool, last + 1)
            last += 1
    assert _frames(spool) == last, "what was put before is still there"
    settled = spool.settle(Ack(((BOOT, 1, last - 2),), (Rejected(BOOT, last, "no"),)))
    assert (settled.accepted > 0, settled.rejected, _seqs(spool)) == (True, 1, [last - 1])
    spool._file.run(lambda db: db.execute("PRAGMA max_page_count = 100000").fetchone())
    _put(spool, 1000)
    assert _seqs(spool)[-1] == 1000
    assert spool.stats().refused == 1


_ON_A_FULL_DISK = """
import sys
from pathlib import Path
from edgeloop.telemetry.wire.codec import Ack, decode_report, encode_report
from edgeloop.telemetry.spool.spool import Spool
from support.reports import BOOT, typical_report

folder = Path(sys.argv[1])
spool = Spool(folder / "spool.db")
def put(first, last):
    for seq in range(first, last):
        spool.put(encode_report(typical_report(seq)), BOOT, seq)
put(1, 300)
with (folder / "others").open("wb", buffering=0) as others:
    try:
        while others.write(bytes(4096)):
            pass
    except OSError as error:
        assert "No space" in str(error)
put(300, 450)
frames = 0
while pending := spool.pending(200):
    spool.mark_sent(pending)
    frames += sum(decode_report(report.body).counters["frames"] for report in pending)
    spool.settle(Ack(((BOOT, 1, 449),)))
put(450, 500)
spool.close()
stats = Spool(folder / "spool.db").stats()
print(frames, stats.accepted + stats.folded, stats.reports, stats.refused)
"""


@pytest.mark.slow
def test_on_a_disk_that_others_filled_reports_come_and_go(tmp_path: Path) -> None:
    script = f"mount -t tmpfs -o size=5m none {tmp_path} && exec {sys.executable} - {tmp_path}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*command, f"mount -t tmpfs none {tmp_path}"], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system in a namespace of its own")
    result = subprocess.run(
        [*command, script], input=_ON_A_FULL_DISK, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert result.stderr == ""
    assert result.stdout.split() == [str(600 * 449), "449", "50", "0"]


def test_a_disk_that_stops_taking_bytes_is_one_error_and_no_crash(tmp_path: Path) -> None:
    """A file size limit makes write() fail with EFBIG, as a failing card would with EIO."""
    code = (
        "import resource, sys; from pathlib import Path; from edgeloop.errors import DeviceError;"
        "from edgeloop.telemetry.spool.spool import Spool; from support.reports import small_body, BOOT\n"
        "spool = Spool(Path(sys.argv[1])); spool.put(small_body(1), BOOT, 1)\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, hard))\n"
        "failed = 0\n"
        "for seq in range(2, 400):\n"
        "    try: spool.put(small_body(seq), BOOT, seq)\n"
        "    except DeviceError as error: failed += 1; assert chr(10) not in str(error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))\n"
        "spool.put(small_body(1000), BOOT, 1000)\n"
        "seqs = [r.seq for r in spool.pending(9999)]\n"
        "print(failed > 0, seqs[0], seqs[-1], len(seqs) + failed >= 400, spool.stats().refused == failed)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "spool.db")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert result.stderr == ""
    assert result.stdout.split() == ["True", "1", "1000", "True", "True"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE) is not None


def test_a_second_agent_on_the_same_file_is_told(spool: Spool) -> None:
    with pytest.raises(DeviceError, match="used by another agent"):
        Spool(spool.path)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DeviceError, match="folder cannot be made"):
        Spool(tmp_path / "file" / "spool.db")


def test_a_folder_in_place_of_the_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "spool.db").mkdir()
    with pytest.raises(DeviceError, match="cannot be written"):
        Spool(tmp_path / "spool.db")
