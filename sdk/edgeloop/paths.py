"""Where edgeloop keeps things on this machine. `EDGELOOP_HOME` puts all of it under one folder (tests, CI)."""

from __future__ import annotations

import os
from pathlib import Path


def _base(kind: str, xdg_variable: str, fallback: str) -> Path:
    home = os.environ.get("EDGELOOP_HOME")
    if home:
        return Path(home) / kind
    return Path(os.environ.get(xdg_variable) or Path.home() / fallback) / "edgeloop"


def config_dir() -> Path:
    """Keys, trusted keys and the user's own targets."""
    return _base("config", "XDG_CONFIG_HOME", ".config")


def cache_dir() -> Path:
    """Whatever can be made again: float models by hash, wheels for devices, decoded data."""
    return _base("cache", "XDG_CACHE_HOME", ".cache")


def state_dir() -> Path:
    """What must survive: version counters, the agent's spool, telemetry stores without a path of their own."""
    return _base("state", "XDG_STATE_HOME", ".local/state")


def missing_hint(path: Path | str) -> str | None:
    """For a file or folder that is not there: one beside it that is called nearly so, or the folder that is missing,
    too. None where it is there, or where neither can be told.
    """
    import difflib

    wanted = Path(path)
    if wanted.exists():
        return None
    try:
        names = [path.name for path in wanted.parent.iterdir()]
    except FileNotFoundError:
        return f"there is no folder {wanted.parent}"
    except OSError:
        return None
    near = difflib.get_close_matches(wanted.name, names, 1)
    return f"did you mean {wanted.parent / near[0]}?" if near else None


def is_utf8(name: Path | str) -> bool:
    """Whether a file's name is text. Python keeps the bytes of others (surrogateescape); many libraries refuse them."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True
