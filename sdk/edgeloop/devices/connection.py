"""The interface of a reachable device, and the table URL scheme -> lazy opener."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from edgeloop.devices.aliases import device_url
from edgeloop.errors import DeviceError, UsageError

DEVICE_PYTHON = "/usr/bin/python3"

_PROBE = """
import json, os, platform, struct, sys
print(json.dumps({
    "machine": platform.machine() if struct.calcsize("P") == 8 else "armv7l",
    "python": list(sys.version_info[:2]),
    "glibc": platform.libc_ver()[1],
    "hostname": platform.node(),
    "user": os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid()),
    "is_root": os.getuid() == 0,
    "home": os.path.expanduser("~"),
}))
"""


@dataclass(frozen=True)
class Completed:
    """A finished command on the device."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class DevicePlatform:
    """What decides which wheels fit.

    `machine` is that of the userland: a 32-bit system on a 64-bit kernel is armv7l.
    """

    machine: str
    python: tuple[int, int]
    glibc: tuple[int, int]
    hostname: str
    user: str
    is_root: bool
    home: str


class Running(Protocol):
    """A process on the device whose output lines are passed on as they come; its stdin ends with the connection."""

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, or None when it still runs after `timeout_s`."""

    def send(self, data: bytes) -> None:
        """Write to its stdin, which stays open; nothing happens when it has ended."""

    def end_input(self) -> None:
        """Close its stdin."""


class Device(Protocol):
    """A device that commands can be run on."""

    @property
    def url(self) -> str: ...

    @property
    def is_local(self) -> bool:
        """True when device and host are one machine: nothing is installed or copied."""

    def run(self, argv: Sequence[str], *, stdin: Iterable[bytes] = (), timeout_s: float = 60.0) -> Completed:
        """Run to the end. Raises DeviceError when the device cannot be reached or the time is over."""

    def start(
        self, argv: Sequence[str], on_line: Callable[[str], None], on_error: Callable[[str], None] | None = None
    ) -> Running:
        """Start and return; each line of its stdout goes to `on_line`, of stderr to `on_error` (default: the same)."""

    def forward_to_host(self, host_port: int) -> int:
        """A TCP port on the device's loopback that reaches 127.0.0.1:host_port here, through this connection."""

    def close(self) -> None: ...


def connect(url: str, *, identity: Path | None = None, note: Callable[[str], None] = lambda _text: None) -> Device:
    """Reach a device by URL or by its name here (`aliases`). `identity` is an SSH private key; `note` gets lines the
    user should see.

    Raises UsageError for an unknown scheme, DeviceError when it does not answer, RefusedError for a changed host key.
    """
    url = device_url(url)
    scheme = urlsplit(url).scheme
    opener = OPENERS.get(scheme)
    if opener is None:
        raise UsageError(f"device {url!r}: no way to reach that", hint=_nearest(url))
    return opener(url, identity, note)


def _nearest(url: str) -> str:
    """What was probably meant: `local` without its colon, `pi@board` as ssh itself takes it."""
    if url == "local":
        return "local:"
    is_host = "@" in url and not any(c in url for c in ":/")
    if is_host:
        return f"ssh://{url}"
    is_name = bool(url) and not any(c in url for c in ":/@")
    return f"local: or ssh://user@host{f'; as a name: edgeloop devices add {url} URL' if is_name else ''}"


def _local(url: str, identity: Path | None, note: Callable[[str], None]) -> Device:
    from edgeloop.devices.local import LocalDevice

    return LocalDevice()


def _ssh(url: str, identity: Path | None, note: Callable[[str], None]) -> Device:
    from edgeloop.devices.ssh import connect_ssh

    return connect_ssh(url, identity, note)


OPENERS: dict[str, Callable[[str, Path | None, Callable[[str], None]], Device]] = {"local": _local, "ssh": _ssh}


def read_platform(device: Device) -> DevicePlatform:
    """Ask the device's own Python what it is. Raises DeviceError when it has none that will do."""
    done = device.run([DEVICE_PYTHON, "-I", "-"], stdin=[_PROBE.encode()])
    if done.exit_code != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise DeviceError(
            f"{device.url} has no working {DEVICE_PYTHON}" + (f": {said[-1]}" if said else ""),
            hint="sudo apt-get install python3 on the device",
        )
    try:
        said_platform = json.loads(done.stdout.decode().strip().splitlines()[-1])
        python = (int(said_platform["python"][0]), int(said_platform["python"][1]))
        parts = [int(x) for x in said_platform["glibc"].split(".")[:2]] if said_platform["glibc"] else [0, 0]
    except (ValueError, KeyError, IndexError) as error:
        raise DeviceError(f"{device.url} answered with something else than its description") from error
    if python < (3, 10):
        raise DeviceError(
            f"{device.url} has Python {python[0]}.{python[1]}, edgeloop needs 3.10 or newer",
            hint="Raspberry Pi OS Bookworm or Debian 12 has 3.11; on a Coral Dev Board a container (docs/boards.md)",
        )
    return DevicePlatform(
        machine=str(said_platform["machine"]),
        python=python,
        glibc=(parts[0], parts[1]),
        hostname=str(said_platform["hostname"]),
        user=str(said_platform["user"]),
        is_root=bool(said_platform["is_root"]),
        home=str(said_platform["home"]),
    )
