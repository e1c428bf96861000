"""Which block devices are written over: a card, and nothing that could be somebody's disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeloop.deploy.block_device import BlockDevice, facts_of, judge_target, look_at
from edgeloop.errors import RefusedError, UsageError

CARD = BlockDevice(Path("/dev/sdb"), 32 * 10**9, False, (), False, True)


def test_a_card_that_nobody_uses_is_written() -> None:
    judge_target(CARD, 10**9, named_twice=False)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (replace(CARD, is_partition=True), "is a partition"),
        (replace(CARD, mounted=("/media/pi",)), "is mounted at /media/pi"),
        (replace(CARD, mounted=("/",), is_system=True), "own system"),
        (replace(CARD, size_bytes=0), "there is no card in it"),
        (replace(CARD, size_bytes=10**9), "a larger card is needed"),
    ],
)
def test_what_is_never_written(device: BlockDevice, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        judge_target(device, 2 * 10**9, named_twice=True)


@pytest.mark.parametrize("device", [replace(CARD, size_bytes=10**12), replace(CARD, is_removable=False)])
def test_what_looks_like_a_disk_is_named_twice(device: BlockDevice) -> None:
    with pytest.raises(RefusedError, match="which no card is"):
        judge_target(device, 10**9, named_twice=False)
    judge_target(device, 10**9, named_twice=True)


def sysfs(folder: Path, mounts: str = "") -> tuple[Path, Path]:
    for name, size, removable in (("sdb", "62500000", "1"), ("sdb1", "1000", ""), ("sda", "2000000000", "0")):
        place = folder / "sys/class/block" / name
        place.mkdir(parents=True)
        (place / "size").write_text(f"{size}\n")
        if removable:
            (place / "removable").write_text(f"{removable}\n")
        else:
            (place / "partition").write_text("1\n")
    inner = folder / "sys/class/block/sdb/sdb1"
    inner.mkdir()
    (inner / "partition").write_text("1\n")
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/mounts").write_text(mounts)
    (folder / "proc/swaps").write_text("Filename Type\n/dev/sda partition 1 0 -2\n")
    return folder / "sys", folder / "proc"


def test_facts_come_from_sysfs(tmp_path: Path) -> None:
    system, proc = sysfs(tmp_path, "/dev/sdb1 /media/a vfat rw 0 0\n/dev/sda1x / ext4 rw 0 0\n")
    card = facts_of(Path("/dev/sdb"), sysfs=system, proc=proc)
    assert card == BlockDevice(Path("/dev/sdb"), 32_000_000_000, False, ("/media/a",), False, True)
    assert facts_of(Path("/dev/sdb1"), sysfs=system, proc=proc).is_partition
    assert facts_of(Path("/dev/sda"), sysfs=system, proc=proc).mounted == ("swap",)
    assert facts_of(Path("/dev/none"), sysfs=system, proc=proc).size_bytes == 0


def test_files_are_no_block_devices(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(UsageError, match="is no block device"):
        look_at(tmp_path / "x")
    with pytest.raises(UsageError, match="No such file"):
        look_at(tmp_path / "y")
