"""What every kernel tells: temperature, clock, load, memory. stdlib only; None: it is unknown.

`root` is where /proc and /sys are looked for, so that a copied or made-up tree can be read as well. What differs from
board to board (throttling, under-voltage) is in `edgeloop.boards`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from glob import glob
from pathlib import Path

ROOT = Path("/")

# Source: Raspberry Pi documentation, "vcgencmd get_throttled": bits 0-3 now, the same 16 higher: since boot.
UNDER_VOLTAGE = "under-voltage"
THROTTLE_BITS = {0: UNDER_VOLTAGE, 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_NOW_MASK = 0xF
_SINCE_BOOT_SHIFT = 16
_CPU_ZONES = ("cpu-thermal", "cpu_thermal", "x86_pkg_temp", "soc-thermal", "soc_thermal", "cpu")


@dataclass(frozen=True)
class Gauges:
    """All of it at one moment. Temperature in °C; the throttle flags are the firmware's bits."""

    temperature_c: float | None
    throttle_flags: int | None
    frequency_mhz: float | None
    governor: str | None
    load_1m: float | None
    memory_available_bytes: int | None
    rss_bytes: int | None
    accelerator_c: float | None = None

    def numbers(self) -> dict[str, float]:
        """What is known, as the numeric gauges of a telemetry report."""
        known = {
            "temperature_c": self.temperature_c,
            "throttle_flags": self.throttle_flags,
            "frequency_mhz": self.frequency_mhz,
            "load_1m": self.load_1m,
            "memory_available_bytes": self.memory_available_bytes,
            "rss_bytes": self.rss_bytes,
            "accelerator_c": self.accelerator_c,
        }
        return {name: float(value) for name, value in known.items() if value is not None}


def read_gauges(
    *,
    pids: Sequence[int] = (),
    root: Path = ROOT,
    throttle_flags: int | None = None,
    accelerator_c: float | None = None,
) -> Gauges:
    """Everything; `rss_bytes` is the sum over `pids` (default: this process). The last two are the board's to know."""
    sizes = [rss_bytes(pid, root=root) for pid in pids or (os.getpid(),)]
    known = [size for size in sizes if size is not None]
    return Gauges(
        temperature_c(root=root),
        throttle_flags,
        frequency_mhz(root=root),
        governor(root=root),
        load_1m(root=root),
        memory_available_bytes(root=root),
        sum(known) if known else None,
        accelerator_c,
    )


def temperature_c(*, root: Path = ROOT) -> float | None:
    """The CPU's temperature; of several thermal zones the one named after the CPU, else the hottest."""
    best: float | None = None
    for zone in known_paths(root, "sys/class/thermal/thermal_zone*"):
        value = read_integer(zone / "temp")
        if value is None or not -50_000 < value < 200_000:  # millidegrees; some zones report nonsense when idle
            continue
        if (read_text(zone / "type") or "") in _CPU_ZONES:
            return value / 1000
        best = max(best if best is not None else -273.0, value / 1000)
    return best


def is_throttled(flags: int | None) -> bool | None:
    """True when the clock is held back right now; None when nobody knows."""
    return None if flags is None else bool(flags & _NOW_MASK)


