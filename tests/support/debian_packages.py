"""Debian packages of another architecture, fetched and unpacked without root and without touching this system's apt."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest


def cache_folder() -> Path:
    """Where tests keep what is slow to make, for the next run."""
    base = Path(os.environ.get("EDGELOOP_TEST_CACHE") or Path.home() / ".cache/edgeloop-tests")
    base.mkdir(parents=True, exist_ok=True)
    return base


def fetch(architecture: str, packages: Iterable[str], state: Path) -> list[Path]:
    """The .deb files of packages and of all that they depend on, kept in `state`. Skips and says what is missing."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("apt-get and dpkg-deb are missing: the tree is made of Debian packages")
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
            last = done.stderr.strip().splitlines()[-1:]
            pytest.skip(f"Debian's {architecture} packages are not to be had: {last}")
    return sorted((state / "cache/archives").glob("*.deb"))


def unpack(debs: Iterable[Path], root: Path) -> None:
    """Files with their modes, no maintainer scripts. Folders of the tree that are links stay links."""
    for deb in debs:
        archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
        into = ["tar", "-x", "-p", "-C", str(root), "--keep-directory-symlink", "--no-same-owner"]
        subprocess.run(into, stdin=archive.stdout, check=True)
        assert archive.wait() == 0
