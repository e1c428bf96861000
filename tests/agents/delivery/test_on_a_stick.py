"""A bundle on a stick: put there, taken in once by the devices it is for, answered on the stick."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.bundle import Bundle
from edgeloop.deploy.cargo import open_cargo
from edgeloop.deploy.stick import put_on_stick, stick_states
from edgeloop.errors import DataError, DeviceError
from edgeloop.telemetry.delivery.carried_bundles import BUNDLES, CarriedOffer, decode_offer, encode_offer, offers_on
from edgeloop_agent.delivery import incoming_stick
from edgeloop_agent.delivery.apply import model_folder, version_of
from edgeloop_agent.delivery.incoming_stick import StickWatch
from support.agents import Agents, frames, make_bundle


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Version 7 is committed."""
    state, path = tmp_path / "state", make_bundle(tmp_path / "7.bundle")
    folder, version = model_folder(state, "digits"), version_of(Bundle.open(path))
    folder.take_in(version, [path.read_bytes()])
    folder.begin_trial(version)
    folder.commit()
    return state


def put(stick: Path, bundle: Path, *devices: str, **budget: float) -> CarriedOffer:
    (offer,) = put_on_stick(stick, [open_cargo(bundle, allow_unsigned=True)], devices, **budget)
    return offer


def watch(stick: Path, state: Path, device: str = "pi-1") -> StickWatch:
    return StickWatch(stick, device, state, ("--state", str(state), "--rehearsal", "0.1"))


def _slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


def states(stick: Path) -> list[tuple[str, str]]:
    return [(each.device, each.state) for each in stick_states(stick)]


