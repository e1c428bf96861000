"""Power cuts: the spool's files end anywhere, or a page is torn, and what was on the disk before is still there."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeloop.telemetry.spool.spool import Spool
from edgeloop.telemetry.wire.codec import Ack
from support.faults import record
from support.reports import BOOT, small_body

PAGE_BYTES = 4096
CUTS = pytest.param(300, marks=pytest.mark.slow)


@dataclass(frozen=True)
class Moment:
    """The spool's files between two calls: what a power cut finds, at least, as every call ends with an fsync."""

    log_bytes: int
    kept: frozenset[int]


def _life(folder: Path) -> tuple[list[Moment], set[int]]:
    """A spool in use, ended without closing: its files in `folder`, the moments of its log, and all reports ever put.

    The file itself is not written to: the log is shorter than what brings it over (`wal_autocheckpoint`).
    """
    spool = Spool(folder / "live.db")
    rng = random.Random(5)
    kept: set[int] = set()
    moments = []
    seq = 0
    while (folder / "live.db-wal").stat().st_size < 200 * PAGE_BYTES:
        seq += 1
        spool.put(small_body(seq), BOOT, seq)
        kept.add(seq)
        if rng.random() < 0.2:
            spool.mark_sent(sent := spool.pending(3))
            spool.settle(Ack(tuple((BOOT, report.seq, report.seq) for report in sent)))
            kept -= {report.seq for report in sent}
        moments.append(Moment((folder / "live.db-wal").stat().st_size, frozenset(kept)))
    for name in ("live.db", "live.db-wal"):
        shutil.copyfile(folder / name, folder / name.replace("live", "cut"))
    spool.close()
    return moments, set(range(1, seq + 1))


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Moment], set[int]]]:
    folder = tmp_path_factory.mktemp("life")
    yield folder, *_life(folder)


def _opened(target: Path) -> tuple[set[int], int]:
    """What a new agent finds in copies of the files, and that it can go on: its seqs, how often it put files aside."""
    spool = Spool(target)
    found = {report.seq for report in spool.pending(10_000, 1 << 40)}
    spool.put(small_body(999_999), BOOT, 999_999)
    moved_aside = spool.stats().moved_aside
    spool.close()
    for file in target.parent.iterdir():
        file.unlink()
    return found, moved_aside


@pytest.mark.parametrize("cuts", [20, CUTS])
def test_a_log_that_ends_anywhere_holds_what_was_committed_before(
    life: tuple[Path, list[Moment], set[int]], tmp_path: Path, cuts: int
) -> None:
    folder, moments, _ever = life
    log = (folder / "cut.db-wal").read_bytes()
    rng = random.Random(cuts)
    for _ in range(cuts):
        length = rng.randrange(len(log) + 1)
        shutil.copyfile(folder / "cut.db", tmp_path / "spool.db")
        # What a cut leaves behind the end may be anything: nothing, zeros, or what was there before.
        rest = rng.choice([b"", bytes(3000), os.urandom(3000)])
        (tmp_path / "spool.db-wal").write_bytes(log[:length] + rest)
        found, moved_aside = _opened(tmp_path / "spool.db")
        before = [moment for moment in moments if moment.log_bytes <= length]
        after = next((m for m in moments if m.log_bytes > length), moments[-1])
        possible = (before[-1].kept if before else frozenset(), after.kept)
        # A put and an acknowledgement are several commits of one moment: between the two is allowed, outside is not.
        assert possible[0] & possible[1] <= found <= possible[0] | possible[1], f"log of {length} bytes"
        assert moved_aside == 0
    record("power cut: the spool's log ends anywhere", f"{cuts} cuts", "committed reports lost 0, wrong 0")


@pytest.mark.parametrize("cuts", [10, CUTS])
def test_a_file_cut_anywhere_is_opened_and_only_what_was_cut_off_is_gone(
    life: tuple[Path, list[Moment], set[int]], tmp_path: Path, cuts: int
) -> None:
    """A file system that breaks its promise: the file is shorter than SQLite left it. Nothing wrong comes out of it."""
    _folder, moments, ever = life
    whole = Spool(tmp_path / "whole.db")
    for seq in sorted(moments[-1].kept):
        whole.put(small_body(seq), BOOT, seq)
    whole.close()
    data = (tmp_path / "whole.db").read_bytes()
    (tmp_path / "whole.db").unlink()
    rng = random.Random(cuts)
    saved = []
    for _ in range(cuts):
        length = rng.randrange(len(data) + 1)
        (tmp_path / "spool.db").write_bytes(data[:length])
        found, moved_aside = _opened(tmp_path / "spool.db")
        assert found <= ever
        assert moved_aside == (0 < length < len(data))
        saved.append(len(found) / len(moments[-1].kept))
    assert max(saved) > 0.5
    share = f"saved {sum(saved) / cuts:.0%} of the reports on average"
    record("the spool's file is cut off anywhere", f"{cuts} cuts", f"opened {cuts}, wrong 0, {share}")


@pytest.mark.parametrize("cuts", [10, CUTS])
def test_a_torn_page_costs_at_most_what_stood_on_it(
    life: tuple[Path, list[Moment], set[int]], tmp_path: Path, cuts: int
) -> None:
    """Half of a page written, the rest as it was, zeros or noise: what is read is a report that was put, or none."""
    _folder, moments, _ever = life
    whole = Spool(tmp_path / "whole.db")
    bodies = {seq: small_body(seq) for seq in sorted(moments[-1].kept)}
    for seq, body in bodies.items():
        whole.put(body, BOOT, seq)
    whole.close()
    data = (tmp_path / "whole.db").read_bytes()
    (tmp_path / "whole.db").unlink()
    rng = random.Random(cuts)
    pages = len(data) // PAGE_BYTES
    for _ in range(cuts):
        start = rng.randrange(pages) * PAGE_BYTES + rng.randrange(0, PAGE_BYTES, 512)
        torn = bytearray(data)
        end = (start // PAGE_BYTES + 1) * PAGE_BYTES
        torn[start:end] = rng.choice([bytes(end - start), os.urandom(end - start)])
        (tmp_path / "spool.db").write_bytes(bytes(torn))
        spool = Spool(tmp_path / "spool.db")
        for report in spool.pending(10_000, 1 << 40):
            assert report.body == bodies.get(report.seq), "what comes out is what was put"
        spool.put(small_body(999_999), BOOT, 999_999)
        spool.close()
        for file in tmp_path.iterdir():
            file.unlink()
    record("a page of the spool's file is torn", f"{cuts} pages", f"opened {cuts}, wrong 0")


def test_a_schema_that_is_no_text_any_more_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = Spool(path)
    spool.put(small_body(1), BOOT, 1)
    spool.close()
    data = path.read_bytes()
    torn = data.replace(b"reports_in_orderreports", b"reports_in_o\xd3\x28\xa1\xffreports")
    assert torn != data
    path.write_bytes(torn)
    _found, moved_aside = _opened(path)
    assert moved_aside == 1
