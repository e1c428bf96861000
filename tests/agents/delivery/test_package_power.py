"""A power cut at every operation of an agent's or a config's update: there is always one that can run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeloop_agent.delivery.disk import Disk
from edgeloop_agent.delivery.package_folders import LAUNCHER, AgentFolder
from edgeloop_agent.delivery.update import TRIAL_STARTS, Version
from edgeloop_agent.delivery.versions import VersionFolder
from support.power import CuttableDisk, PowerCutError

ONE, TWO, THREE = (Version(n, f"{n:016x}") for n in range(1, 4))


def take_in(folder: AgentFolder, version: Version) -> None:
    def fill(fresh: Path) -> None:
        (fresh / LAUNCHER).parent.mkdir(parents=True)
        (fresh / LAUNCHER).write_text(version.digest)

    folder.plant(version, fill)
    folder.take_in(version, [b"manifest"])
    folder.begin_trial(version)


def install(folder: AgentFolder, version: Version) -> None:
    take_in(folder, version)
    folder.count_start()
    folder.commit()


def whole(folder: AgentFolder) -> Version | None:
    """What runs, and can; None: what root installed."""
    running = folder.standing().running
    if running is not None:
        assert folder.launcher_of(running).read_text() == running.digest
    return running


def bad(folder: AgentFolder) -> None:
    take_in(folder, TWO)
    folder.count_start()
    folder.roll_back("it hangs")


def back_to_base(folder: AgentFolder) -> None:
    folder.leave()


def good(folder: AgentFolder) -> None:
    install(folder, TWO)


def makes_room(folder: AgentFolder) -> None:
    install(folder, THREE)


@pytest.mark.parametrize(
    ("change", "before", "allowed"),
    [
        (good, [], {None, TWO}),
        (good, [ONE], {ONE, TWO}),
        (bad, [], {None, TWO}),
        (bad, [ONE], {ONE, TWO}),
        (back_to_base, [ONE], {ONE, None}),
        (makes_room, [ONE, TWO], {TWO, THREE}),
    ],
)
def test_whenever_the_power_fails_an_agent_can_run(
    tmp_path: Path, change: Callable[[AgentFolder], None], before: list[Version], allowed: set[Version | None]
) -> None:
    def prepared(name: str, disk: Disk | None = None) -> AgentFolder:
        for version in before:
            install(AgentFolder(tmp_path / name), version)
        return AgentFolder(tmp_path / name, disk=disk)

    counting = CuttableDisk()
    change(prepared("all", counting))
    tried = 0
    for cut_at in range(counting.count):
        losses = 0
        while True:
            name = f"{cut_at}-{losses}"
            disk = CuttableDisk(cut_at)
            with pytest.raises(PowerCutError):
                change(prepared(name, disk))
            unsynced = disk.unsynced
            disk.lose(losses)
            folder = AgentFolder(tmp_path / name)
            for _ in range(TRIAL_STARTS + 1):  # and it ends in something that was well, or in what root installed
                folder.recover()
                assert whole(folder) in allowed
            assert folder.standing().trial is None
            change(AgentFolder(tmp_path / name)) if change is not back_to_base else folder.leave()
            whole(folder)
            tried += 1
            losses += 1
            if losses > unsynced:
                break
    assert tried > counting.count


def test_a_tree_that_is_damaged_is_none(tmp_path: Path) -> None:
    folder = AgentFolder(tmp_path)
    install(folder, ONE)
    install(folder, TWO)
    folder.launcher_of(TWO).unlink()
    assert folder.standing().running is None
    folder.recover()
    assert folder.standing().running is None  # what root installed


def test_two_agents_are_kept_and_no_tree_without_a_version(tmp_path: Path) -> None:
    folder = AgentFolder(tmp_path)
    for version in (ONE, TWO, THREE):
        install(folder, version)
    folder.tidy()
    assert [p.name for p in sorted((tmp_path / "trees").iterdir())] == [folder.tree_of(v).name for v in (TWO, THREE)]


def test_a_config_is_its_versions_file(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path, suffix=".toml")
    folder.take_in(ONE, [b"x = 1"])
    folder.begin_trial(ONE)
    assert folder.current.read_bytes() == b"x = 1" and folder.current.name == "current.toml"
