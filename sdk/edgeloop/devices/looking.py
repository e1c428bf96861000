"""What a device is: board, system, Python, Coral accelerators and the speed of their USB port, the agent that is there.

One small script, run by the device's own Python; nothing is installed or changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeloop.devices.connection import DEVICE_PYTHON, Device
from edgeloop.errors import DeviceError

_TIMEOUT_S = 20.0
_USB3_MBIT = 5000
_SCRIPT = r"""
import glob, json, os, platform, struct, sys
def text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip("\0\n ")
    except OSError:
        return ""
release = dict(line.split("=", 1) for line in text("/etc/os-release").splitlines() if "=" in line)
ids = {("1a6e", "089a"), ("18d1", "9302")}
sticks = []
for folder in sorted(glob.glob("/sys/bus/usb/devices/*")):
    if (text(folder + "/idVendor"), text(folder + "/idProduct")) in ids:
        mbit = int(float(text(folder + "/speed") or 0))
        sticks.append({"kind": "usb", "port": os.path.basename(folder), "mbit": mbit})
sticks += [{"kind": "pci", "port": os.path.basename(path), "mbit": 0} for path in sorted(glob.glob("/dev/apex_*"))]
agent = ""
for root in ("", os.path.expanduser("~/.local/share/edgeloop-device")):
    folder = root + "/opt/edgeloop/agent/current"
    agent = agent or (os.path.basename(os.path.realpath(folder)) if os.path.exists(folder) else "")
print(json.dumps({
    "hostname": platform.node(), "board": text("/proc/device-tree/model") or text("/sys/class/dmi/id/product_name"),
    "os": release.get("PRETTY_NAME", "").strip('"'), "python": platform.python_version(),
    "machine": platform.machine() if struct.calcsize("P") == 8 else "armv7l", "coral": sticks, "agent": agent}))
"""


@dataclass(frozen=True)
class Seen:
    """A device that was found. url: how it is reached; name: of the host, or what it calls itself. found_by: "alias",
    "mdns", "serial" or "local". problem: why no more is known. coral: {"kind", "port", "mbit"} each, mbit 0 where not
    known."""

    url: str
    name: str
    found_by: str
    address: str = ""
    board: str = ""
    os: str = ""
    python: str = ""
    machine: str = ""
    agent: str = ""
    coral: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    problem: str = ""

    @property
    def coral_text(self) -> str:
        """One line: "Coral stick at 480 Mbit/s (a USB 3 port gives 5000)"."""
        return ", ".join(_coral(each) for each in self.coral)


def look(device: Device) -> dict[str, Any]:
    """Fields of `Seen`. Raises DeviceError."""
    done = device.run([DEVICE_PYTHON, "-I", "-"], stdin=[_SCRIPT.encode()], timeout_s=_TIMEOUT_S)
    try:
        said = json.loads(done.stdout.decode().strip().splitlines()[-1])
        fields = {key: str(said[key]) for key in ("board", "os", "python", "machine", "agent")}
        return {**fields, "name": str(said["hostname"]), "coral": coral_of(said["coral"])}
    except (ValueError, IndexError, KeyError, TypeError):
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise DeviceError(f"{device.url}: {words[-1] if words else 'no answer'}") from None


def coral_of(said: Any) -> tuple[dict[str, Any], ...]:
    """Accelerators as a device tells of them; () where it tells something else."""
    try:
        return tuple({"kind": str(s["kind"]), "port": str(s["port"]), "mbit": int(s["mbit"])} for s in said)
    except (KeyError, TypeError, ValueError):
        return ()


def _coral(each: Mapping[str, Any]) -> str:
    if each["kind"] == "pci":
        return f"Coral on PCIe ({each['port']})"
    speed = f" at {each['mbit']} Mbit/s" if each["mbit"] else ""
    slow = f" (a USB 3 port gives {_USB3_MBIT})" if 0 < each["mbit"] < _USB3_MBIT else ""
    return f"Coral stick{speed}{slow}"
