"""Reading TOML, with errors a user can act on (Python 3.10 has no tomllib)."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeloop.errors import ConfigError
from edgeloop.paths import missing_hint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_TOML_BYTES = 1 << 20


def parse_toml(text: str, what: str) -> dict[str, Any]:
    """TOML text to plain values; `what` names it in the ConfigError."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{what}: {error}") from error


def nearest_key(key: str, known: Sequence[str]) -> str:
    """The hint for an unknown key: the known one that was meant, or all of them."""
    near = difflib.get_close_matches(key.lower().replace("-", "_"), known, 1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """A TOML file of at most 1 MiB to plain values. Raises ConfigError naming `what` and the path."""
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_TOML_BYTES:
            raise ConfigError(f"{what} {path}: larger than 1 MiB")
        return parse_toml(raw.decode("utf-8-sig"), f"{what} {path}")
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror or error}", hint=missing_hint(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} {path}: {error}") from error
