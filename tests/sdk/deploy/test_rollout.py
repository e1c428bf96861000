"""The decisions of `deploy` that need no device: many hosts, a config that is changed, a verdict."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.deploy.agent_settings import changed_config
from edgeloop.deploy.rollout import Pace, roll_out
from edgeloop.deploy.verdict import Bad, Pending, Well, judge
from edgeloop.errors import DeviceError, EdgeloopError, UsageError
from edgeloop.tomlfile import parse_toml

HOSTS = [f"ssh://pi@{number}" for number in range(12)]
LINK = "/var/lib/edgeloop/agent/installed/ic/current.bundle"


def states(bad: set[int], **pace: int) -> str:
    """A letter per host: done, failed or skipped."""

    def work(url: str) -> str:
        if HOSTS.index(url) in bad:
            raise DeviceError("no answer")
        return "well"

    outcomes = roll_out(HOSTS, work, Pace(**pace))
    assert [outcome.url for outcome in outcomes] == HOSTS
    return "".join("d" if o.done else "f" if o.error else "-" for o in outcomes)


def test_a_canary_that_fails_keeps_all_others_as_they_are() -> None:
    assert states({0}, canary=1) == "f" + "-" * 11
    assert states({1}, canary=2, max_failures=5) == "df" + "-" * 10
    assert states(set(), canary=12) == "d" * 12


def test_no_host_is_begun_after_too_many_failures() -> None:
    assert states({3}, parallel=1) == "dddf" + "-" * 8
    assert states({3, 5}, parallel=1, max_failures=1) == "dddfdf" + "-" * 6
    assert states({3, 5}, parallel=1, max_failures=2) == "dddfdfdddddd"


@given(st.sets(st.integers(0, 11)), st.integers(1, 5), st.integers(0, 12), st.integers(0, 3))
def test_never_more_failures_than_allowed_and_those_under_way(
    bad: set[int], at_once: int, canary: int, most: int
) -> None:
    got = states(bad, parallel=at_once, canary=canary, max_failures=most)
    assert got.count("f") <= max(1, most + at_once)
    if len(bad) <= most and not any(number < canary for number in bad):
        assert "-" not in got


def test_so_many_run_at_once_and_no_more() -> None:
    gate, running, most = threading.Barrier(3, timeout=60), set(), [0]

    def work(url: str) -> None:
        running.add(url)
        most[0] = max(most[0], len(running))
        gate.wait()
        running.discard(url)

    roll_out(HOSTS, work, Pace(parallel=3))
    assert most[0] == 3


def test_wrong_use_is_said_before_anything() -> None:
    with pytest.raises(UsageError, match="named twice"):
        roll_out(["ssh://a", "ssh://a"], lambda _url: None, Pace())
    with pytest.raises(UsageError):
        Pace(parallel=0)


def test_a_config_keeps_what_was_not_named() -> None:
    text = '# mine\nsource = "camera:0"  # the door\nthreads = 2\n\n[hard_samples]\nsource = "x"\n'
    changed = changed_config(text, LINK, {"telemetry": "http://c:1"}, {"state": "/s"})
    assert changed.startswith('# mine\nsource = "camera:0"  # the door\nthreads = 2\n')
    assert changed.endswith('[hard_samples]\nsource = "x"\n')
    assert parse_toml(changed, "")["bundle"] == LINK
    assert changed_config(changed, LINK, {}, {"state": "/other"}) == changed
    assert parse_toml(changed_config(changed, LINK, {"source": "csi:"}, {}), "")["source"] == "csi:"
    assert parse_toml(changed_config(None, LINK, {"source": 'a"\\b'}, {}), "") == {"bundle": LINK, "source": 'a"\\b'}


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        (None, {}, "no|none"),
        ("threads = 1\n", {}, "names none"),
        ('bundle = "/x.bundle"\nsource = "csi:"\n', {}, "another bundle"),
        ('[model.a]\nbundle = "/x"\nsource = "csi:"\n', {}, "several models"),
        (f'[model.a]\nbundle = "{LINK}"\nsource = "csi:"\n', {"source": "camera:0"}, "which of"),
        (f'bundle = "{LINK}"\nsource = "csi:"\ntelemetry = [\n "a",\n "b"]\n', {"telemetry": "c"}, "safely"),
        ("= 1", {}, "agent config"),
    ],
)
def test_a_config_that_says_otherwise_is_left_alone(text: str | None, given: dict[str, Any], said: str) -> None:
    with pytest.raises(EdgeloopError, match=said):
        changed_config(text, LINK, given, {})


def test_it_is_well_when_it_is_committed_and_runs() -> None:
    new, old = {"number": 8, "digest": "b"}, {"number": 7, "digest": "a"}
    runs = {"models": [{"bundle": "ic", "version": 8, "phase": "running"}]}

    def verdict(running: Any, committed: Any, status: Any = runs, **more: Any) -> Any:
        return judge("ic", "b", 8, {"running": running, "committed": committed, **more}, status)

    assert verdict(new, new) == Well()
    assert isinstance(verdict(new, old, on_trial=True), Pending)
    assert verdict(new, new, {}) == Pending("no agent answers")
    assert isinstance(verdict(new, new, {"models": [{"bundle": "ic", "version": 7, "phase": "running"}]}), Pending)
    assert verdict(old, old, failed={"b": "too slow"}) == Bad("too slow")
    assert isinstance(verdict(old, old), Bad)
    assert isinstance(judge("ic", "b", 8, {}, {}), Pending)
