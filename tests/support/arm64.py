"""An unprivileged Debian arm64 tree and qemu-user: real aarch64 Python without a board.

Traps this works around: LiteRT 2.3 segfaults on an x86 /proc/cpuinfo (an Arm one lies in the tree, `-L` redirects to
it); qemu's default CPU gives wrong results (cortex-a72 is named); a child process of the emulated Python has to be
started through qemu again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_PACKAGES = ["python3.11-minimal", "libpython3.11-stdlib", "libc6", "libstdc++6"]
_CPU = "cortex-a72"
_CPUINFO = """processor\t: {n}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


@dataclass(frozen=True)
class Arm64Root:
    """A tree with Debian's arm64 Python 3.11."""

    path: Path
    qemu: str

    @property
    def python(self) -> list[str]:
        """Command prefix that runs the tree's Python as an emulated Cortex-A72."""
        return [self.qemu, "-cpu", _CPU, "-L", str(self.path), str(self.path / "usr/bin/python3.11")]

    @property
    def environment(self) -> dict[str, str]:
        """Of a process there; EDGELOOP_PYTHON tells it how to start its own children."""
        return {"EDGELOOP_PYTHON": " ".join(self.python), "PATH": "/usr/bin:/bin", "HOME": str(self.path)}


def arm64_root() -> Arm64Root:
    """The tree, built once into the user's cache (about 15 s and 75 MB); skips and says what is missing."""
    qemu = shutil.which("qemu-aarch64-static")
    if qemu is None:
        pytest.skip("qemu-aarch64-static is missing: apt-get install qemu-user-static")
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("apt-get and dpkg-deb are missing: the arm64 tree is made of Debian packages")
    base = Path(os.environ.get("EDGELOOP_TEST_CACHE") or Path.home() / ".cache/edgeloop-tests")
    base.mkdir(parents=True, exist_ok=True)
    root = base / "arm64-root"
    with (base / "arm64.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "complete").is_file():
            shutil.rmtree(root, ignore_errors=True)
            _build(base, root)
            (root / "complete").touch()
    return Arm64Root(root, qemu)


def _build(base: Path, root: Path) -> None:
    state = base / "arm64-apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
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
    for command in (["update"], ["install", "--download-only", "-y", *_PACKAGES]):
        done = subprocess.run(["apt-get", *arguments, *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"Debian's arm64 packages are not to be had: {done.stderr.strip().splitlines()[-1:]}")
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    for deb in sorted((state / "cache/archives").glob("*.deb")):
        archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
        unpack = ["tar", "-x", "-C", str(root), "--keep-directory-symlink", "--no-same-owner"]
        subprocess.run(unpack, stdin=archive.stdout, check=True)
        assert archive.wait() == 0
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text("".join(_CPUINFO.format(n=n) for n in range(4)))
