"""Checks of the machine: CPU, memory, serial ports, clock."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from edgeloop import probes
from edgeloop.boards import detect_board
from edgeloop.doctor.finding import FAIL, OK, WARN, Finding
from edgeloop.doctor.system import System

_LOW_MEMORY_BYTES = 100 << 20
_SERIAL_PATTERNS = ("ttyUSB*", "ttyACM*", "ttyAMA*", "serial[0-9]")
_EARLIEST_TIME_S = 1_735_689_600  # 2025-01-01: a clock before this was never set

# feature: what it is worth, by the machine's family
_X86_FEATURES = {"avx2": "AVX2", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI"}
_ARM_FEATURES = {"asimd": "NEON", "neon": "NEON", "asimddp": "int8 dot product", "i8mm": "int8 matrix product"}


def check_cpu(system: System) -> Iterator[Finding]:
    lines = (system.text("proc/cpuinfo") or "").splitlines()
    x86_line, arm_line = _flags(lines, "flags"), _flags(lines, "Features")
    name = probes.board_name(root=system.root)
    is_arm = system.machine.startswith(("aarch64", "arm"))
    if is_arm and x86_line:
        yield Finding(
            "cpu", WARN, f"/proc/cpuinfo describes an x86 CPU, but this is {system.machine} (emulated?)",
            "give the emulated tree an Arm /proc/cpuinfo: ai-edge-litert 2.3.0 crashes without",
        )  # fmt: skip
        return
    known, flags = (_ARM_FEATURES, arm_line) if is_arm else (_X86_FEATURES, x86_line)
    found = list(dict.fromkeys(text for flag, text in known.items() if flag in flags))
    what = f"{name}: {', '.join(found) or 'no vector instructions known'}"
    if not flags:
        yield Finding("cpu", OK, f"{name}: features unknown")
    elif is_arm and "NEON" not in found:
        yield Finding("cpu", WARN, what, "no NEON: models run, but very slowly; use a Raspberry Pi 2 or newer")
    elif is_arm and "asimddp" not in flags:
        yield Finding("cpu", OK, f"{what}; no dot product: int8 saves memory here, but little time over float")
    elif not is_arm and "avx2" not in flags:
        yield Finding("cpu", WARN, what, "no AVX2: use a newer machine, or expect several times slower runs")
    else:
        yield Finding("cpu", OK, what)
    governor = probes.governor(root=system.root)
    if governor == "powersave":
        fix = "echo schedutil | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield Finding("cpu", WARN, "the CPU governor is powersave: the clock stays at its lowest", fix)


def check_memory(system: System) -> Iterator[Finding]:
    free, total = probes.memory_available_bytes(root=system.root), probes.memory_total_bytes(root=system.root)
    if free is None or total is None:
        return
    what = f"{free / (1 << 20):.0f} of {total / (1 << 20):.0f} MiB available"
    if free < _LOW_MEMORY_BYTES:
        yield Finding("memory", WARN, what, "stop other programs: the agent and a small model take about 95 MiB")
    else:
        yield Finding("memory", OK, what)


def check_serial(system: System) -> Iterator[Finding]:
    device_folder = system.root / "dev"
    found = [port for pattern in _SERIAL_PATTERNS for port in sorted(device_folder.glob(pattern))]
    ports = list(dict.fromkeys(port.resolve() for port in found))  # serial0 is another name of ttyAMA0 or ttyS0
    console = re.findall(r"console=((?:ttyAMA|ttyS)\d+)", system.text("proc/cmdline") or "")
    for port in ports:
        if port.name in console:
            yield Finding(
                "serial", WARN, f"{port} is the kernel's console: telemetry on it would be mixed with log lines",
                "sudo raspi-config nonint do_serial_cons 1, then reboot",
            )  # fmt: skip
        elif system.may_read_and_write(port):
            yield Finding("serial", OK, f"{port} may be opened")
        else:
            fix = "sudo usermod -aG dialout $USER, then log in again"
            yield Finding("serial", WARN, f"{port} may not be opened by this user", fix)
    if ports and not system.has_module("serial", "pyserial"):
        yield Finding("serial", WARN, "pyserial is not installed", "pip install 'edgeloop[serial]'")
    if not ports:
        yield Finding("serial", OK, "no serial port (ttyUSB, ttyACM, ttyAMA)")


def check_clock(system: System, now_s: float | None = None) -> Iterator[Finding]:
    """Reports carry the time; a board without a battery-backed clock starts in the past."""
    now = time.time() if now_s is None else now_s
    if now < _EARLIEST_TIME_S:
        day = time.strftime("%Y-%m-%d", time.gmtime(now))
        yield Finding("clock", FAIL, f"the clock says {day}", "connect a network and: sudo timedatectl set-ntp true")
        return
    service = system.root / "run/systemd/timesync"
    if (service / "synchronized").exists():
        yield Finding("clock", OK, "set from the network")
    elif service.exists():
        fix = "connect a network and: sudo timedatectl set-ntp true"
        yield Finding("clock", WARN, "not yet set from the network since boot", fix)
    elif not (system.root / "sys/class/rtc/rtc0").exists() and detect_board(root=system.root).id.startswith("rpi"):
        fix = "sudo apt-get install systemd-timesyncd: this board has no clock of its own"
        yield Finding("clock", WARN, "no time service found", fix)
    else:
        yield Finding("clock", OK, "no time service of systemd here; the clock looks right")


def _flags(lines: list[str], key: str) -> set[str]:
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return set(value.split())
    return set()
