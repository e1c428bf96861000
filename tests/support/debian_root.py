"""An unprivileged Debian tree of another architecture and qemu-user: its real Python without a board.

Traps this works around: LiteRT 2.3 segfaults on an x86 /proc/cpuinfo (an Arm one lies in the tree, `-L` redirects to
it); qemu's default CPU gives wrong results (one is named); a child process of the emulated Python has to be started
through qemu again.
"""

from __future__ import annotations

import fcntl
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.debian_packages import cache_folder, fetch, unpack

_PYTHON = ("python3.11-minimal", "libpython3.11-stdlib", "libc6", "libstdc++6")


@dataclass(frozen=True)
class Machine:
    """packages: beside Python. libraries: folders in the tree that its linker does not know."""

    debian: str
    qemu: str
    cpu: str
    features: str
    architecture: int
    packages: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    def cpuinfo(self) -> str:
        lines = {
            "Features": self.features,
            "CPU implementer": "0x41",
            "CPU architecture": str(self.architecture),
            "CPU variant": "0x0",
            "CPU part": "0xd08",
            "CPU revision": "3",
        }
        text = "".join(f"{name}\t: {value}\n" for name, value in lines.items())
        return "".join(f"processor\t: {n}\nBogoMIPS\t: 108.00\n{text}\n" for n in range(4))


MACHINES = {
    "aarch64": Machine("arm64", "qemu-aarch64-static", "cortex-a72", "fp asimd evtstrm crc32 cpuid", 8),
    "armv7": Machine(
        "armhf", "qemu-arm-static", "cortex-a15",
        "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm", 7,
        ("python3-numpy", "libatomic1"),
        ("usr/lib/arm-linux-gnueabihf/blas", "usr/lib/arm-linux-gnueabihf/lapack"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class DebianRoot:
    """A tree with Debian's Python 3.11 of a machine."""

    machine: Machine
    path: Path
    qemu: str
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> list[str]:
        """Command prefix that runs the tree's Python."""
        variables = [word for name, value in self.variables.items() for word in ("-E", f"{name}={value}")]
        where = ["-L", str(self.path), str(self.path / "usr/bin/python3.11")]
        return [self.qemu, "-cpu", self.machine.cpu, *variables, *where]

    @property
    def environment(self) -> dict[str, str]:
        """Of a process there; EDGELOOP_PYTHON tells it how to start its own children."""
        return {"EDGELOOP_PYTHON": " ".join(self.python), "PATH": "/usr/bin:/bin", "HOME": str(self.path)}


def debian_root(machine: str = "aarch64") -> DebianRoot:
    """The tree of a key of MACHINES, built once into the user's cache (aarch64: about 15 s and 75 MB); skips and says
    what is missing.
    """
    chosen = MACHINES[machine]
    qemu = shutil.which(chosen.qemu)
    if qemu is None:
        pytest.skip(f"{chosen.qemu} is missing: apt-get install qemu-user-static")
    base = cache_folder()
    root = base / f"{chosen.debian}-root"
    with (base / f"{chosen.debian}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "complete").is_file():
            shutil.rmtree(root, ignore_errors=True)
            _build(chosen, base / f"{chosen.debian}-apt", root)
            (root / "complete").touch()
    folders = ":".join(str(root / folder) for folder in chosen.libraries)
    return DebianRoot(chosen, root, qemu, {"LD_LIBRARY_PATH": folders} if folders else {})


def _build(machine: Machine, state: Path, root: Path) -> None:
    debs = fetch(machine.debian, (*_PYTHON, *machine.packages), state)
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    unpack(debs, root)
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(machine.cpuinfo())
