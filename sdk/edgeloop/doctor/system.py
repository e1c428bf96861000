"""What the checks know of the machine, as one value: tests hand in another root, machine or set of packages."""

from __future__ import annotations

import importlib.util
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

REAL_ROOT = Path("/")


@dataclass(frozen=True)
class System:
    """`root` holds /proc, /sys, /dev and the rest. `versions`: installed distributions, None: ask Python."""

    root: Path = REAL_ROOT
    machine: str = field(default_factory=platform.machine)
    pointer_bits: int = field(default_factory=lambda: struct.calcsize("P") * 8)
    python: tuple[int, int, int] = field(default_factory=lambda: sys.version_info[:3])
    libc: tuple[str, str] = field(default_factory=platform.libc_ver)
    versions: Mapping[str, str] | None = None

    @property
    def is_this_one(self) -> bool:
        """True on the real root: only there are libraries loaded and permissions asked for."""
        return self.root == REAL_ROOT

    def version(self, distribution: str) -> str | None:
        """The installed version, or None."""
        if self.versions is not None:
            return self.versions.get(distribution)
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return None

    def has_module(self, name: str, distribution: str) -> bool:
        """Some modules come without their distribution's name: Debian's python3-opencv is plain `cv2`."""
        if self.versions is not None:
            return distribution in self.versions
        return importlib.util.find_spec(name) is not None

    def text(self, path: str) -> str | None:
        """A file under the root, stripped, or None."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
        except OSError:
            return None

    def may_read_and_write(self, path: Path) -> bool:
        return os.access(path, os.R_OK | os.W_OK)


def run_python(code: str, *, timeout_s: float = 30.0) -> tuple[int, str, str]:
    """(exit code, stdout, last line of stderr) of a child: what may crash on import is imported there.

    Exit code: negative for a signal, 124 when it did not end in time.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {timeout_s:g} s"
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return done.returncode, done.stdout.strip(), lines[-1] if lines else ""
