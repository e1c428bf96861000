"""Running the file-system tools of Debian, whose exit codes do not say whether they worked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from edgeloop.errors import DeviceError, UsageError

_SYSTEM_FOLDERS = "/usr/sbin:/sbin"  # not on every user's path
_PACKAGES = {
    "debugfs": "e2fsprogs", "e2fsck": "e2fsprogs", "mcopy": "mtools", "mtype": "mtools", "mdir": "mtools",
    "mmd": "mtools",
}  # fmt: skip
_TIMEOUT_S = 1800.0


def tool(name: str) -> str:
    """Path of a tool. Raises UsageError that names the package it comes in."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_FOLDERS}")
    if found is None:
        raise UsageError(f"{name} is not installed here", hint=f"sudo apt install {_PACKAGES[name]}")
    return found


def run_tool(name: str, arguments: Sequence[str], *, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run to the end, in English. Raises UsageError where the tool is missing, DeviceError where it hangs."""
    environment = {**os.environ, "LC_ALL": "C", "DEBUGFS_PAGER": "cat", "MTOOLS_SKIP_CHECK": "1"}
    try:
        return subprocess.run(
            [tool(name), *arguments], input=given, capture_output=True, timeout=_TIMEOUT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{name} did not end within {_TIMEOUT_S:.0f} s") from None
