"""Ways to a collector, by URL: `open_transport("http://127.0.0.1:8080")`.

A transport sends one batch and waits for its acknowledgement. It keeps no report, retries nothing and decides nothing:
`edgeloop.telemetry.delivery` does. A new one is a file here and a line in TRANSPORTS; tests/conformance runs on all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, urlsplit

from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.wire.codec import Ack

DEFAULT_TIMEOUT_S = 10.0


class NotAcknowledgedError(DeviceError):
    """No acknowledgement came. `blames_batch`: the far end is there and it was this batch that it could not answer.

    retry_after_s: how long it asked to be left alone.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, blames_batch: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message, hint=hint)
        self.blames_batch, self.retry_after_s = blames_batch, retry_after_s


class Transport(Protocol):
    """One way to one collector, for one thread at a time. Opening does not connect: the far end may be away."""

    @property
    def batch_bytes(self) -> int:
        """How much to put into a batch, at most, so that it passes well within the timeout on this kind of line."""

    def send(self, batch: Sequence[bytes], timeout_s: float = DEFAULT_TIMEOUT_S, answers: Sequence[bytes] = ()) -> Ack:
        """Sends encoded reports, and answers to commands, which may be all there is. Returns the collector's
        acknowledgement of them.

        NotAcknowledgedError when none came in time, whether or not the batch arrived. The next call connects anew.
        """

    def close(self) -> None:
        """Lets go of the line. The next `send` takes it again."""


@dataclass(frozen=True)
class Address:
    """A transport's URL, taken apart. `url` is for messages: a password in it is hidden. device: who sends, or "".

    state: the folder of what the device keeps, its credentials among it; None where there is none.
    """

    url: str
    parts: SplitResult
    options: Mapping[str, str]
    device: str = ""
    state: Path | None = None

    def only(self, *names: str) -> Address:
        """Self, when there are no options but these. UsageError naming the first other one."""
        for name in self.options:
            if name not in names:
                known = f"known: {', '.join(names)}" if names else "there are none"
                raise UsageError(f"telemetry URL {self.url!r}: unknown option {name!r}", hint=known)
        return self


def _loader(module: str, function: str = "open_url") -> Callable[[Address], Transport]:
    def load(address: Address) -> Transport:
        opened: Transport = getattr(importlib.import_module(f"{__name__}.{module}"), function)(address)
        return opened

    return load


TRANSPORTS: Mapping[str, Callable[[Address], Transport]] = {
    "http": _loader("http"),
    "https": _loader("http"),
    "serial": _loader("serial"),
    "rfc2217": _loader("serial"),
    "socket": _loader("serial"),
    "mqtt": _loader("mqtt"),
    "mqtts": _loader("mqtt"),
    "file": _loader("file"),
    "memory": _loader("memory"),
}
"""URL scheme -> what opens it. Modules, and what they import, load on first use."""


def _nearest(url: str) -> str:
    """A port and a host are what people give without a scheme."""
    host, _, port = url.partition(":")
    if url.startswith("/"):
        return f"serial://{url}"
    if port.isdecimal() and host:
        return f"http://{url}"
    return f"use one of {', '.join(f'{name}:' for name in TRANSPORTS)}"


def open_transport(url: str, *, device: str = "", state: Path | None = None) -> Transport:
    """The transport for a URL. UsageError for a URL that is wrong; a far end that is away shows at the first `send`.

    device: the name in the reports; ways that several devices share (a broker, a stick) need it.
    state: the device's state folder, with the credentials it was given.
    """
    scheme, colon, _rest = url.partition(":")
    if not colon or scheme.lower() not in TRANSPORTS:
        raise UsageError(f"telemetry URL {_shown(url)!r} has no known scheme", hint=_nearest(url))
    return TRANSPORTS[scheme.lower()](parse_address(url, device, state))


def parse_address(url: str, device: str = "", state: Path | None = None) -> Address:
    """UsageError for a URL that cannot be taken apart."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is no number
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        shown = _shown(url)
        text = str(error) if shown == url else "cannot be read"  # the error quotes what is hidden
        raise UsageError(f"telemetry URL {shown!r}: {text}") from None
    return Address(_shown(url), parts, options, device, state)


def _shown(url: str) -> str:
    """Without what stands before an @, where people put passwords."""
    scheme, _, rest = url.partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}://***@{host}" if at and not rest.startswith("/") else url
