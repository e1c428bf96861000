"""An operating system's image: its boot and root file systems, and what has to be known of it to install an agent."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from edgeloop.deploy.image.ext4 import Ext4
from edgeloop.deploy.image.fat import Fat
from edgeloop.deploy.image.partitions import EXT4, FAT, read_partitions
from edgeloop.errors import DataError

_MACHINES = {0xB7: "aarch64", 0x28: "armv7l", 0x3E: "x86_64"}  # ELF e_machine
_GLIBC_BANNER = re.compile(rb"GNU C Library [^\n]*?version (\d+)\.(\d+)")
_GLIBC_OF_DEBIAN = {11: (2, 31), 12: (2, 36), 13: (2, 41)}
_PYTHON = re.compile(r"python(\d+)\.(\d+)")
_HINT = "a Raspberry Pi OS (64-bit) or Debian image is what is wanted"


@dataclass(frozen=True)
class OsImage:
    """Both file systems of an image."""

    path: Path
    boot: Fat
    root: Ext4


@dataclass(frozen=True)
class OsFacts:
    """name: as the system calls itself. debian: its major version. python, glibc: (major, minor)."""

    name: str
    debian: int
    machine: str
    python: tuple[int, int]
    glibc: tuple[int, int]
    hostname: str

    @property
    def has_cloud_init(self) -> bool:
        """Raspberry Pi OS sets itself up with cloud-init from Trixie on."""
        return self.debian >= 13


def open_image(path: Path) -> OsImage:
    """The first FAT and the first ext4 partition. Raises DataError."""
    found = read_partitions(path)
    boot = next((p for p in found if p.kind == FAT), None)
    root = next((p for p in found if p.kind == EXT4), None)
    if boot is None or root is None:
        missing = "FAT boot" if boot is None else "ext4 root"
        raise DataError(f"{path} has no {missing} partition among its {len(found)}", hint=_HINT)
    return OsImage(path, Fat(path, boot), Ext4(path, root))


def read_facts(image: OsImage) -> OsFacts:
    """What the root file system says of itself. Raises DataError for a system that no agent can be installed in."""
    root = image.root
    release = _assignments((root.read("/etc/os-release") or b"").decode(errors="replace"))
    version = release.get("VERSION_ID", "").partition(".")[0]
    if not version.isdigit():
        raise DataError(f"{image.path}: no Linux that edgeloop knows: /etc/os-release names no version", hint=_HINT)
    if "systemd" not in root.names("/usr/lib/systemd"):
        raise DataError(f"{image.path}: it does not start with systemd", hint=_HINT)
    python = root.resolve("/usr/bin/python3")
    number = _PYTHON.search(python or "")
    if python is None or number is None:
        raise DataError(f"{image.path}: Python is missing in it", hint="the Lite image of Raspberry Pi OS has it")
    head = (root.read(python) or b"")[:20]
    machine = _MACHINES.get(struct.unpack_from("<H", head, 18)[0] if len(head) == 20 and head[:4] == b"\x7fELF" else -1)
    if machine is None:
        raise DataError(f"{image.path}: {python} is of no architecture that edgeloop knows", hint=_HINT)
    debian = int(version)
    hostname = (root.read("/etc/hostname") or b"").decode(errors="replace").strip()
    name = release.get("PRETTY_NAME", f"version {version}")
    return OsFacts(name, debian, machine, (int(number[1]), int(number[2])), _glibc(root, machine, debian), hostname)


def _glibc(root: Ext4, machine: str, debian: int) -> tuple[int, int]:
    folder = "arm-linux-gnueabihf" if machine == "armv7l" else f"{machine}-linux-gnu"
    banner = _GLIBC_BANNER.search(root.read(f"/usr/lib/{folder}/libc.so.6") or b"")
    if banner is not None:
        return int(banner[1]), int(banner[2])
    return _GLIBC_OF_DEBIAN.get(debian, _GLIBC_OF_DEBIAN[max(_GLIBC_OF_DEBIAN) if debian > 13 else 11])


def _assignments(text: str) -> dict[str, str]:
    """NAME="value" lines, as os-release(5) has them."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}
