"""A poll: what is new comes in whole, through the door, and what was refused is not fetched again."""

from __future__ import annotations

import time
from hashlib import sha256
from types import SimpleNamespace

import pytest

from edgeloop.bundle.package import PackageManifest, entry_of, write_package
from edgeloop.errors import DeviceError, UsageError
from edgeloop.release.channel import delta_path
from edgeloop_agent.delivery.apply import model_folder
from edgeloop_agent.delivery.package_folders import Base, config_folder, write_base
from edgeloop_agent.delivery.update import Version
from edgeloop_agent.release import pull
from edgeloop_agent.release.door import Verdict
from edgeloop_agent.release.pull import FOLDER, Model, Pulled
from support.pulling import Fleet
from support.release_server import cut_after
from support.releasing import take_in
from support.retrained import model_bytes, retrained


def one(pulled: Pulled) -> Model:
    (model,) = pulled.models
    return model


def states(pulled: Pulled) -> dict[str, str]:
    return {model.name: model.state for model in pulled.models}


def test_what_is_new_goes_through_the_door(fleet: Fleet) -> None:
    bundle = fleet.publish(8)
    model = one(fleet.pull())
    assert (model.state, model.version, model.way) == ("trial", 8, "full")
    assert fleet.offered == [bundle.read_bytes()] and fleet.running == 8
    assert not list((fleet.state / "incoming").iterdir())


def test_nothing_new_fetches_nothing(fleet: Fleet) -> None:
    fleet.pull()
    before, wire = len(fleet.server.asked), fleet.server.wire_bytes
    assert one(fleet.pull()).state == "current"
    assert [path for path, _ in fleet.server.asked[before:]] == ["/metadata/2.root.json", "/metadata/timestamp.json"]
    assert fleet.server.wire_bytes - wire <= 5000


def test_while_a_version_is_on_trial_nothing_comes_in(fleet: Fleet) -> None:
    fleet.publish(8)
    fleet.pull()
    fleet.publish(9)
    assert one(fleet.pull()).state == "waiting" and len(fleet.offered) == 1


def test_while_the_agent_itself_is_on_trial_nothing_comes_in(fleet: Fleet) -> None:
    fleet.publish(8)
    base = Base("0.1", ("agent",), "agent.toml", "0" * 16)
    write_base(fleet.state, base)
    folder = config_folder(fleet.state, base)
    folder.take_in(Version(2, "1" * 16), [b"x = 1"])
    folder.begin_trial(Version(2, "1" * 16))
    assert (one(fleet.pull()).reason, fleet.offered) == ("config version 2 is on trial", [])
    folder.roll_back("it is no good")
    assert one(fleet.pull()).state == "trial"


def test_a_config_of_the_release_comes_the_same_way(fleet: Fleet) -> None:
    file, content = fleet.state.parent / "kitchen.config", b"trial = 5"
    write_package(file, PackageManifest("config", "kitchen", 2, entry_of(content)), content, fleet.key)
    offered = take_in(fleet.repo, fleet.key, file, tags=("kitchen",)).offer
    assert (offered.target_path, offered.for_target) == ("kitchen/kitchen-2.config", "")
    fleet.tags = ("kitchen",)
    assert states(fleet.pull()) == {"ic": "current"}  # no service has looked for one yet
    base = Base("0.1", ("agent",), "agent.toml", "0" * 16)
    write_base(fleet.state, base)
    fleet.verdict = Verdict("there")
    assert (states(fleet.pull())["kitchen"], fleet.offered) == ("there", [file.read_bytes()])
    folder = config_folder(fleet.state, base)
    folder.take_in(Version(2, "1" * 16), [content])
    folder.begin_trial(Version(2, "1" * 16))
    assert states(fleet.pull()) == {"ic": "waiting", "kitchen": "waiting"}
    folder.commit()
    assert states(fleet.pull()) == {"ic": "current", "kitchen": "current"} and len(fleet.offered) == 1


