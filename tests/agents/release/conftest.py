"""A repository on a loopback server, and a device that trusts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeloop_agent.release.pull import FOLDER
from support.pulling import Fleet
from support.release_server import serving
from support.releasing import key_in, new_repository


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Version 7 is installed and published."""
    key = key_in(tmp_path / "keys")
    repo = new_repository(tmp_path / "repo", key)
    state = tmp_path / "state"
    (state / FOLDER).mkdir(parents=True)
    (state / FOLDER / "root.json").write_bytes((repo / "metadata/1.root.json").read_bytes())
    with serving(repo) as server:
        fleet = Fleet(repo, state, key, server)
        fleet.install(fleet.publish(7))
        yield fleet
