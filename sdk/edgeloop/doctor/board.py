"""Checks of the board: which one it is, whether it is held back, its Coral accelerators."""

from __future__ import annotations

from collections.abc import Iterator

from edgeloop import probes
from edgeloop.boards import detect_board
from edgeloop.boards.coral import USB3_MBIT, UsbStick, pci_cards, usb_sticks
from edgeloop.doctor.finding import FAIL, OK, WARN, Finding
from edgeloop.doctor.system import System
from edgeloop.runtime.libedgetpu import KNOWN_GOOD, find_edgetpu_library, read_build, why_it_crashes

_GET_LIBRARY = f"install one that was built for this runtime: {KNOWN_GOOD}"


def check_board(system: System) -> Iterator[Finding]:
    board = detect_board(root=system.root)
    facts = []
    frequency, limit = probes.frequency_mhz(root=system.root), probes.frequency_limit_mhz(root=system.root)
    if frequency is not None:
        facts.append(f"{frequency:.0f} MHz" + ("" if limit is None else f" of {limit:.0f}"))
    if governor := probes.governor(root=system.root):
        facts.append(f"clock governor {governor}")
    if (temperature := probes.temperature_c(root=system.root)) is not None:
        facts.append(f"{temperature:.0f} °C")
    if (accelerator := board.accelerator_c(root=system.root)) is not None:
        facts.append(f"accelerator {accelerator:.0f} °C")
    # The id is that of the target to convert for.
    kind = f" ({board.id})" if board.name else ""
    yield Finding("board", OK, f"{probes.board_name(root=system.root)}{kind}" + "".join(f", {f}" for f in facts))
    for note in board.notes(system.root):
        yield Finding("board", FAIL if note.fails else WARN, note.what, note.fix)


def check_throttling(system: System) -> Iterator[Finding]:
    board = detect_board(root=system.root)
    temperature = probes.temperature_c(root=system.root)
    if temperature is not None and temperature >= board.hot_c:
        yield Finding("throttling", WARN, f"{temperature:.0f} °C", board.cooling_fix)
    flags = board.throttle_flags(root=system.root)
    if flags is None:
        return
    now, past = probes.describe_throttling(flags)
    for text in now:
        yield Finding("throttling", WARN, f"now: {text}", board.fix_for(text))
    for text in past:
        if text not in now:
            yield Finding("throttling", WARN, f"since boot: {text}", board.fix_for(text))
    if not now and not past:
        yield Finding("throttling", OK, "never throttled since boot")


def check_edgetpu(system: System) -> Iterator[Finding]:
    """The accelerator, how it is connected, and whether its library is there and loads."""
    devices = [*_usb_corals(system), *_pci_corals(system)]
    yield from devices
    library = find_edgetpu_library(system.root)
    if library is None:
        if devices:
            yield Finding("edgetpu", FAIL, "a Coral device is here, but libedgetpu.so.1 is not", _GET_LIBRARY)
        else:
            yield Finding("edgetpu", OK, "no Coral device and no libedgetpu: Edge TPU models cannot run here")
        return
    build = read_build(library)
    if crashes := why_it_crashes(build, _edgetpu_package_version(system), _runtime(system)):
        yield Finding("edgetpu", FAIL if devices else WARN, crashes, _GET_LIBRARY)
    elif build is not None:
        yield Finding("edgetpu", OK, str(build))
    if devices and system.is_this_one:
        from edgeloop.runtime.probe import probe_delegate

        probe = probe_delegate("edgetpu")
        yield Finding("edgetpu", OK if probe.ok else FAIL, probe.why, probe.fix)
    else:
        yield Finding("edgetpu", OK, f"{library.name} is installed" + ("" if devices else "; no Coral device is here"))


def _usb_corals(system: System) -> Iterator[Finding]:
    has_usb3 = detect_board(root=system.root).has_usb3
    for stick in usb_sticks(root=system.root):
        yield _usb_coral(system, stick, has_usb3)


def _usb_coral(system: System, stick: UsbStick, has_usb3: bool) -> Finding:
    name = f"Coral USB Accelerator ({stick.state}) at USB {stick.port}"
    speed = f"{stick.speed_mbit:.0f} Mbit/s"
    if stick.node.exists() and not system.may_read_and_write(stick.node):
        fix = "sudo usermod -aG plugdev $USER, install its udev rule (docs/doctor.md), replug it"
        return Finding("edgetpu", FAIL, f"{name} may not be opened by this user", fix)
    if not stick.speed_mbit:
        return Finding("edgetpu", OK, name)
    if stick.speed_mbit >= USB3_MBIT:
        return Finding("edgetpu", OK, f"{name}, {speed}")
    if has_usb3:
        fix = "use a blue USB 3 port and its own cable: USB 2 makes inference slower"
    else:
        fix = "this board has USB 2 only, which makes inference slower: a Raspberry Pi 4 or 5 has USB 3"
    return Finding("edgetpu", WARN, f"{name} runs at {speed}", fix)


def _pci_corals(system: System) -> Iterator[Finding]:
    for card in pci_cards(root=system.root):
        if card.has_driver:
            yield Finding("edgetpu", OK, f"Coral PCIe accelerator at {card.slot}")
        else:
            fix = "install its driver (gasket-dkms) and reboot: /dev/apex_0 must appear"
            yield Finding("edgetpu", FAIL, f"Coral PCIe accelerator at {card.slot} has no driver", fix)


def _runtime(system: System) -> str:
    for package in ("ai-edge-litert", "tflite-runtime", "tensorflow"):
        if version := system.version(package):
            return f"{package} {version}"
    return "ai-edge-litert"


def _edgetpu_package_version(system: System) -> str:
    for entry in (system.text("var/lib/dpkg/status") or "").split("\n\n"):
        if entry.startswith("Package: libedgetpu1-"):
            keys = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line)
            return keys.get("Version", "")
    return ""