def test_an_agent_for_another_platform_is_none_of_ours(fleet: Fleet) -> None:
    write_base(fleet.state, Base("0.1", ("agent",), "agent.toml", "0" * 16))
    fleet.verdict = Verdict("there")
    for number, (name, machine) in enumerate((("other", "riscv64"), ("any", "")), start=2):
        file = fleet.state.parent / f"{name}.agent"
        manifest = PackageManifest("agent", name, number, entry_of(b"tree"), machine, (3, 11) if machine else (0, 0))
        write_package(file, manifest, b"tree", fleet.key)
        take_in(fleet.repo, fleet.key, file)
        assert states(fleet.pull()).keys() - {"ic"} == (set() if machine else {"any"})


def test_what_the_door_refused_is_not_fetched_again(fleet: Fleet) -> None:
    fleet.publish(8)
    fleet.verdict = Verdict("refused", "golden samples differ", exit_code=1)
    first = fleet.pull()
    assert (one(first).state, one(first).is_news, first.exit_code) == ("refused", True, 1)
    asked = len(fleet.server.targets_asked)
    second = fleet.pull()
    assert (one(second).reason, one(second).is_news, second.exit_code) == ("golden samples differ", False, 0)
    assert len(fleet.server.targets_asked) == asked and len(fleet.offered) == 1
    fleet.verdict = Verdict("trial")
    assert one(fleet.pull(again=True)).state == "trial"


def test_what_was_rolled_back_is_not_fetched_again_and_its_successor_is(fleet: Fleet) -> None:
    fleet.publish(8)
    fleet.pull()
    model_folder(fleet.state, "ic").roll_back("it crashed")
    asked = len(fleet.server.targets_asked)
    model = one(fleet.pull())
    assert (model.state, model.reason, fleet.running) == ("refused", "it crashed", 7)
    assert len(fleet.server.targets_asked) == asked
    fleet.publish(9)
    assert (one(fleet.pull()).state, fleet.running) == ("trial", 9)


def test_what_somebody_went_back_from_by_hand_is_not_brought_again(fleet: Fleet) -> None:
    fleet.publish(8)
    fleet.pull()
    folder = model_folder(fleet.state, "ic")
    folder.commit()
    folder.go_back_to(next(version for version in folder.standing().kept if version.number == 7))
    assert one(fleet.pull()).state == "current" and fleet.running == 7


def test_only_devices_of_the_cohort_take_it(fleet: Fleet) -> None:
    fleet.publish(8, percent=0.0)
    assert one(fleet.pull()).state == "current"
    fleet.publish(9, tags=("kitchen",))
    assert one(fleet.pull()).state == "current"
    fleet.tags = ("kitchen",)
    assert one(fleet.pull()).version == 9


def test_a_break_in_the_middle_costs_nothing(fleet: Fleet) -> None:
    bundle = fleet.publish(8, model_bytes(20_000))
    fleet.server.misbehaving[r"[0-9a-f]{64}\.ic-8\.bundle"] = cut_after(700, fleet.repo)
    assert one(fleet.pull()).state == "trial"
    assert [start for path, start in fleet.server.asked if "ic-8" in path] == [0, 700]
    assert fleet.offered == [bundle.read_bytes()]


def test_a_poll_goes_on_where_one_before_it_was_killed(fleet: Fleet) -> None:
    bundle = fleet.publish(8)
    content = bundle.read_bytes()
    partial = fleet.state / FOLDER / "partial" / "ic" / sha256(content).hexdigest()
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content[:500])
    assert one(fleet.pull()).state == "trial" and fleet.offered == [content]
    assert [start for path, start in fleet.server.asked if "ic-8" in path] == [500]


