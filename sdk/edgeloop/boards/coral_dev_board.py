"""Coral Dev Board: its own system is too old for LiteRT, so the agent runs in a Debian 12 container there."""

from __future__ import annotations

from pathlib import Path

from edgeloop import probes
from edgeloop.boards.board import Board, Note

_IN_A_CONTAINER = "run the agent in a Debian 12 container with --device /dev/apex_0 (docs/boards.md)"


def _notes(root: Path) -> tuple[Note, ...]:
    if (root / "etc/mendel_version").exists() or "ID=mendel" in (probes.read_text(root / "etc/os-release") or ""):
        what = "this is Mendel, the board's own system (Python 3.7, glibc 2.28): too old for LiteRT"
        return (Note(what, _IN_A_CONTAINER, fails=True),)
    if not (root / "dev/apex_0").exists():
        return (Note("the board's Edge TPU is not visible here: there is no /dev/apex_0", _IN_A_CONTAINER),)
    return ()


BOARD = Board(
    "coral-dev-board",
    "Coral Dev Board",
    compatible=("google,imx8mq-phanbell", "fsl,imx8mq-phanbell"),
    models=("Freescale i.MX8MQ Phanbell", "Google i.MX8MQ Phanbell", "Coral Dev Board"),
    power_fix="use a 5 V 3 A supply at the USB-C port named PWR",
    cooling_fix="cool the board: its fan must turn above 65 °C",
    accelerator_temperature="sys/class/apex/apex_*/temp",
    notes=_notes,
)