def describe_throttling(flags: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what holds now, what happened since boot), in words."""
    now = tuple(text for bit, text in THROTTLE_BITS.items() if flags >> bit & 1)
    past = tuple(text for bit, text in THROTTLE_BITS.items() if flags >> (bit + _SINCE_BOOT_SHIFT) & 1)
    return now, past


def frequency_mhz(*, root: Path = ROOT) -> float | None:
    """The fastest core's present clock."""
    found = [
        read_integer(path) for path in known_paths(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    ]
    return max((khz / 1000 for khz in found if khz), default=None)


def frequency_limit_mhz(*, root: Path = ROOT) -> float | None:
    """The highest clock that the fastest core can have."""
    found = [
        read_integer(path) for path in known_paths(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    ]
    return max((khz / 1000 for khz in found if khz), default=None)


def governor(*, root: Path = ROOT) -> str | None:
    """How core 0's clock is chosen: "ondemand", "performance", ..."""
    return read_text(known_path(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or None


def load_1m(*, root: Path = ROOT) -> float | None:
    text = read_text(known_path(root, "proc/loadavg"))
    try:
        return float(text.split()[0]) if text else None
    except (ValueError, IndexError):
        return None


def memory_available_bytes(*, root: Path = ROOT) -> int | None:
    """What programs could still take without swapping."""
    return _kib_line(known_path(root, "proc/meminfo"), "MemAvailable:")


def memory_total_bytes(*, root: Path = ROOT) -> int | None:
    return _kib_line(known_path(root, "proc/meminfo"), "MemTotal:")


def rss_bytes(pid: int | str = "self", *, root: Path = ROOT) -> int | None:
    """Resident memory of a process, shared pages counted fully."""
    return _kib_line(known_path(root, f"proc/{pid}/status"), "VmRSS:")


def pss_bytes(pid: int | str = "self", *, root: Path = ROOT) -> int | None:
    """Resident memory with shared pages split among their users: sums of it over processes are honest."""
    return _kib_line(root / f"proc/{pid}/smaps_rollup", "Pss:")


def cpu_seconds(pid: int | str = "self", *, root: Path = ROOT) -> float | None:
    """User and system time that a process has used."""
    text = read_text(root / f"proc/{pid}/stat")
    if not text:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold spaces and brackets
    try:
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (ValueError, IndexError):
        return None


def is_asleep(pid: int, *, root: Path = ROOT) -> bool:
    """Whether every thread of a process waits for something else than CPU and disk, right now."""
    states = [stat.rpartition(")")[2].split()[:1] for stat in map(read_text, _tasks(pid, root)) if stat]
    return bool(states) and all(state == ["S"] for state in states)


def _tasks(pid: int, root: Path) -> list[Path]:
    return [Path(entry) for entry in glob(f"{root}/proc/{pid}/task/*/stat")]  # noqa: PTH207


def board_name(*, root: Path = ROOT) -> str:
    """The board's own name from the device tree, else the CPU's model name, else the architecture."""
    model = read_text(root / "proc/device-tree/model") or read_text(root / "sys/firmware/devicetree/base/model")
    if model:
        return model.rstrip("\0").strip()
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("model name", "model") and value.strip() and not value.strip().isdigit():
            return value.strip()
    return os.uname().machine


@lru_cache(maxsize=256)
def known_path(root: Path, name: str) -> Path:
    """`root / name`, made once. A Path interns its parts; the table of interned strings, filled and emptied
    again and again, is made anew at twice its size some day: 1 MiB more after some minutes of reports."""
    return root / name


def known_paths(root: Path, pattern: str) -> list[Path]:
    """What is there now, sorted, each a `known_path`: `Path.glob` would make them anew."""
    return [known_path(root, name) for name in sorted(glob(pattern, root_dir=root))]  # noqa: PTH207


def read_text(path: Path) -> str | None:
    """A small file, stripped."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def read_integer(path: Path) -> int | None:
    """A file that holds one whole number."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None


def read_device_tree_number(path: Path) -> int | None:
    """A property of the device tree that is one 32-bit number, big-endian as all of them."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return int.from_bytes(content, "big") if len(content) == 4 else None


def _kib_line(path: Path, key: str) -> int | None:
    for line in (read_text(path) or "").splitlines():
        if line.startswith(key):
            parts = line.split()
            return int(parts[1]) * 1024 if len(parts) > 1 and parts[1].isdigit() else None
    return None


if __name__ == "__main__":  # `python -m edgeloop.probes`: what this board says
    sys.stdout.write("".join(f"{name} = {value:g}\n" for name, value in read_gauges().numbers().items()))
