"""What a device is called in its reports, where many are made alike.

A card that is copied brings its config along: `device = "{hostname}-{machine}"` in it names each board on its own.
"""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

from edgeloop.errors import ConfigError

_MARK_CHARS = 8
# What tells one board from another, the best first: the serial number that its firmware states (Raspberry Pi, most
# others with a device tree), then what systemd made up at the first boot (machine-id(5): not to be told as it is).
_MARKS = ("proc/device-tree/serial-number", "etc/machine-id")


def default_device_id() -> str:
    """The host's name."""
    return socket.gethostname() or "device"


def device_name(text: str, root: Path = Path("/")) -> str:
    """`text` with {hostname} and {machine} filled in; without any: as it is. Raises ConfigError where {machine} is
    wanted and the board has nothing to tell it by."""
    if "{machine}" in text:
        text = text.replace("{machine}", _machine_mark(root))
    return text.replace("{hostname}", default_device_id())


def _machine_mark(root: Path) -> str:
    for name in _MARKS:
        try:
            mark = (root / name).read_bytes().strip(b"\0 \n")
        except OSError:
            continue
        if mark.strip(b"0") and mark != b"uninitialized":
            return hashlib.sha256(b"edgeloop device " + mark).hexdigest()[:_MARK_CHARS]
    raise ConfigError("device: {machine} is wanted, and this board has no serial number and no /etc/machine-id")
