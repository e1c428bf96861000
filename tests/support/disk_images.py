"""Disk images as a Raspberry Pi's card has them, made without root: a FAT boot partition and an ext4 root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgeloop.deploy.image.tools import tool
from edgeloop.errors import UsageError

_MIB = 1 << 20
BOOT_MIB = 40
CMDLINE = "console=serial0,115200 console=tty1 root=PARTUUID=1234-02 rootfstype=ext4 fsck.repair=yes rootwait\n"
CONFIG = "# For more options see /boot/firmware/overlays/README\ndtparam=audio=on\n[all]\n"
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux {version}"\nNAME="Debian GNU/Linux"\nVERSION_ID="{version}"\nID=debian\n'


def _need(*names: str) -> None:
    for name in names:
        if shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
            pytest.skip(f"needs {name}: apt-get install e2fsprogs mtools dosfstools fdisk")
    try:
        for name in ("debugfs", "mcopy"):
            tool(name)
    except UsageError as error:
        pytest.skip(f"{error.message}: {error.hint}")


def make_image(
    path: Path,
    files: Mapping[str, str | bytes],
    *,
    root_mib: int = 64,
    table: str = "dos",
    boot: Mapping[str, str] | None = None,
) -> Path:
    """files: path in the root -> content; a text that begins with "-> " is a link."""
    _need("sfdisk", "mkfs.vfat", "mke2fs", "debugfs", "e2fsck", "mcopy")
    tree = path.with_suffix(".root")
    for name, content in files.items():
        target = tree / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("-> "):
            target.symlink_to(content[3:])
        else:
            target.write_bytes(content.encode() if isinstance(content, str) else content)
    tree.mkdir(exist_ok=True)
    root_at = 1 + BOOT_MIB
    with path.open("wb") as file:
        file.truncate((root_at + root_mib + 1) * _MIB)
    linux, boot_type = ("L", "U") if table == "gpt" else ("83", "c")
    rows = [
        f"label: {table}",
        f"start=1MiB,size={BOOT_MIB}MiB,type={boot_type}",
        f"start={root_at}MiB,size={root_mib}MiB,type={linux}",
    ]
    _run(["sfdisk", "-q", str(path)], given="\n".join(rows) + "\n")
    fat = path.with_suffix(".fat")
    with fat.open("wb") as file:
        file.truncate(BOOT_MIB * _MIB)
    _run(["mkfs.vfat", "-n", "bootfs", str(fat)])
    for name, text in (boot or {"cmdline.txt": CMDLINE, "config.txt": CONFIG}).items():
        _run(["mcopy", "-i", str(fat), "-", f"::{name}"], given=text)
    with path.open("r+b") as file:
        file.seek(_MIB)
        file.write(fat.read_bytes())
    fat.unlink()
    offset = root_at * _MIB
    options = ["-q", "-t", "ext4", "-L", "rootfs", "-d", str(tree), "-E", f"offset={offset},root_owner=0:0"]
    _run(["mke2fs", *options, str(path), f"{root_mib}M"])
    shutil.rmtree(tree)
    return path


def raspberry_pi_os(path: Path, *, version: str = "12", python: str = "3.11", **options: object) -> Path:
    """What `flash` looks at of a Raspberry Pi OS, and nothing else."""
    files = {
        "/etc/os-release": OS_RELEASE.format(version=version),
        "/etc/hostname": "raspberrypi\n",
        "/etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n",
        "/usr/bin/python3": f"-> python{python}",
        f"/usr/bin/python{python}": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(44),
        "/usr/lib/systemd/systemd": "x",
        "/usr/lib/aarch64-linux-gnu/libc.so.6": "x",
        "/lib": "-> usr/lib",
        "/etc/systemd/system/multi-user.target.wants/ssh.service": "-> /lib/systemd/system/ssh.service",
    }
    return make_image(path, files, **options)  # type: ignore[arg-type]


def _run(command: list[str], given: str = "") -> None:
    name = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert name is not None
    subprocess.run([name, *command[1:]], input=given.encode(), check=True, capture_output=True)
