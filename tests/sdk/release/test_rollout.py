"""What devices say about versions, and when an offer is stopped for it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

pytest.importorskip("tuf", reason="tuf is missing: scripts/setup")

from edgeloop.bundle.package import PackageManifest, entry_of, write_package
from edgeloop.cli.main import main
from edgeloop.deploy.release.halting import Limits, halt_bad, judge, to_halt, watch_once
from edgeloop.deploy.release.repository import Repository
from edgeloop.deploy.release.rollout import DeviceState, EventLog, Progress, read_progress
from edgeloop.errors import UsageError
from edgeloop.release.channel import HALTED, PAUSED, Offer
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.reading import open_reader
from edgeloop.telemetry.report import Event
from edgeloop.telemetry.store import open_store
from support.collecting import make_report
from support.releasing import NOW, Device, bundle_of, key_in, new_repository, ring, take_in

OFFER = Offer("ic", 8, "1" * 64, 1000, "rpi4", p95_ms=20.0, since_s=100)


def seen(*states: str, time_s: float = 200.0, **more) -> Progress:
    devices = tuple(DeviceState(f"pi-{i}", state, "why", time_s) for i, state in enumerate(states))
    return Progress("stable", OFFER, devices, **more)


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (seen(), ""),
        (seen("committed", "trial", "failed", "runs"), ""),
        (seen("committed", "rolled back"), "1 of 2 devices went back or refused it: pi-1 rolled back: why"),
        (seen("refused"), "1 of 1 devices went back or refused it: pi-0 refused: why"),
        (seen("rolled back", time_s=99.0), ""),  # before it was resumed
        (seen(*["committed"] * 49, "rolled back"), ""),
        (seen(*["committed"] * 48, "rolled back", "rolled back"), "2 of 50 devices went back or refused it: pi-48"),
        (seen("committed", p95_ms=20.0, n=500), ""),
        (seen("committed", p95_ms=20.1, n=99), ""),
        (seen("committed", p95_ms=20.1, n=100), "p95 20.1 ms (n = 100), the budget is 20 ms"),
    ],
)
def test_an_offer_is_stopped_for_what_its_devices_say(progress, said):
    assert judge(progress, Limits()).startswith(said) and bool(judge(progress, Limits())) == bool(said)


def test_what_is_stopped_already_is_left():
    progress = seen("rolled back")
    assert to_halt([replace(progress, offer=replace(OFFER, state=PAUSED))], Limits()) == []


@pytest.fixture
def key(tmp_path):
    return key_in(tmp_path / "key")


@pytest.fixture
def repo(tmp_path, key):
    repo = new_repository(tmp_path / "repo", key)
    for version in (7, 8):
        take_in(repo, key, bundle_of(tmp_path, key, version), p95_ms=20, now=NOW - timedelta(days=3))
    return repo


@pytest.fixture
def telemetry(tmp_path):
    url = f"sqlite:///{tmp_path / 'telemetry.db'}"
    store = open_store(url)

    def report(seq: int, device: str, version: int, *events: tuple[str, str], ms: float = 5.0) -> None:
        latency = {"invoke": Histogram.of_ms([ms] * 60)}
        made = make_report(seq, device=device, version=version, latency=latency)
        time_s = NOW.timestamp() - 3600 + seq
        said = tuple(Event(kind, time_s, detail) for kind, detail in events)
        store.insert([replace(made, time_s=time_s, events=said)])

    yield url, report
    store.close()


def test_states_are_what_devices_said_last(repo, telemetry):
    url, report = telemetry
    report(1, "pi-0", 7)
    report(2, "pi-1", 8, ("update", "version 8 is on trial"))
    report(3, "pi-1", 8, ("committed", "version 8: well for 60 s and 99 inferences"), ms=9.0)
    report(4, "pi-2", 8, ("update", "version 8 is on trial"))
    report(5, "pi-2", 7, ("rollback", "version 8 to version 7: its worker failed"))
    report(6, "pi-3", 7, ("release", "ic 8 refused: golden samples differ"), ("release", "kws 8 refused: x"))
    reader = open_reader(url)
    new, old = read_progress(reader, Repository.load(repo).channels().values())
    reader.close()
    assert {d.device: (d.state, d.reason) for d in new.devices} == {
        "pi-1": ("committed", ""),
        "pi-2": ("rolled back", "its worker failed"),
        "pi-3": ("refused", "golden samples differ"),
    }
    assert new.waiting == ("pi-0",) and new.n == 180 and 8.5 < new.p95_ms < 9.5
    assert {d.device: d.state for d in old.devices} == {"pi-0": "runs", "pi-2": "runs", "pi-3": "runs"}


def test_an_agent_of_the_release_is_told_from_bundles(tmp_path, repo, key, telemetry):
    file = tmp_path / "fleet.agent"
    write_package(file, PackageManifest("agent", "fleet", 8, entry_of(b"x"), "aarch64", (3, 11)), b"x", key)
    with pytest.raises(UsageError, match="budget"):
        take_in(repo, key, file, p95_ms=3)
    assert take_in(repo, key, file).offer.for_target == "aarch64 python3.11"
    url, report = telemetry
    report(1, "pi-1", 7, ("committed", "agent version 8: well for 60 s"))
    report(2, "pi-2", 7, ("rollback", "agent version 8 to the installed one: it crashed"))
    report(3, "pi-3", 7, ("release", "fleet 8 refused: another Python"))
    reader = open_reader(url)
    found = {p.offer.name: p for p in read_progress(reader, Repository.load(repo).channels().values())}
    states = {d.device: d.state for d in found["fleet"].devices}
    assert states == {"pi-1": "committed", "pi-2": "rolled back", "pi-3": "refused"}
    (halt,) = watch_once(repo, reader, ring(key), NOW, Limits())
    assert (halt.name, halt.version) == ("fleet", 8)
    reader.close()


def test_a_rollback_halts_once_and_devices_see_it(tmp_path, repo, key, telemetry):
    url, report = telemetry
    report(1, "pi-1", 7, ("rollback", "version 8 to version 7: too slow while it ran"))
    reader = open_reader(url)
    log = EventLog()
    assert watch_once(repo, reader, ring(key), NOW, Limits(tolerated=1.0), log) == [] and len(log.events) == 1
    (halt,) = watch_once(repo, reader, ring(key), NOW, Limits(), log)
    assert len(log.events) == 1
    assert (halt.channel, halt.name, halt.version) == ("stable", "ic", 8)
    assert watch_once(repo, reader, ring(key), NOW, Limits()) == []
    reader.close()
    seven, eight = Device(tmp_path / "device", repo).channel().offers
    assert (seven.state, eight.state) == ("active", HALTED) and "too slow while it ran" in eight.reason


def test_watching_keeps_the_repository_fresh(repo, key, telemetry):
    reader = open_reader(telemetry[0])
    before = Repository.load(repo).metadata["timestamp"].signed.version
    later = NOW + timedelta(days=25)
    watch_once(repo, reader, ring(key), NOW, Limits())
    assert Repository.load(repo).metadata["timestamp"].signed.version == before
    watch_once(repo, reader, ring(key), later, Limits())
    assert Repository.load(repo).metadata["timestamp"].signed.expires > later
    reader.close()


def test_the_verbs(tmp_path, repo, key, telemetry, capsys):
    url, report = telemetry
    report(1, "pi-1", 7, ("rollback", "version 8 to version 7: too slow while it ran"))
    sign = ["--key", str(key.path)]
    assert main(["release", "watch", str(repo), "--telemetry", url, "--once", "--json", *sign]) == 1
    assert json.loads(capsys.readouterr().out)["halted"][0]["version"] == 8
    assert main(["release", "watch", str(repo), "--telemetry", url, "--once", *sign]) == 0
    assert main(["release", "status", str(repo), "--telemetry", url]) == 0
    shown = capsys.readouterr().out
    assert "1 of 1 devices went back" in shown and "pi-1: rolled back: too slow" in shown
    assert [line.split()[:5] for line in shown.splitlines() if "ic 8" in line] == [["ic", "8", "halted", "100", "%"]]
    assert main(["release", "watch", str(repo), "--telemetry", url, "--once"]) == 2
    assert "online group" in capsys.readouterr().err
    assert main(["release", "resume", str(repo), *sign]) == 0
    assert halt_bad(repo, [], ring(key), NOW) == []
    assert main(["release", "status", str(repo), "--telemetry", url, "--json"]) == 0
    newest = json.loads(capsys.readouterr().out.splitlines()[-1])["channels"]["stable"]["offers"][0]
    assert newest["state"] == "active" and newest["counts"]["rolled back"] == 1
