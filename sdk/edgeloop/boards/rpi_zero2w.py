"""Raspberry Pi Zero 2 W."""

from edgeloop.boards.board import Board
from edgeloop.boards.raspberry_pi import firmware_flags

BOARD = Board(
    "rpi-zero2w",
    "Raspberry Pi Zero 2 W",
    compatible=("raspberrypi,model-zero-2-w",),
    models=("Raspberry Pi Zero 2",),
    has_usb3=False,
    power_fix="use a 5 V 2.5 A supply and a short, thick cable",
    throttling=firmware_flags,
)
