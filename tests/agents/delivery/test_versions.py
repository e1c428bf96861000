"""Versions in a folder: links that are switched, and a power cut at every operation of the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from edgeloop_agent.delivery.disk import Disk
from edgeloop_agent.delivery.update import (
    TRIAL_STARTS,
    Begin,
    Device,
    IsThere,
    Keep,
    Offer,
    Refuse,
    Standing,
    Trial,
    Version,
    at_start,
    judge_offer,
)
from edgeloop_agent.delivery.versions import VersionFolder
from support.power import CuttableDisk, PowerCutError

ONE, TWO, THREE, FOUR, FIVE = (Version(n, f"{n:016x}") for n in range(1, 6))


def content(version: Version) -> bytes:
    return version.digest.encode() * 100


def install(folder: VersionFolder, version: Version) -> None:
    folder.take_in(version, [content(version)])
    folder.begin_trial(version)
    folder.count_start()
    folder.commit()


def recover(folder: VersionFolder) -> Standing:
    """As the agent does at its start."""
    folder.recover()
    return folder.standing()


def whole(folder: VersionFolder) -> Version:
    """What runs; it is all there."""
    running = folder.standing().running
    assert running is not None
    assert folder.current.read_bytes() == content(running)
    return running


def test_what_is_committed_runs_and_is_what_to_fall_back_to(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path)
    install(folder, ONE)
    assert folder.standing() == Standing(ONE, ONE, None, 1, {}, [ONE], {ONE.digest})
    folder.take_in(TWO, [content(TWO)])
    assert whole(folder) == ONE
    folder.begin_trial(TWO)
    assert folder.standing() == Standing(TWO, ONE, Trial(TWO), 1, {}, [ONE, TWO], {ONE.digest})
    folder.roll_back("too slow")
    assert folder.standing() == Standing(ONE, ONE, None, 1, {TWO.digest: "too slow"}, [ONE, TWO], {ONE.digest})


def test_the_last_three_stay(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path)
    for version in (ONE, TWO, THREE, FOUR, FIVE):
        install(folder, version)
    assert folder.standing().kept == [THREE, FOUR, FIVE]


def test_the_first_version_has_nothing_to_fall_back_to(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path)
    folder.take_in(ONE, [content(ONE)])
    folder.begin_trial(ONE)
    folder.roll_back("it crashes")
    assert folder.standing() == Standing(None, None, None, 0, {ONE.digest: "it crashes"}, [ONE], set())


def test_a_version_that_never_runs_long_enough_is_rolled_back_at_a_later_start(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path)
    install(folder, ONE)
    folder.take_in(TWO, [content(TWO)])
    folder.begin_trial(TWO)
    assert [recover(folder).running for _ in range(TRIAL_STARTS + 1)] == [TWO] * TRIAL_STARTS + [ONE]
    assert "3 times" in folder.standing().failed[TWO.digest]


def test_a_trial_is_ended_by_will_and_held_against_nobody(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path)
    folder.take_in(ONE, [content(ONE)])
    folder.begin_trial(ONE)
    assert folder.end_trial()
    assert folder.standing() == Standing(None, None, None, 0, {}, [ONE], set())
    install(folder, TWO)
    assert not folder.end_trial() and whole(folder) == TWO
    folder.take_in(THREE, [content(THREE)])
    folder.begin_trial(THREE)
    assert folder.end_trial() and whole(folder) == TWO and folder.standing().failed == {}


def test_numbers_may_be_dates(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path)
    install(folder, Version(202611211830, "f" * 16))
    assert folder.standing().running == Version(202611211830, "f" * 16)


def test_what_went_meanwhile_is_not_switched_to(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path)
    install(folder, TWO)
    with pytest.raises(FileNotFoundError):
        folder.begin_trial(ONE)
    assert whole(folder) == TWO and folder.standing().trial is None


def test_a_commit_meanwhile_leaves_what_is_being_taken_in(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path)
    install(folder, ONE)

    def pieces() -> Iterator[bytes]:
        yield b"half"
        VersionFolder(tmp_path).commit()
        yield b"whole"

    assert folder.take_in(TWO, pieces()).read_bytes() == b"halfwhole"


class Watched(Disk):
    """Looks at the folder before every change that another process makes to it."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def create(self, path: Path, pieces: Iterable[bytes]) -> None:
        self._look()
        super().create(path, pieces)

    def rename(self, source: Path, target: Path) -> None:
        self._look()
        super().rename(source, target)

    def sync(self, folder: Path) -> None:
        self._look()
        super().sync(folder)


def test_what_fails_is_never_admitted_amid_its_rollback(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path)
    install(folder, ONE)
    folder.take_in(TWO, [content(TWO)])
    folder.begin_trial(TWO)
    seen: list[object] = []
    board = Device("rpi4", frozenset(), 1 << 30)

    def look() -> None:
        seen.append(judge_offer(Offer(TWO, "rpi4", 1000), VersionFolder(tmp_path).standing(), board))

    VersionFolder(tmp_path, disk=Watched(look)).roll_back("it crashes")
    look()
    assert len(seen) > 6 and all(isinstance(verdict, IsThere | Refuse) for verdict in seen)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"trial": 3, "highest": "x", "failed": []}', b"\xff\xfe"])
def test_a_damaged_record_costs_what_it_said_and_nothing_else(tmp_path: Path, damage: bytes) -> None:
    folder = VersionFolder(tmp_path)
    install(folder, TWO)
    (tmp_path / "record.json").write_bytes(damage)
    assert recover(folder) == Standing(TWO, TWO, None, 2, {}, [TWO], {TWO.digest})


def update(folder: VersionFolder) -> None:
    install(folder, TWO)


def bad_update(folder: VersionFolder) -> None:
    folder.take_in(TWO, [content(TWO)])
    folder.begin_trial(TWO)
    folder.count_start()
    folder.roll_back("too slow")


def by_hand(folder: VersionFolder) -> None:
    folder.go_back_to(ONE)


def full_house(folder: VersionFolder) -> None:
    install(folder, FIVE)


AFTER = {update: TWO, bad_update: TWO, full_house: FIVE, by_hand: ONE}


@pytest.mark.parametrize(
    ("change", "before"),
    [(update, [ONE]), (bad_update, [ONE]), (full_house, [ONE, TWO, FOUR]), (by_hand, [ONE, THREE])],
)
def test_whenever_the_power_fails_a_whole_version_runs(
    tmp_path: Path, change: Callable[[VersionFolder], None], before: list[Version]
) -> None:
    def prepared(name: str) -> Path:
        path = tmp_path / name
        for version in before:
            install(VersionFolder(path), version)
        return path

    counting = CuttableDisk()
    change(VersionFolder(prepared("all"), disk=counting))
    tried = 0
    for cut_at in range(counting.count):
        losses = 0
        while True:
            path = prepared(f"{cut_at}-{losses}")
            disk = CuttableDisk(cut_at)
            with pytest.raises(PowerCutError):
                change(VersionFolder(path, disk=disk))
            unsynced = disk.unsynced
            disk.lose(losses)
            folder = VersionFolder(path)
            standing = recover(folder)
            assert whole(folder) in (before[-1], AFTER[change])
            assert isinstance(at_start(standing), Keep | Begin)
            assert standing.committed is not None
            assert set(standing.failed) <= ({TWO.digest} if change is bad_update else set())
            change(folder)  # and the update can be done again
            whole(folder)
            tried += 1
            losses += 1
            if losses > unsynced:
                break
    assert tried > counting.count
