"""Hosts of the local network that announce themselves (mDNS, DNS-SD). Host only, library zeroconf."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SERVICES = ("_edgeloop._tcp.local.", "_ssh._tcp.local.", "_sftp-ssh._tcp.local.", "_udisks-ssh._tcp.local.")
"""What `edgeloop-agent service` installs; what hosts with sshd announce; what udisks2 does on desktops."""
SSH_PORT = 22


@dataclass(frozen=True)
class Announced:
    """host: "kitchen.local"; address: IPv4 where there is one; port: of sshd."""

    host: str
    address: str
    port: int


def browse(wait_s: float, *, interfaces: Sequence[str] | None = None) -> list[Announced]:
    """Whoever answers within this time, by host name. Raises MissingExtraError, DeviceError where there is no network.

    interfaces: addresses to ask on; default: all.
    """
    from edgeloop.errors import DeviceError, MissingExtraError

    try:
        from zeroconf import ServiceBrowser, Zeroconf
    except ModuleNotFoundError as error:
        raise MissingExtraError("finding devices in the network", "find") from error
    found: dict[str, Announced] = {}
    lock = threading.Lock()

    class _Listener:
        def add_service(self, zeroconf: Any, kind: str, name: str) -> None:
            info = zeroconf.get_service_info(kind, name, timeout=int(1000 * wait_s))
            if info is None or not info.server:
                return
            host = info.server.rstrip(".")
            addresses = info.parsed_addresses()
            address = next((a for a in addresses if ":" not in a), addresses[0] if addresses else "")
            port = SSH_PORT if kind.startswith("_udisks") else int(info.port or SSH_PORT)
            with lock:
                found.setdefault(host, Announced(host, address, port))

        update_service = add_service

        def remove_service(self, zeroconf: Any, kind: str, name: str) -> None:
            pass

    try:
        zeroconf = Zeroconf() if interfaces is None else Zeroconf(interfaces=list(interfaces))
    except OSError as error:
        raise DeviceError(
            f"no network to look in: {error.strerror}", hint="--no-mdns looks at serial ports only"
        ) from error
    try:
        ServiceBrowser(zeroconf, list(SERVICES), _Listener())  # type: ignore[arg-type]
        time.sleep(wait_s)
    finally:
        zeroconf.close()
    return sorted(found.values(), key=lambda each: each.host)