@pytest.mark.parametrize("left", [b"wrong bytes" * 20, b"longer than the whole file" * 9999])
def test_what_is_left_and_wrong_is_fetched_anew(fleet: Fleet, left: bytes) -> None:
    content = fleet.publish(8).read_bytes()
    partial = fleet.state / FOLDER / "partial" / "ic" / sha256(content).hexdigest()
    partial.parent.mkdir(parents=True)
    partial.write_bytes(left)
    assert one(fleet.pull()).state == "trial" and fleet.offered == [content]


def test_a_server_without_ranges_is_good_enough(fleet: Fleet) -> None:
    content = fleet.publish(8).read_bytes()
    fleet.server.knows_ranges = False
    fleet.server.misbehaving[r"[0-9a-f]{64}\.ic-8\.bundle"] = cut_after(700, fleet.repo)
    assert one(fleet.pull()).state == "trial" and fleet.offered == [content]


def publish_changed(fleet: Fleet) -> tuple[bytes, str]:
    """Version 8 is installed, 9 is the same model trained on: (its file, name of the delta)."""
    model = model_bytes(60_000)
    eight = fleet.publish(8, model)
    fleet.install(eight)
    nine = fleet.publish(9, retrained(model)["all, by a step"])
    return nine.read_bytes(), delta_path("ic", 9, sha256(eight.read_bytes()).hexdigest()).rpartition("/")[2]


def test_a_delta_is_taken_where_one_fits(fleet: Fleet) -> None:
    content, delta = publish_changed(fleet)
    model = one(fleet.pull())
    assert (model.state, model.way) == ("trial", "delta") and fleet.offered == [content]
    assert fleet.server.targets_asked[-1] == delta and "ic-9.bundle" not in fleet.server.targets_asked


def test_without_its_start_the_full_file_is_taken(fleet: Fleet) -> None:
    content, delta = publish_changed(fleet)
    folder = model_folder(fleet.state, "ic")
    eight = folder.path_of(folder.standing().committed)  # type: ignore[arg-type]
    eight.write_bytes(eight.read_bytes() + b" ")
    assert one(fleet.pull()).way == "full" and fleet.offered == [content]
    assert delta not in fleet.server.targets_asked


def test_a_delta_that_is_gone_or_wrong_costs_only_the_full_file(fleet: Fleet) -> None:
    content, delta = publish_changed(fleet)
    fleet.server.misbehaving[r"[0-9a-f]{64}\.ic-9\.from-"] = lambda answer: answer.say(404)
    fleet.verdict = Verdict("refused", "later", exit_code=1)
    assert one(fleet.pull()).way == "full" and fleet.offered == [content]
    fleet.server.asked.clear()
    assert one(fleet.pull(again=True)).way == "full"  # and it is not asked for again
    assert delta not in fleet.server.targets_asked


def test_a_rate_is_kept(fleet: Fleet) -> None:
    fleet.publish(8, model_bytes(16_000))
    began_s = time.monotonic()
    assert one(fleet.pull(rate=8000.0)).state == "trial"
    took = time.monotonic() - began_s
    assert len(fleet.offered[0]) / took < 8000 * 1.2


def test_without_a_trusted_root_nothing_is_asked(fleet: Fleet) -> None:
    (fleet.state / FOLDER / "root.json").unlink()
    with pytest.raises(UsageError, match="no trusted root"):
        fleet.pull()
    assert not fleet.server.asked


def test_a_channel_that_is_not_there_is_named(fleet: Fleet) -> None:
    with pytest.raises(DeviceError, match="has no channel 'beta'"):
        fleet.pull("beta")


def test_without_room_on_the_disk_nothing_is_fetched_and_a_later_poll_tries_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.publish(8)
    with monkeypatch.context() as patched:
        patched.setattr(pull.shutil, "disk_usage", lambda _path: SimpleNamespace(free=1 << 20))
        pulled = fleet.pull()
    assert (one(pulled).state, pulled.exit_code) == ("failed", 3) and "must be free on the disk" in one(pulled).reason
    assert fleet.server.targets_asked == ["stable.json"]
    assert one(fleet.pull()).state == "trial"
