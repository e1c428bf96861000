"""Any other machine: what the kernel tells everywhere, and a Raspberry Pi's firmware on those without a file here."""

from __future__ import annotations

from pathlib import Path

from edgeloop.boards.board import Board, cooling_flags
from edgeloop.boards.raspberry_pi import firmware_flags


def _flags(root: Path) -> int | None:
    flags = firmware_flags(root)
    return cooling_flags(root) if flags is None else flags


BOARD = Board("generic", "", throttling=_flags, accelerator_temperature="sys/class/apex/apex_*/temp")
