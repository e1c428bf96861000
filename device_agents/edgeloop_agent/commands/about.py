"""What this device is, for `info`: board, system, Python, Coral accelerators. Read now; no numpy."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from edgeloop.boards import detect_board
from edgeloop.boards.coral import pci_cards, usb_sticks

_NAME = "PRETTY_NAME="


def about_device() -> dict[str, Any]:
    """Keys as in `edgeloop devices find --json`."""
    coral = [{"kind": "usb", "port": stick.port, "mbit": int(stick.speed_mbit)} for stick in usb_sticks()]
    coral += [{"kind": "pci", "port": card.slot, "mbit": 0} for card in pci_cards()]
    return {
        "board": detect_board().name,
        "os": _system(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "coral": coral,
    }


def _system() -> str:
    try:
        with Path("/etc/os-release").open(encoding="utf-8", errors="replace") as file:
            lines = file.read(4096).splitlines()
    except OSError:
        return ""
    return next((line.removeprefix(_NAME).strip('"') for line in lines if line.startswith(_NAME)), "")
