"""Devices around: those with a name, those that announce themselves, those on a serial line, and this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from edgeloop.devices.aliases import load_aliases
from edgeloop.devices.connection import connect
from edgeloop.devices.looking import Seen, coral_of, look
from edgeloop.devices.mdns import SSH_PORT, browse
from edgeloop.errors import EdgeloopError

_AT_ONCE = 8
_ANSWER_S = 3.0
_PORTS = ("ttyUSB*", "ttyACM*", "ttyAMA[0-9]*")


@dataclass(frozen=True)
class Search:
    """wait_s: for answers in the network. user, identity: of SSH. with_look: log in and ask what it is."""

    wait_s: float = 3.0
    user: str = ""
    identity: Path | None = None
    with_mdns: bool = True
    with_serial: bool = True
    with_look: bool = True


def find(search: Search, seen: Callable[[Seen], None] = lambda _s: None, dev: Path = Path("/dev")) -> list[Seen]:
    """Everything that is there, each once; `seen` gets each as soon as it is known. Raises MissingExtraError, and
    DeviceError where there is no network."""
    found = [Seen("local:", "this machine", "local")]
    if search.with_serial:
        found += [Seen(f"serial://{port}", port.name, "serial") for port in serial_ports(dev)]
    if search.with_mdns:
        named = {urlsplit(url).hostname: url for url in load_aliases().values()}
        user = f"{search.user}@" if search.user else ""
        for each in browse(search.wait_s):
            port = "" if each.port == SSH_PORT else f":{each.port}"
            url = named.get(each.host, f"ssh://{user}{each.host}{port}")
            found.append(Seen(url, each.host.removesuffix(".local"), "mdns", each.address))
    return look_at(found, search, seen)


def listed() -> list[Seen]:
    """The devices that have a name."""
    return [Seen(url, name, "alias") for name, url in load_aliases().items()]


def look_at(devices: Sequence[Seen], search: Search, seen: Callable[[Seen], None] = lambda _s: None) -> list[Seen]:
    """What each is, several at once; a problem is said in it. The order stays."""

    def one(device: Seen) -> Seen:
        known = _look_at(device, search) if search.with_look else device
        seen(known)
        return known

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, devices))


def serial_ports(dev: Path = Path("/dev")) -> list[Path]:
    """USB adapters and gadgets, and the board's own UARTs."""
    return sorted(path for pattern in _PORTS for path in dev.glob(pattern))


def _look_at(device: Seen, search: Search) -> Seen:
    try:
        return _ask_line(device) if device.url.startswith("serial://") else _log_in(device, search)
    except EdgeloopError as error:
        return replace(device, problem=error.message)


def _log_in(device: Seen, search: Search) -> Seen:
    connected = connect(device.url, identity=search.identity)
    try:
        known = look(connected)
    finally:
        connected.close()
    return replace(device, **{**known, "name": known["name"] if device.found_by == "local" else device.name})


def _ask_line(device: Seen) -> Seen:
    """The agent at the other end."""
    from edgeloop.devices.commanding import connect_agent

    with connect_agent(device.url, None) as agent:
        info = agent.ask("info", timeout_s=_ANSWER_S)
    texts = {key: str(info.get(key, "")) for key in ("board", "os", "python", "machine", "agent")}
    return replace(device, name=str(info.get("device", device.name)), coral=coral_of(info.get("coral")), **texts)
