"""Which build of libedgetpu is installed, read from the file without loading it: a wrong one crashes its process.

Every build carries `COMPILER=<version>,DATE=...,TIME=...`, from which its own `edgetpu_version()` makes its answer
(port/default/builddata.cc of google-coral/libedgetpu). Google's last packages (16.0, July 2021, for TensorFlow 2.5)
were compiled by GCC 5.4 or 6.3, which cannot compile TensorFlow since 2.10 (C++17): who compiled it tells which it is.
That these crash with runtimes since 2.12: google-coral/edgetpu issue 812. stdlib only.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from pathlib import Path

KNOWN_GOOD = "https://github.com/feranick/libedgetpu/releases (16.0TF2.17.1-1 or newer)"
"""Where users of newer runtimes get theirs; reported to work by them, not verified here."""

_LABEL = re.compile(rb"COMPILER=([^,\0]{1,80}),DATE=([^,\0]{1,40}),TIME=([^,\0]{1,40})(?:,CL_NUMBER=\d+)?")
_PACKAGE = re.compile(r"\d+\.\d+(-\d+)?$")  # Google's: 16.0; rebuilt ones say 16.0TF2.17.1-1
_FIRST_COMPILER_OF_TODAY = 8
_LAST_RUNTIME_FOR_GOOGLES = (2, 11)
_PLACES = ("usr/lib/*/libedgetpu.so.1*", "usr/lib/libedgetpu.so.1*", "usr/local/lib/libedgetpu.so.1*")


@dataclass(frozen=True)
class EdgeTpuBuild:
    """compiler: as it names itself, "6.3.0 20170516"; date: of the build, "redacted" where it was made by Bazel."""

    compiler: str
    date: str

    @property
    def is_googles(self) -> bool:
        """Whether a compiler made it that is too old for what TensorFlow is today."""
        major = self.compiler.partition(".")[0]
        return major.isdigit() and int(major) < _FIRST_COMPILER_OF_TODAY

    def __str__(self) -> str:
        made = "" if self.date == "redacted" else f" on {self.date}"
        return f"libedgetpu, compiled by {self.compiler}{made}"


def find_edgetpu_library(root: Path = Path("/")) -> Path | None:
    """Where the system keeps it, None where it is not installed."""
    return next((found for place in _PLACES for found in sorted(root.glob(place))), None)


def read_build(library: Path) -> EdgeTpuBuild | None:
    """None: unreadable, or not a libedgetpu that says who built it."""
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = _LABEL.search(content)
            if found is None:
                return None
            compiler, date = (part.decode("ascii", "replace") for part in found.group(1, 2))
    except (OSError, ValueError):  # ValueError: an empty file cannot be mapped
        return None
    return EdgeTpuBuild(compiler, date)


def why_it_crashes(build: EdgeTpuBuild | None, package_version: str, runtime: str) -> str:
    """One line where this build is known to crash with this runtime, else "".

    package_version: Debian's of the package that brought it, "" where none did; it decides where there is one.
    runtime: "ai-edge-litert 2.3.0", as `str(RuntimeInfo)` is.
    """
    is_googles = bool(_PACKAGE.match(package_version)) if package_version else build is not None and build.is_googles
    if not is_googles or _is_old(runtime):
        return ""
    which = f"version {package_version}" if package_version else f"compiled by {build.compiler if build else '?'}"
    return f"libedgetpu ({which}) is Google's own build for TensorFlow 2.5, which crashes with {runtime}"


def crash_hint(delegate: str, runtime: str = "ai-edge-litert", root: Path = Path("/")) -> str:
    """For a process that died on this delegate: what is known of that and what to do, "" where nothing is."""
    library = find_edgetpu_library(root) if delegate.partition(":")[0].partition("?")[0] == "edgetpu" else None
    why = "" if library is None else why_it_crashes(read_build(library), "", runtime)
    return f"{why}; get {KNOWN_GOOD}" if why else ""


def _is_old(runtime: str) -> bool:
    package, _, version = runtime.partition(" ")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return package != "ai-edge-litert" and len(numbers) == 2 and numbers <= _LAST_RUNTIME_FOR_GOOGLES
