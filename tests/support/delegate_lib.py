"""Builds the test delegate of `xdelegate.c` with the system's C compiler, once per session."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("xdelegate.c")
CROSS_COMPILERS = {"aarch64": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")}
"""machine -> (compiler, Debian package)"""
ADD, RESHAPE = 0, 22  # TFLite builtin codes that it computes


def build_delegate(directory: Path | None = None, machine: str = "") -> Path:
    """Path of the shared library, in `directory` or in a folder of its own. Skips the test where there is no compiler.

    machine: a key of `CROSS_COMPILERS` where it is not for this one.
    """
    built = _build(machine)
    if directory is None:
        return built
    copy = directory / built.name
    shutil.copyfile(built, copy)
    return copy


@lru_cache
def _build(machine: str) -> Path:
    name, package = CROSS_COMPILERS[machine] if machine else ("gcc", "gcc")
    compiler = shutil.which(name)
    if compiler is None:
        pytest.skip(f"needs a C compiler (apt-get install {package}) to build the test delegate")
    tag = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"edgeloop-test-delegate-{os.getuid()}-{tag}{machine}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / "libxdelegate.so"
    if not library.exists():  # parallel workers may both build: the rename is atomic and the content the same
        partial = folder / f"{os.getpid()}.so"
        command = [compiler, "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=default"]
        done = subprocess.run([*command, "-o", str(partial), str(SOURCE), "-lm"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        partial.replace(library)
    return library


def external(library: Path, **options: object) -> str:
    """The delegate's name on a command line: external(lib, claim_op=22) -> "external:/.../lib.so?claim_op=22"."""
    query = "&".join(f"{key}={value}" for key, value in options.items())
    return f"external:{library}" + (f"?{query}" if query else "")
