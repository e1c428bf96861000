"""What the collector takes from the network, and from whom."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from edgeloop.errors import RefusedError, UsageError


@dataclass(frozen=True)
class ListenAddress:
    """Where to listen. `host` is an address or name as it was given, without brackets."""

    host: str
    port: int
    loopback: bool

    def url(self, port: int) -> str:
        """What to type into a browser on this machine; `port` is the real one."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def parse_listen(text: str) -> ListenAddress:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:0`. UsageError for anything else."""
    host, colon, port_text = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
        raise UsageError(
            f"--listen takes HOST:PORT, not {text!r}", hint="for example 127.0.0.1:8080, or port 0 for any"
        )
    return ListenAddress(host, int(port_text), _is_loopback(host))


def check_exposure(address: ListenAddress, *, open_to_all: bool) -> None:
    """RefusedError for an address that others can reach, unless the caller said `--open`.

    Reports carry no login and no encryption yet, so whoever reaches the port can read and write telemetry.
    """
    if not address.loopback and not open_to_all:
        raise RefusedError(
            f"{address.host} can be reached by others and the collector has no login yet",
            hint="listen on 127.0.0.1, or add --open on a network you trust",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as error:
        raise UsageError(f"--listen: no address for {host!r}", hint="for example 127.0.0.1:8080") from error
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)
