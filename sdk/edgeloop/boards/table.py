"""The boards, and which one this is. A new board: one file, one line."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from edgeloop.boards.board import Board
from edgeloop.probes import ROOT, read_text

# id: module. More particular ones first: a Zero 2 W has the chip of a 3.
BOARDS: Mapping[str, str] = {
    "rpi-zero2w": "edgeloop.boards.rpi_zero2w",
    "rpi3": "edgeloop.boards.rpi3",
    "rpi4": "edgeloop.boards.rpi4",
    "rpi5": "edgeloop.boards.rpi5",
    "coral-dev-board": "edgeloop.boards.coral_dev_board",
    "generic": "edgeloop.boards.generic",
}
# A container may hide the device tree; the SoC bus stays visible.
_MODEL_FILES = ("proc/device-tree/model", "sys/firmware/devicetree/base/model", "sys/devices/soc0/machine")
_COMPATIBLE_FILES = ("proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible")


def load_board(board_id: str) -> Board:
    board: Board = importlib.import_module(BOARDS[board_id]).BOARD
    return board


def detect_board(*, root: Path = ROOT) -> Board:
    """This machine's board, by its device tree; "generic" for one that is not in the table."""
    compatible = _first(root, _COMPATIBLE_FILES).split("\0")
    model = _first(root, _MODEL_FILES).rstrip("\0").strip()
    if model or compatible != [""]:
        boards = [load_board(board_id) for board_id in BOARDS]
        # Its own name first, in all boards, then the chip's: both lists go from particular to general.
        for board in boards:
            if model and model.startswith(board.models or ("\0",)):
                return board
        for name in compatible:
            for board in boards:
                if name and name in board.compatible:
                    return board
    return load_board("generic")


def _first(root: Path, names: tuple[str, ...]) -> str:
    return next((text for name in names if (text := read_text(root / name))), "")
