"""Coral accelerators beside a board's CPU: USB sticks with their speed, PCIe cards with their driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeloop.probes import ROOT, read_text

# A stick shows the first pair until its firmware is loaded (at the first use), then the second.
USB_IDS = {("1a6e", "089a"): "waiting for its firmware", ("18d1", "9302"): "ready"}
_PCI_ID = ("0x1ac1", "0x089a")
USB3_MBIT = 5000


@dataclass(frozen=True)
class UsbStick:
    """`port` as the kernel calls it (2-1); `speed_mbit` 480 on USB 2, 5000 on USB 3, 0: unknown; `node`: to open."""

    port: str
    state: str
    speed_mbit: float
    node: Path


@dataclass(frozen=True)
class PciCard:
    """`has_driver`: /dev/apex_0 is there."""

    slot: str
    has_driver: bool


def usb_sticks(*, root: Path = ROOT) -> tuple[UsbStick, ...]:
    """All of them, by port."""
    found = []
    for device in sorted((root / "sys/bus/usb/devices").glob("*")):
        state = USB_IDS.get((read_text(device / "idVendor") or "", read_text(device / "idProduct") or ""))
        if state is not None:
            bus, number = (_number(read_text(device / name)) for name in ("busnum", "devnum"))
            node = root / f"dev/bus/usb/{bus:03.0f}/{number:03.0f}"
            found.append(UsbStick(device.name, state, _number(read_text(device / "speed")), node))
    return tuple(found)


def pci_cards(*, root: Path = ROOT) -> tuple[PciCard, ...]:
    """All of them, by slot."""
    return tuple(
        PciCard(device.name, (root / "dev/apex_0").exists())
        for device in sorted((root / "sys/bus/pci/devices").glob("*"))
        if (read_text(device / "vendor"), read_text(device / "device")) == _PCI_ID
    )


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
