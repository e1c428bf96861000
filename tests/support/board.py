"""The agent on an emulated board, unpacked in the device layout by the product's own installer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgeloop.devices import install
from edgeloop.devices.agent_site import build_agent_site
from edgeloop.devices.connection import DevicePlatform
from support.debian_root import DebianRoot

PLATFORM = DevicePlatform("aarch64", (3, 11), (2, 36), "emulated", "pi", False, "/home/pi")


def board_agent(root: DebianRoot, folder: Path, *, slim: bool = False) -> list[str]:
    """The command that starts the agent there."""
    layout = install.DeviceLayout(folder)
    site = build_agent_site(PLATFORM, slim=slim)
    target = str(layout.agent(site.version))
    stream = b"".join(install.site_stream(site, lambda _count: None))
    subprocess.run([sys.executable, "-I", "-c", install.UNPACK_SCRIPT, target], input=stream, check=True)
    return [*root.python, "-I", str(layout.launcher(site.version))]
