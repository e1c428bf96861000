"""Names for devices, in the user's config folder: `devices.toml`, a name and a URL a line. No network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from edgeloop import paths
from edgeloop.bundle.files import write_atomically
from edgeloop.errors import ConfigError, UsageError
from edgeloop.tomlfile import read_toml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
_SCHEMES = ("ssh://", "serial://", "rfc2217://", "socket://")


def aliases_path() -> Path:
    return paths.config_dir() / "devices.toml"


def load_aliases() -> dict[str, str]:
    """Name -> URL. Raises ConfigError for a file that says something else."""
    path = aliases_path()
    if not path.exists():
        return {}
    found = read_toml(path, "devices").get("devices", {})
    if not isinstance(found, dict) or not all(isinstance(url, str) for url in found.values()):
        raise ConfigError(f"devices {path}: a name and a URL a line below [devices]")
    return {str(name): url for name, url in found.items()}


def add_alias(name: str, url: str, *, replace: bool = False) -> None:
    """Raises UsageError for a name that is none or is taken, and for what is no device's URL."""
    if not _NAME.fullmatch(name) or name == "local":
        raise UsageError(f"{name!r} cannot name a device", hint="letters, digits, _ and -, at most 63")
    if not url.startswith(_SCHEMES) or url in _SCHEMES or not url.isprintable():
        raise UsageError(f"{url!r} is no device's URL", hint="ssh://user@host[:port] or serial:///dev/ttyUSB0")
    known = load_aliases()
    if known.get(name, url) != url and not replace:
        raise UsageError(f"{name} is {known[name]} already", hint="--replace")
    _save({**known, name: url})


def remove_alias(name: str) -> None:
    """Raises UsageError where there is none."""
    known = load_aliases()
    if name not in known:
        raise UsageError(f"no device is named {name}", hint=f"named are: {', '.join(known) or 'none'}")
    _save({other: url for other, url in known.items() if other != name})


def device_url(text: str) -> str:
    """What an argument means that takes a device's URL: that of an alias, else the text itself. Raises ConfigError."""
    return text if ":" in text or "/" in text else load_aliases().get(text, text)


def _save(aliases: Mapping[str, str]) -> None:
    lines = ["[devices]", *(f"{name} = {json.dumps(url)}" for name, url in sorted(aliases.items())), ""]
    try:
        write_atomically(aliases_path(), "\n".join(lines).encode())
    except OSError as error:
        raise UsageError(f"{aliases_path()}: {error.strerror}") from error