def test_a_version_is_taken_in_once_and_what_came_of_it_is_on_the_stick(
    stick: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(stick, make_bundle(tmp_path / "8.bundle", version=8), "pi-1", "pi 2/küche")
    assert states(stick) == [("pi 2/küche", "waiting"), ("pi-1", "waiting")]
    watched = watch(stick, state)
    watched.look()
    assert states(stick) == [("pi 2/küche", "waiting"), ("pi-1", "trial")]
    folder = model_folder(state, "digits")
    assert folder.standing().running.number == 8  # type: ignore[union-attr]
    assert not list((state / "incoming").glob("*.carried"))
    monkeypatch.setattr(incoming_stick, "start_door", lambda _order: pytest.fail("taken in twice"))
    watched.look()
    folder.commit()
    for again in (watched, watch(stick, state)):
        again.look()
        assert states(stick)[1] == ("pi-1", "committed")
    folder.roll_back("too hot")  # of what is committed: nothing failed
    for verdict in stick.rglob("*.verdict"):
        verdict.unlink()
    watched.look()
    assert states(stick)[1][1] == "committed"


def test_a_rollback_later_is_told_with_its_reason(stick: Path, state: Path, tmp_path: Path) -> None:
    put(stick, make_bundle(tmp_path / "8.bundle", version=8))
    watch(stick, state).look()
    model_folder(state, "digits").roll_back("p95 of 40 ms is over 20 ms")
    watch(stick, state).look()
    (told,) = stick_states(stick)
    assert (told.device, told.state, told.reason) == ("pi-1", "rolled back", "p95 of 40 ms is over 20 ms")
    assert told.is_bad


@pytest.mark.parametrize("wrong", [*map(_slow, ("older", "unsigned", "cut", "slow")), "flipped", "swapped"])
def test_what_the_door_refuses_is_told_and_nothing_runs(stick: Path, state: Path, tmp_path: Path, wrong: str) -> None:
    bundle = make_bundle(tmp_path / "8.bundle", version=6 if wrong == "older" else 8)
    budget = {"max_p95_ms": 1e-5} if wrong == "slow" else {}
    offer = put(stick, bundle, **budget)
    path = stick / BUNDLES / f"{offer.stem}.bundle"
    content = bytearray(path.read_bytes())
    if wrong == "unsigned":
        unsigned = make_bundle(tmp_path / "u.bundle", version=8, signed=False)
        (stick / BUNDLES / f"{offer.stem}.offer").unlink()
        offer = put(stick, unsigned)
    elif wrong == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif wrong == "cut":
        path.write_bytes(content[:-10])
    elif wrong == "swapped":
        path.unlink()
        path.symlink_to("/etc/passwd")
    watched = watch(stick, state)
    watched.look()
    (told,) = stick_states(stick)
    assert told.state == ("failed" if wrong in ("flipped", "cut", "unsigned", "swapped") else "refused"), told
    assert told.reason and watched.heard()
    assert model_folder(state, "digits").standing().running.number == 7  # type: ignore[union-attr]


def test_a_full_disk_is_told_and_tried_again_later(
    stick: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(stick, make_bundle(tmp_path / "8.bundle", version=8))
    watched = watch(stick, state)

    def no_room(_folder: Path, _bytes: int) -> None:
        raise DeviceError("the disk has no room")

    with monkeypatch.context() as patched:
        patched.setattr(incoming_stick, "check_room", no_room)
        watched.look()
        watched.look()
    assert stick_states(stick)[0].reason == "the disk has no room"
    assert len(watched.heard()) == 1
    watched._not_before_s.clear()
    watched.look()
    assert states(stick) == [("pi-1", "trial")]


def test_a_stick_that_is_not_there_or_full_of_nonsense_hurts_nobody(stick: Path, state: Path, tmp_path: Path) -> None:
    watched = watch(tmp_path / "nowhere", state)
    watched.look()
    assert watched.heard() == []
    folder = stick / BUNDLES
    folder.mkdir()
    (folder / "a.offer").write_bytes(os.urandom(100))
    (folder / "b.offer").symlink_to("/etc/passwd")
    os.mkfifo(folder / "c.offer")
    (folder / "d.offer").write_bytes(b"[" * 100_000)
    (folder / "e.offer.part").write_bytes(b"half")
    watched = watch(stick, state)
    watched.look()
    watched.look()
    assert len(watched.heard()) == 4
    assert stick_states(stick) == []


def test_another_offer_of_the_same_replaces_it_and_others_stay(stick: Path, tmp_path: Path) -> None:
    eight, nine = (make_bundle(tmp_path / f"{n}.bundle", version=n) for n in (8, 9))
    put(stick, eight)
    put(stick, eight, "pi-2")
    put(stick, nine)
    assert sorted((o.version, o.devices) for o in offers_on(stick) if isinstance(o, CarriedOffer)) == [
        (8, ("pi-2",)), (9, ()),
    ]  # fmt: skip
    assert len(list((stick / BUNDLES).iterdir())) == 4


def test_a_stick_pulled_while_it_is_written_has_no_offer(
    stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "8.bundle", version=8)
    with monkeypatch.context() as patched:
        calls = iter([None, None, OSError(5, "Input/output error")])

        def fsync(descriptor: int) -> None:
            if error := next(calls, None):
                raise error

        patched.setattr(os, "fsync", fsync)
        with pytest.raises(DeviceError, match="Input/output error"):
            put(stick, bundle)
    assert list(offers_on(stick)) == []
    put(stick, bundle)
    assert states(stick) == [("", "waiting")]


@given(st.binary(max_size=300) | st.dictionaries(st.text(max_size=8), st.integers()).map(json.dumps).map(str.encode))
def test_a_hostile_offer_is_a_data_error(data: bytes) -> None:
    with pytest.raises(DataError):
        decode_offer(data)


def test_an_offer_comes_back_as_it_was() -> None:
    offer = CarriedOffer("0" * 16, "ic", 8, "d" * 16, "a" * 64, 5, 9, ("pi-1",), 20.0, None)
    assert decode_offer(encode_offer(offer)) == offer
    hostile = json.loads(encode_offer(offer))
    for change in ({"id": "../x"}, {"devices": "pi-1"}, {"bytes": -1}, {"format": "x"}, {"new": 1}, {"name": 3}):
        with pytest.raises(DataError):
            decode_offer(json.dumps({**hostile, **change}).encode())


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    found = Agents(tmp_path)
    yield found
    found.close()


@pytest.mark.slow
def test_a_running_agent_finds_the_stick(stick: Path, state: Path, tmp_path: Path, agents: Agents) -> None:
    np.savez(tmp_path / "x.npz", x=frames(20))
    settings: dict[str, Any] = {
        "bundle": str(model_folder(state, "digits").current), "source": f"npz:{tmp_path / 'x.npz'}", "loop": True,
        "rate": 50, "device": "pi-1", "trial": 1, "stick": str(stick),
    }  # fmt: skip
    config = tmp_path / "agent.toml"
    config.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items()))
    agent = agents.start("--config", config)
    agent.wait_until_said("runs on")
    put(stick, make_bundle(tmp_path / "8.bundle", version=8))
    agent.wait_until(lambda: states(stick) == [("pi-1", "committed")], "committed")
    time.sleep(0.1)
    agent.stop()
