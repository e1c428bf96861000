"""Raspberry Pi 5, 500 and Compute Module 5: with less than 5 A from its supply it gives USB 600 mA in all."""

from __future__ import annotations

from pathlib import Path

from edgeloop import probes
from edgeloop.boards.board import Board, Note
from edgeloop.boards.coral import usb_sticks
from edgeloop.boards.raspberry_pi import firmware_flags

_FULL_SUPPLY_MA = 5000
_POWER = "proc/device-tree/chosen/power"  # big-endian 32-bit numbers, written by the firmware


def _notes(root: Path) -> tuple[Note, ...]:
    supply_ma = probes.read_device_tree_number(root / _POWER / "max_current")
    is_forced = probes.read_device_tree_number(root / _POWER / "usb_max_current_enable")
    if supply_ma is None or supply_ma >= _FULL_SUPPLY_MA or is_forced or not usb_sticks(root=root):
        return ()
    return (
        Note(
            f"the power supply offers {supply_ma} mA, so USB gets 600 mA in all; a Coral stick takes up to 900 mA",
            "use the 5 V 5 A supply; usb_max_current_enable=1 in config.txt where yours can give it unasked",
        ),
    )


BOARD = Board(
    "rpi5",
    "Raspberry Pi 5",
    compatible=("raspberrypi,5-model-b", "brcm,bcm2712"),
    models=("Raspberry Pi 5", "Raspberry Pi Compute Module 5"),
    power_fix="use the 5 V 5 A USB-C supply",
    cooling_fix="cool the board: it is made for the Active Cooler",
    throttling=firmware_flags,
    notes=_notes,
)
