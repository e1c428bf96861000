"""Debian packages of another architecture for tests: a test that cannot have them is skipped and says why."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from edgeloop.devices.emulated import debian
from edgeloop.errors import DeviceError


def cache_folder() -> Path:
    """Where tests keep what is slow to make, for the next run."""
    base = Path(os.environ.get("EDGELOOP_TEST_CACHE") or Path.home() / ".cache/edgeloop-tests")
    base.mkdir(parents=True, exist_ok=True)
    return base


def fetch(architecture: str, packages: Iterable[str], state: Path) -> list[Path]:
    """The .deb files of packages and of all that they depend on, kept in `state`."""
    try:
        return debian.fetch(state, architecture, packages)
    except DeviceError as error:
        pytest.skip(error.message)


def unpack(debs: Iterable[Path], root: Path) -> None:
    """Into a tree that is there."""
    debian.unpack(debs, root)
