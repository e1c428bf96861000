"""A tree of Debian packages of another architecture, unpacked without root: fetched by apt in a state of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeloop.errors import DeviceError

PYTHON = ("python3.11-minimal", "libpython3.11-stdlib", "libc6", "libstdc++6")
"""What runs an agent: 75 MB with all that they need."""


def debian_tree(folder: Path, architecture: str, packages: Sequence[str]) -> Path:
    """`folder`/root with these packages and what they need, fetched where it is not there yet; some 15 s.

    Raises DeviceError where apt or the packages are not to be had.
    """
    root = folder / "root"
    if (root / "complete").is_file():
        return root
    with only_one(folder):
        if not (root / "complete").is_file():
            shutil.rmtree(root, ignore_errors=True)
            debs = fetch(folder / "apt", architecture, packages)
            (root / "usr/lib").mkdir(parents=True)
            (root / "lib").symlink_to("usr/lib")
            unpack(debs, root)
            (root / "complete").touch()
    return root


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Whoever comes second waits. Raises DeviceError where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise DeviceError(f"{folder}: {error.strerror}", hint="edgeloop keeps the emulated system there") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(state: Path, architecture: str, packages: Iterable[str]) -> list[Path]:
    """The .deb files of packages and of all that they depend on, kept in `state`. Raises DeviceError."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise DeviceError(
                f"{tool} is missing: the emulated system is made of Debian packages",
                hint="use Debian, Ubuntu or Raspberry Pi OS on the host",
            )
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures::": architecture,
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Debug::NoLocking": "1",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root" if os.getuid() == 0 else os.environ.get("USER", ""),
        "pkgCacheGen::Essential": "none",
    }
    arguments = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    # An index that a mirror does not have (security, on some) is no error of `update`; a missing package is one later.
    for command in (["update"], ["autoclean"], ["install", "--download-only", "-y", *packages]):
        done = subprocess.run(["apt-get", *arguments, *command], capture_output=True, text=True, check=False)
        if done.returncode != 0 and command[0] == "install":
            last = (done.stderr.strip().splitlines() or ["apt-get failed"])[-1]
            raise DeviceError(
                f"Debian's {architecture} packages are not to be had: {last}",
                hint="the host needs a network connection the first time, and Debian 12's archive in its apt sources",
            )
    return sorted((state / "cache/archives").glob("*.deb"))


def unpack(debs: Iterable[Path], root: Path) -> None:
    """Files with their modes, no maintainer scripts. Links to folders in the tree stay links. Raises DeviceError."""
    into = ["tar", "-x", "-p", "-C", str(root), "--keep-directory-symlink", "--no-same-owner"]
    for deb in debs:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as archive:
            done = subprocess.run(into, stdin=archive.stdout, capture_output=True, text=True, check=False)
        if done.returncode != 0 or archive.returncode != 0:
            raise DeviceError(f"{deb.name} cannot be unpacked: {done.stderr.strip()[:200]}")
