"""What this device is, as the rules about offers want to know it."""

from __future__ import annotations

import platform
import shutil
import struct
from pathlib import Path

from edgeloop.boards import detect_board
from edgeloop.targets import TARGETS
from edgeloop_agent.delivery.update import Device


def userland_machine() -> str:
    """As `edgeloop.devices.connection` sees it: a 32-bit system under a 64-bit kernel is "armv7l"."""
    return platform.machine() if struct.calcsize("P") == 8 else "armv7l"


def this_device(state: Path, other_trial: str = "") -> Device:
    """other_trial: see Device."""
    there = next(place for place in (state, *state.absolute().parents) if place.exists())
    board, machine = detect_board().id, userland_machine()
    shown = board if board in TARGETS else machine
    return Device(shown, strangers(board, machine), shutil.disk_usage(there).free, other_trial=other_trial)


def strangers(board: str, machine: str) -> frozenset[str]:
    """Targets of another architecture than this board's; of one that edgeloop does not know, than its system's."""
    here = TARGETS[board].architecture if board in TARGETS else machine
    architectures = {target.id: target.architecture for target in TARGETS.values()}
    if here not in architectures.values():
        return frozenset()
    return frozenset(name for name, architecture in architectures.items() if architecture != here)
