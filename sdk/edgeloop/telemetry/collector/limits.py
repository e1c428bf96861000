"""What the collector takes from the network, and from whom."""

from __future__ import annotations

import ipaddress
import resource
import socket
from dataclasses import dataclass, replace

from edgeloop.errors import RefusedError, UsageError

_SPARE_DESCRIPTORS = 256  # the store, other lines, handshakes that go on


@dataclass(frozen=True)
class ListenAddress:
    """Where to listen. `host` is an address or name as it was given, without brackets."""

    host: str
    port: int
    loopback: bool

    def url(self, port: int, scheme: str = "http") -> str:
        """What to type into a browser on this machine; `port` is the real one."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@dataclass(frozen=True)
class Rate:
    """per_s: what comes back; burst: how much there is at first and at most."""

    per_s: float
    burst: float


_DEVICE = Rate(per_s=10.0, burst=300.0)
_ADDRESS = Rate(per_s=500.0, burst=5000.0)
_TRIES = Rate(per_s=0.2, burst=10.0)


@dataclass(frozen=True)
class RequestRates:
    """How often. A device empties a full spool at `device`'s rate; many devices may share one `address`.

    tries: of passwords and enrollment tokens, by address and by user."""

    device: Rate = _DEVICE
    address: Rate = _ADDRESS
    tries: Rate = _TRIES


@dataclass(frozen=True)
class ConnectionLimits:
    """count: connections at once. request_s: from a request's first byte (or the connection) to its last. handshake_s:
    for that of TLS, before which a connection is not counted."""

    count: int = 4000
    request_s: float = 30.0
    handshake_s: float = 10.0

    def within_descriptors(self) -> ConnectionLimits:
        """As many as this process may have open, which is raised as far as it goes."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.count + _SPARE_DESCRIPTORS
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return self
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return replace(self, count=max(min(self.count, soft - _SPARE_DESCRIPTORS), 1))


def parse_listen(text: str) -> ListenAddress:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:0`. UsageError for anything else."""
    host, colon, port_text = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
        raise UsageError(
            f"--listen takes HOST:PORT, not {text!r}", hint="for example 127.0.0.1:8080, or port 0 for any"
        )
    return ListenAddress(host, int(port_text), _is_loopback(host))


def check_exposure(address: ListenAddress, *, open_to_all: bool, tls: bool = False) -> None:
    """RefusedError for an address that others can reach, without TLS (and so without login) and without `--open`."""
    if not address.loopback and not open_to_all and not tls:
        raise RefusedError(
            f"{address.host} can be reached by others, and without TLS nobody has to say who they are",
            hint="edgeloop collect init, then --tls; or listen on 127.0.0.1; or add --open on a network you trust",
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
