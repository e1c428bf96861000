"""The description of a channel, and who takes what of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import RefusedError
from edgeloop.release.channel import HALTED, Channel, Delta, Offer, delta_path
from edgeloop.release.cohort import best_offer, is_in

OLD = "ab" * 32
SEVEN = Offer("ic", 7, "0" * 64, 900_000, "rpi4")
EIGHT = Offer(
    "ic", 8, "1" * 64, 1_000_000, "rpi4", percent=12.5, tags=("kitchen",), p95_ms=20.0,
    deltas=(Delta(OLD, delta_path("ic", 8, OLD), 90_000),),
)  # fmt: skip
CHANNEL = Channel("stable", 3, (SEVEN, EIGHT))


def test_a_channel_survives_its_file():
    assert Channel.from_json(CHANNEL.to_json()) == CHANNEL
    assert EIGHT.target_path == "ic/ic-8.bundle"
    assert EIGHT.delta_from(OLD).target_path == "ic/ic-8.from-abababababababab.delta"
    assert EIGHT.delta_from("cd" * 32) is None


@pytest.mark.parametrize(
    ("where", "key", "value", "said"),
    [
        ((), "audience", "all", "newer edgeloop"),
        (("offers", 0), "after", 5, "newer edgeloop"),
        (("offers", 0), "state", "draining", "newer edgeloop"),
        (("offers", 0), "kind", "firmware", "newer edgeloop"),
        (("offers", 0), "kind", "agent", "'target_path'"),
        (("offers", 1, "deltas", 0), "dictionary", "x", "newer edgeloop"),
        ((), "schema", 2, "newer edgeloop"),
        ((), "format", "other", "no description"),
        ((), "channel", "../stable", "'channel'"),
        ((), "serial", -1, "'serial'"),
        ((), "offers", [1], "'offers'"),
        (("offers", 0), "target_path", "ic/../../etc/passwd", "'target_path'"),
        (("offers", 0), "version", 8, "'target_path'"),
        (("offers", 0), "version", True, "'version'"),
        (("offers", 0), "percent", 101, "'percent'"),
        (("offers", 0), "percent", 1e400, "'percent'"),
        (("offers", 0), "sha256", "0" * 63, "'sha256'"),
        (("offers", 0), "bytes", 0, "'bytes'"),
        (("offers", 0), "reason", "two\nlines", "'reason'"),
        (("offers", 0), "tags", ["a b"], "'tags'"),
        (("offers", 1, "deltas", 0), "target_path", "ic/ic-8.bundle", "'target_path'"),
    ],
)
def test_what_is_not_understood_is_refused(where, key, value, said):
    data = json.loads(CHANNEL.to_json())
    place = data
    for step in where:
        place = place[step]
    place[key] = value
    with pytest.raises(RefusedError, match=said):
        Channel.from_json(json.dumps(data).replace("Infinity", "1e400").encode())


def test_a_version_is_offered_once():
    with pytest.raises(RefusedError, match="twice"):
        Channel.from_json(Channel("stable", 1, (SEVEN, SEVEN)).to_json())


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=40).map(lambda cut: CHANNEL.to_json()[: -len(cut) - 1])))
def test_anything_else_is_refused_in_one_line(raw):
    with pytest.raises(RefusedError) as caught:
        Channel.from_json(raw)
    assert "\n" not in str(caught.value)


DEVICES = [f"rpi4-{i:05}" for i in range(4000)]


def test_a_share_of_the_devices_is_in_and_stays_in():
    def cohort(percent: float, version: int = 8) -> set[str]:
        return {d for d in DEVICES if is_in(d, "ic", version, percent)}

    assert cohort(0) == set() and cohort(100) == set(DEVICES)
    tenth = cohort(10)
    assert 0.085 < len(tenth) / len(DEVICES) < 0.115
    assert tenth < cohort(25) < cohort(50)
    assert len(tenth & cohort(10, version=9)) < 0.25 * len(tenth)


def test_tags_choose_devices():
    assert is_in("a", "ic", 8, 100, ("kitchen", "hall"), ("hall",))
    assert not is_in("a", "ic", 8, 100, ("kitchen",), ())
    assert is_in("a", "ic", 8, 100, (), ("hall",))


def test_the_highest_version_that_is_for_the_device_wins():
    channel = Channel("stable", 1, (SEVEN, replace(EIGHT, percent=100.0)))
    assert best_offer(channel, "ic", device="a", device_tags=("kitchen",)).version == 8
    assert best_offer(channel, "ic", device="a").version == 7
    assert best_offer(channel, "kws", device="a") is None
    assert best_offer(channel, "ic", device="a", strangers=("rpi4",)) is None
    halted = Channel("stable", 2, (SEVEN, replace(EIGHT, percent=100.0, state=HALTED)))
    assert best_offer(halted, "ic", device="a", device_tags=("kitchen",)).version == 7
