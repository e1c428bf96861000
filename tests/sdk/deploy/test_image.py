"""Disk images: what is in them, and files put into them without root."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.deploy.image.ext4 import Ext4
from edgeloop.deploy.image.fat import Fat
from edgeloop.deploy.image.files import FileEntry, LinkEntry
from edgeloop.deploy.image.partitions import EXT4, FAT, read_partitions
from edgeloop.errors import DataError, DeviceError, UsageError
from support.disk_images import BOOT_MIB, make_image, raspberry_pi_os

_MIB = 1 << 20


@pytest.mark.parametrize("table", ["dos", "gpt"])
def test_partitions_of_an_image(tmp_path: Path, table: str) -> None:
    image = make_image(tmp_path / "x.img", {"/etc/hostname": "a\n"}, root_mib=16, table=table)
    boot, root = read_partitions(image)
    assert (boot.kind, boot.number, boot.start_bytes, boot.size_bytes) == (FAT, 1, _MIB, BOOT_MIB * _MIB)
    assert (root.kind, root.number, root.start_bytes) == (EXT4, 2, (BOOT_MIB + 1) * _MIB)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a disk image"),
        (b"hello", "is not a disk image"),
        (bytes(4096), "is not a disk image"),
        (b"\xfd7zXZ\x00" + bytes(600), "compressed with xz"),
        (b"PK\x03\x04" + bytes(600), "a zip file"),
        (
            bytes(446) + b"\x00" * 4 + b"\x83" + bytes(3) + b"\x01\0\0\0" + b"\xff\xff\0\0" + bytes(48) + b"\x55\xaa",
            "cut short",
        ),
        (
            bytes(446) + b"\x00" * 4 + b"\xee" + bytes(3) + b"\x01\0\0\0" + b"\xff\xff\0\0" + bytes(48) + b"\x55\xaa",
            "GPT",
        ),
    ],
)
def test_what_is_no_disk_image_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.img"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_partitions(path)


@given(st.binary(max_size=1500), st.booleans())
def test_hostile_tables_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, body: bytes, is_gpt: bool) -> None:
    path = tmp_path_factory.mktemp("hostile") / "x.img"
    entry = b"\0\0\0\0\xee\0\0\0\1\0\0\0\1\0\0\0" if is_gpt else body[:16].ljust(16, b"\1")
    path.write_bytes(bytes(446) + entry + bytes(48) + b"\x55\xaa" + (b"EFI PART" if is_gpt else b"") + body)
    with contextlib.suppress(DataError):
        read_partitions(path)


@pytest.fixture
def root(tmp_path: Path) -> Ext4:
    image = raspberry_pi_os(tmp_path / "pi.img")
    return Ext4(image, read_partitions(image)[1])


def test_files_folders_and_links_arrive_owned_by_root(root: Ext4, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 40_000)
    entries = {
        "/etc/hostname": FileEntry(b"pi-7\n"),
        "/opt/edgeloop/agent/1/bin/run": FileEntry(b"#!/bin/sh\n", 0o755),
        "/opt/edgeloop/large file": FileEntry(large),
        "/etc/systemd/system/multi-user.target.wants/a.service": LinkEntry("/etc/systemd/system/a.service"),
        "/lib/modules/x": FileEntry(b"through a link"),
    }
    before = root.free_bytes()
    root.put(entries)
    root.check()
    assert root.differing(entries) == []
    assert root.read("/etc/hostname") == b"pi-7\n"
    assert root.read("/usr/lib/modules/x") == b"through a link"
    assert root.names("/opt/edgeloop") == ["agent", "large file"]
    assert 0 < before - root.free_bytes() < 12 * _MIB
    root.put({"/etc/hostname": FileEntry(b"other\n")})
    assert root.differing(entries) == ["/etc/hostname"]


def test_links_are_followed_when_reading(root: Ext4) -> None:
    assert root.resolve("/usr/bin/python3") == "/usr/bin/python3.11"
    assert root.resolve("/lib/aarch64-linux-gnu") == "/usr/lib/aarch64-linux-gnu"
    assert root.resolve("/nowhere/x") is None
    assert root.read("/nowhere") is None and root.names("/nowhere") == []
    root.put({"/etc/a": LinkEntry("b"), "/etc/b": LinkEntry("a")})
    assert root.read("/etc/a") is None


def test_a_full_partition_is_said(tmp_path: Path) -> None:
    image = make_image(tmp_path / "x.img", {"/etc/hostname": "a\n"}, root_mib=8)
    small = Ext4(image, read_partitions(image)[1])
    with pytest.raises(DeviceError) as caught:
        small.put({"/big": FileEntry(random.Random(0).randbytes(20 * _MIB))})
    assert "full" in (caught.value.hint or "")


@pytest.mark.parametrize("path", ["etc/x", "/etc/../x", '/etc/a"b', "/etc/a\nrm /etc/hostname"])
def test_names_that_the_tools_cannot_carry_are_refused(root: Ext4, path: str) -> None:
    with pytest.raises(UsageError, match="cannot be put into an image"):
        root.put({path: FileEntry(b"x")})


def test_the_boot_partition_takes_files(tmp_path: Path) -> None:
    image = raspberry_pi_os(tmp_path / "pi.img")
    boot = Fat(image, read_partitions(image)[0])
    entries = {"/userconf.txt": FileEntry(b"pi:x\n"), "/overlays/a.txt": FileEntry(b"1")}
    boot.put(entries)
    assert boot.differing(entries) == []
    assert (boot.read("/config.txt") or b"").startswith(b"# For more")
    assert boot.read("/none.txt") is None
    with pytest.raises(DeviceError, match="writing failed"):
        boot.put({"/big": FileEntry(bytes((BOOT_MIB + 5) * _MIB))})
