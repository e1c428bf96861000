"""Raspberry Pi 3 and Compute Module 3. A 3B+ lowers its clock at 60 °C already (`temp_soft_limit`)."""

from edgeloop.boards.board import Board
from edgeloop.boards.raspberry_pi import firmware_flags

BOARD = Board(
    "rpi3",
    "Raspberry Pi 3",
    compatible=("raspberrypi,3-model-b", "raspberrypi,3-model-b-plus", "raspberrypi,3-model-a-plus", "brcm,bcm2837"),
    models=("Raspberry Pi 3", "Raspberry Pi Compute Module 3"),
    has_usb3=False,
    power_fix="use a 5 V 2.5 A supply and a short, thick cable",
    throttling=firmware_flags,
)
