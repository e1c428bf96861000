"""The agent's settings about releases, checked. Light: the running agent reads them, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from edgeloop.bundle.limits import NAME_PATTERN
from edgeloop.errors import UsageError

STABLE = "stable"
INTERVAL_S = 3600.0
RANGES = {"release_interval": (1, 30 * 86400, " seconds"), "release_rate": (0, 1e9, " bytes per second")}


@dataclass(frozen=True)
class Address:
    """Of a repository: its URL, and a PEM file of who signed its server's certificate (None: the system's trust)."""

    url: str
    ca: str | None = None


def parse_release(text: str) -> Address:
    """`https://host[:port]/path[?ca=FILE]`, or http://. Raises UsageError."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"release '{text}': {error}") from error
    options = dict(parse_qsl(parts.query))
    right = parts.scheme in ("http", "https") and parts.hostname and not parts.fragment and text.isprintable()
    if not right or "@" in parts.netloc or options.keys() - {"ca"} or " " in text:
        raise UsageError(
            f"release must be https://HOST/PATH[?ca=FILE] or http://, got '{text}'",
            hint="the folder that holds metadata/ and targets/",
        )
    return Address(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", options.get("ca"))


def check_settings(release: str, channel: str, tags: Sequence[str]) -> None:
    """Raises UsageError."""
    if release:
        parse_release(release)
    for what, names in (("channel", (channel,)), ("tags", tags)):
        for name in names:
            if not NAME_PATTERN.fullmatch(name):
                raise UsageError(f"{what}: '{name}' may hold letters, digits, '.', '_' and '-', at most 64")
