"""Raspberry Pi 4, 400 and Compute Module 4."""

from edgeloop.boards.board import Board
from edgeloop.boards.raspberry_pi import firmware_flags

BOARD = Board(
    "rpi4",
    "Raspberry Pi 4",
    compatible=("raspberrypi,4-model-b", "brcm,bcm2711"),
    models=("Raspberry Pi 4", "Raspberry Pi Compute Module 4"),
    power_fix="use a 5 V 3 A USB-C supply and a short, thick cable",
    throttling=firmware_flags,
)
