"""A repository on a loopback server, and a device that trusts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pulling import Fleet, fleet_of


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Version 7 is installed and published."""
    with fleet_of(tmp_path) as found:
        found.install(found.publish(7))
        yield found
