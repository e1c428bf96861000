"""Checks of the board: CPU, memory, throttling, Coral accelerators, serial ports, clock."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from edgeloop import probes
from edgeloop.doctor.finding import FAIL, OK, WARN, Finding
from edgeloop.doctor.system import System

# A stick shows the first pair until its firmware is loaded (at the first use), then the second.
CORAL_USB_IDS = {("1a6e", "089a"): "waiting for its firmware", ("18d1", "9302"): "ready"}
CORAL_PCI_ID = ("0x1ac1", "0x089a")
_USB3_MBIT = 5000
_LOW_MEMORY_BYTES = 100 << 20
_HOT_C = 80.0
_SERIAL_PATTERNS = ("ttyUSB*", "ttyACM*", "ttyAMA*", "serial[0-9]")
_EARLIEST_TIME_S = 1_735_689_600  # 2025-01-01: a clock before this was never set
_GOOGLE_EDGETPU_VERSION = re.compile(r"\d+\.\d+(-\d+)?$")  # 16.0; rebuilt ones say 16.0TF2.17.1-1

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


def check_throttling(system: System) -> Iterator[Finding]:
    temperature = probes.temperature_c(root=system.root)
    if temperature is not None and temperature >= _HOT_C:
        yield Finding("throttling", WARN, f"{temperature:.0f} °C", "cool the board: a heat sink or a fan")
    flags = probes.throttle_flags(root=system.root)
    if flags is None:
        return
    now, past = probes.describe_throttling(flags)
    power = "use the board's own power supply and a short, thick cable (Pi 4: 5 V 3 A, Pi 5: 5 V 5 A)"
    cooling = "cool the board: a heat sink or a fan"
    for text in now:
        yield Finding("throttling", WARN, f"now: {text}", power if text == "under-voltage" else cooling)
    for text in past:
        if text not in now:
            yield Finding("throttling", WARN, f"since boot: {text}", power if text == "under-voltage" else cooling)
    if not now and not past:
        yield Finding("throttling", OK, "never throttled since boot")


def check_edgetpu(system: System) -> Iterator[Finding]:
    """The accelerator, how it is connected, and whether its library is there and loads."""
    devices = [*_usb_corals(system), *_pci_corals(system)]
    yield from devices
    library = _edgetpu_library(system)
    if library is None:
        if devices:
            fix = "install a libedgetpu that was built for this runtime (docs/runtime.md)"
            yield Finding("edgetpu", FAIL, "a Coral device is here, but libedgetpu.so.1 is not", fix)
        else:
            yield Finding("edgetpu", OK, "no Coral device and no libedgetpu: Edge TPU models cannot run here")
        return
    package, version = _edgetpu_package(system)
    if version and _GOOGLE_EDGETPU_VERSION.match(version):
        yield Finding(
            "edgetpu", WARN, f"{package} {version} is Google's own build, which crashes with runtimes since 2.12",
            "replace it by a rebuilt libedgetpu (docs/runtime.md); the agent falls back to the CPU meanwhile",
        )  # fmt: skip
    if devices and system.is_this_one:
        from edgeloop.runtime.probe import probe_delegate

        probe = probe_delegate("edgetpu")
        yield Finding("edgetpu", OK if probe.ok else FAIL, probe.why, probe.fix)
    else:
        yield Finding("edgetpu", OK, f"{library.name} is installed" + ("" if devices else "; no Coral device is here"))


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
    elif not (system.root / "sys/class/rtc/rtc0").exists() and _is_raspberry_pi(system):
        fix = "sudo apt-get install systemd-timesyncd: this board has no clock of its own"
        yield Finding("clock", WARN, "no time service found", fix)
    else:
        yield Finding("clock", OK, "no time service of systemd here; the clock looks right")


def _is_raspberry_pi(system: System) -> bool:
    return "raspberry pi" in (system.text("proc/device-tree/model") or "").lower()


def _usb_corals(system: System) -> Iterator[Finding]:
    for device in sorted((system.root / "sys/bus/usb/devices").glob("*")):
        where = device.relative_to(system.root)
        state = CORAL_USB_IDS.get((system.text(f"{where}/idVendor") or "", system.text(f"{where}/idProduct") or ""))
        if state is None:
            continue
        name = f"Coral USB Accelerator ({state}) at USB {device.name}"
        bus, number = system.text(f"{where}/busnum"), system.text(f"{where}/devnum")
        node = system.root / f"dev/bus/usb/{int(bus or 0):03d}/{int(number or 0):03d}"
        speed = float(system.text(f"{where}/speed") or 0)
        if node.exists() and not system.may_read_and_write(node):
            fix = "sudo usermod -aG plugdev $USER, install its udev rule (docs/doctor.md), replug it"
            yield Finding("edgetpu", FAIL, f"{name} may not be opened by this user", fix)
        elif speed and speed < _USB3_MBIT:
            fix = "use a blue USB 3 port and its own cable: USB 2 makes inference slower"
            yield Finding("edgetpu", WARN, f"{name} runs at {speed:.0f} Mbit/s", fix)
        else:
            yield Finding("edgetpu", OK, name + (f", {speed:.0f} Mbit/s" if speed else ""))


def _pci_corals(system: System) -> Iterator[Finding]:
    for device in sorted((system.root / "sys/bus/pci/devices").glob("*")):
        where = device.relative_to(system.root)
        if (system.text(f"{where}/vendor"), system.text(f"{where}/device")) != CORAL_PCI_ID:
            continue
        if (system.root / "dev/apex_0").exists():
            yield Finding("edgetpu", OK, f"Coral PCIe accelerator at {device.name}")
        else:
            fix = "install its driver (gasket-dkms) and reboot: /dev/apex_0 must appear"
            yield Finding("edgetpu", FAIL, f"Coral PCIe accelerator at {device.name} has no driver", fix)


def _edgetpu_library(system: System) -> Path | None:
    for pattern in ("usr/lib/*/libedgetpu.so.1*", "usr/lib/libedgetpu.so.1*", "usr/local/lib/libedgetpu.so.1*"):
        for found in sorted(system.root.glob(pattern)):
            return found
    return None


def _edgetpu_package(system: System) -> tuple[str, str]:
    for entry in (system.text("var/lib/dpkg/status") or "").split("\n\n"):
        if entry.startswith("Package: libedgetpu1-"):
            keys = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line)
            return keys["Package"], keys.get("Version", "")
    return "", ""


def _flags(lines: list[str], key: str) -> set[str]:
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return set(value.split())
    return set()
