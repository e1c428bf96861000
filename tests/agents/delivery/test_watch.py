"""What the running agent does about a version on trial."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgeloop.errors import DeviceError
from edgeloop.telemetry.histogram import Histogram
from edgeloop_agent.delivery.update import TRIAL_STARTS, Budget, Version, Window
from edgeloop_agent.delivery.versions import VersionFolder
from edgeloop_agent.delivery.watch import Updates, Watch, give_up, settle_versions, versions_of

ONE, TWO = (Version(n, f"{n:016x}") for n in (1, 2))


@dataclass
class Tallied:
    inferences: int = 0
    errors: int = 0
    faults: list[str] = field(default_factory=list)
    ms: float = 5.0

    def latency(self, stage: str) -> Histogram:
        assert stage == "invoke"
        return Histogram.of_ms([self.ms] * self.inferences)


def on_trial(folder: VersionFolder) -> VersionFolder:
    for version in (ONE, TWO):
        folder.take_in(version, [b"x"])
        folder.begin_trial(version)
        if version is ONE:
            folder.commit()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> VersionFolder:
    return on_trial(VersionFolder(tmp_path))


def watched(folder: VersionFolder, seen: Tallied, events: list[tuple[str, str]]) -> Watch:
    ran = folder.standing().running
    return Watch(folder, ran, seen, lambda kind, text: events.append((kind, text)), Window(60, 10), Budget(20.0))


def test_it_is_committed_when_it_was_well_for_the_window(folder: VersionFolder) -> None:
    events: list[tuple[str, str]] = []
    seen = Tallied(inferences=500)
    watch = watched(folder, seen, events)
    watch.look(59.0)
    assert folder.standing().committed == ONE and events == []
    watch.look(60.0)
    assert folder.standing().committed == TWO and not watch.has_moved
    assert events == [("committed", "version 2: well for 60 s and 500 inferences")]
    watch.look(61.0)
    assert len(events) == 1


def test_a_fault_rolls_it_back(folder: VersionFolder) -> None:
    events: list[tuple[str, str]] = []
    watch = watched(folder, Tallied(5, faults=["killed by SIGSEGV"]), events)
    watch.look(1.0)
    assert folder.standing().running == ONE and watch.has_moved
    assert events == [("rollback", "version 2 to version 1: its worker failed: killed by SIGSEGV")]


def test_a_slow_one_is_rolled_back(folder: VersionFolder) -> None:
    events: list[tuple[str, str]] = []
    watched(folder, Tallied(10, ms=30.0), events).look(1.0)
    assert folder.standing().running == ONE and "too slow while it ran" in events[0][1]


def test_only_a_trial_is_judged(folder: VersionFolder) -> None:
    folder.commit()
    events: list[tuple[str, str]] = []
    watch = watched(folder, Tallied(5, faults=["killed"]), events)
    watch.look(1.0)
    assert not watch.go_back("it ended") and folder.standing().running == TWO and events == []


def test_an_agent_that_stops_in_a_trial_says_so_once(folder: VersionFolder) -> None:
    events: list[tuple[str, str]] = []
    updates = Updates([watched(folder, Tallied(5), events)], lambda: None, lambda _line: None)
    updates.ending()
    updates.ending()
    assert events == [("update", "version 2 is on trial still: the agent was stopped")]
    assert folder.standing().trial is not None
    folder.commit()
    Updates([watched(folder, Tallied(5), events)], lambda: None, lambda _line: None).ending()
    assert len(events) == 1


def test_a_start_counts_and_a_reload_does_not(folder: VersionFolder) -> None:
    assert settle_versions(folder, is_start=True) == ("update", "version 2 is on trial")
    for _ in range(5):
        assert settle_versions(folder, is_start=False) is None
    for _ in range(TRIAL_STARTS - 1):
        settle_versions(folder, is_start=True)
    kind, detail = settle_versions(folder, is_start=True) or ("", "")
    assert kind == "rollback" and detail.startswith("version 2 to version 1: the agent was started 3 times")
    assert settle_versions(folder, is_start=True) is None


def test_nothing_left_to_run_is_one_line(tmp_path: Path) -> None:
    folder = VersionFolder(tmp_path)
    folder.take_in(ONE, [b"x"])
    folder.begin_trial(ONE)
    folder.roll_back("it crashes")
    with pytest.raises(DeviceError, match="there is none to go back to"):
        settle_versions(folder, is_start=True)


def test_a_bundle_that_stands_for_itself_has_no_versions(folder: VersionFolder, tmp_path: Path) -> None:
    assert versions_of(tmp_path / "ic.bundle") is None
    assert versions_of(folder.current) is not None


def test_a_new_version_is_noticed_and_said_once(folder: VersionFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop_agent.delivery.watch._LOOK_EVERY_S", 0.0)
    moves: list[str] = []
    updates = Updates([watched(folder, Tallied(), [])], lambda: moves.append("moved"), moves.append)
    updates.look()
    assert moves == []
    folder.roll_back("by hand")
    updates.look()
    updates.look()
    assert moves == ["moved"]


def test_what_moves_again_is_said_again(folder: VersionFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeloop_agent.delivery.watch._LOOK_EVERY_S", 0.0)
    moves: list[str] = []
    updates = Updates([watched(folder, Tallied(), [])], lambda: moves.append("moved"), moves.append)
    folder.roll_back("by hand")
    updates.look()
    three = Version(3, "3" * 16)
    folder.take_in(three, [b"x"])
    folder.begin_trial(three)
    updates.look()
    updates.look()
    assert moves == ["moved", "moved"]


def test_what_cannot_even_begin_is_given_up_where_something_else_can_run(tmp_path: Path, folder: VersionFolder) -> None:
    assert give_up(folder, "signed by a stranger") == ("rollback", "version 2 to version 1: signed by a stranger")
    assert folder.standing().failed == {TWO.digest: "signed by a stranger"}
    assert give_up(folder, "again") is None
    first = VersionFolder(tmp_path / "first")
    first.take_in(ONE, [b"x"])
    first.begin_trial(ONE)
    assert give_up(first, "no reason to leave nothing") is None and first.standing().running == ONE


def test_a_trial_that_was_cut_short_before_its_switch_judges_nobody(folder: VersionFolder) -> None:
    folder.commit()
    record = json.loads((folder.folder / "record.json").read_bytes())
    record["trial"] = {"number": 3, "digest": "3" * 16, "starts": 0}
    (folder.folder / "record.json").write_text(json.dumps(record))
    events: list[tuple[str, str]] = []
    watched(folder, Tallied(500, faults=["killed"]), events).look(100.0)
    assert events == []


def test_a_run_that_ends_failed_goes_back(folder: VersionFolder) -> None:
    events: list[tuple[str, str]] = []
    updates = Updates([watched(folder, Tallied(), events)], lambda: None, print)
    assert updates.failed("no delegate is left") == ["version 2 to version 1: no delegate is left"]
    assert folder.standing().running == ONE and events == []
    assert updates.failed("again") == []
