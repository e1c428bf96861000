"""What all Raspberry Pis share: their firmware says when it holds the board back."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edgeloop import probes

_THROTTLED_FILES = ("*firmware/get_throttled", "*/*firmware/get_throttled")  # the place differs between kernels
_TIMEOUT_S = 2.0


def firmware_flags(root: Path) -> int | None:
    """The firmware's throttling bits: from sysfs (Raspberry Pi's kernel), from `vcgencmd get_throttled`, else the one
    bit that mainline kernels have (the sensor `rpi_volt`). None off a Raspberry Pi.

    `vcgencmd` is asked only on the real root; it needs /dev/vcio, so membership in the group video.
    """
    for pattern in _THROTTLED_FILES:
        for path in probes.known_paths(root, f"sys/devices/platform/{pattern}"):
            return parse_throttled(probes.read_text(path) or "")
    if root == probes.ROOT and (flags := _ask_vcgencmd()) is not None:
        return flags
    for sensor in probes.known_paths(root, "sys/class/hwmon/hwmon*"):
        if probes.read_text(sensor / "name") == "rpi_volt":
            alarm = probes.read_integer(sensor / "in0_lcrit_alarm")
            return None if alarm is None else int(bool(alarm))
    return None


def parse_throttled(text: str) -> int | None:
    """`50005` as sysfs has it, `throttled=0x50005` as vcgencmd says it."""
    try:
        return int(text.rpartition("=")[2].strip(), 16)
    except ValueError:
        return None


def _ask_vcgencmd() -> int | None:
    if shutil.which("vcgencmd") is None:
        return None
    try:
        done = subprocess.run(
            ["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_throttled(done.stdout) if done.returncode == 0 else None
