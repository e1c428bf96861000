"""A far end that is not to be trusted, or is of no use: one line, the right exit code, and what runs is untouched.

Every attack is on a real server; afterwards the honest one is there again, and nothing it sends is taken for wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edgeloop.errors import EXIT_DEVICE, EXIT_REFUSED, EdgeloopError
from edgeloop.version import BUILT
from edgeloop_agent.release.clock import reference_time
from edgeloop_agent.release.http_files import Patience
from edgeloop_agent.release.pull import FOLDER
from support.bundles import NO_MODEL
from support.pulling import HASTY, Fleet
from support.release_server import (
    Misbehave,
    claiming,
    cut_after,
    dripping,
    dripping_head,
    endless,
    redirect_to,
    serving,
    silent,
)
from support.releasing import NOW, key_in, new_repository, take_in
from support.retrained import bundle_of, model_bytes, retrained

METADATA = r"timestamp\.json"
FILE = r"[0-9a-f]{64}\.ic-8\.bundle"


def met(fleet: Fleet, **more: datetime) -> tuple[int, str]:
    """(exit code, line) of a poll that must not bring anything."""
    try:
        pulled = fleet.pull(**more)  # type: ignore[arg-type]
    except EdgeloopError as error:
        code, line = error.exit_code, error.message
    else:
        (model,) = pulled.models
        code, line = pulled.exit_code, model.reason
    assert fleet.running == 7 and not fleet.offered
    assert line and "\n" not in line and len(line) < 300
    return code, line


def is_well_again(fleet: Fleet) -> None:
    fleet.server.misbehaving.clear()
    fleet.pull()
    assert fleet.running == 8


def replaced(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def target_file(fleet: Fleet) -> Path:
    (found,) = (fleet.repo / "targets/ic").glob("*.ic-8.bundle")
    return found


TAMPERED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "one byte": (lambda raw: raw[:-50] + bytes([raw[-50] ^ 1]) + raw[-49:], "is not the file that was signed"),
    "longer": (lambda raw: raw + b"more", "not what was signed"),
    "shorter": (lambda raw: raw[:-20], "not what was signed"),
    "empty": (lambda raw: b"", "not what was signed"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_file(fleet: Fleet, how: str) -> None:
    fleet.publish(8)
    change, line = TAMPERED[how]
    honest = target_file(fleet).read_bytes()
    replaced(target_file(fleet), change)
    code, said = met(fleet)
    assert code == EXIT_REFUSED and line in said
    target_file(fleet).write_bytes(honest)
    is_well_again(fleet)


def test_a_file_that_was_tampered_with_behind_what_came_before(fleet: Fleet) -> None:
    """The first half came from the honest server."""
    fleet.publish(8)
    honest = target_file(fleet).read_bytes()
    first = cut_after(600, fleet.repo)
    fleet.server.misbehaving[FILE] = lambda answer: answer.say(503) if answer.start else first(answer)
    assert met(fleet)[0] == EXIT_DEVICE
    fleet.server.misbehaving.clear()
    target_file(fleet).write_bytes(honest[:600] + bytes(len(honest) - 600))
    assert met(fleet)[0] == EXIT_REFUSED
    target_file(fleet).write_bytes(honest)
    is_well_again(fleet)


@pytest.mark.parametrize("role", ["timestamp.json", "*.snapshot.json", "*.targets.json", "*.models.json"])
def test_tampered_metadata(fleet: Fleet, role: str) -> None:
    fleet.publish(8)
    newest = max(
        (fleet.repo / "metadata").glob(role),
        key=lambda path: int(path.name.partition(".")[0].replace("timestamp", "0")),
    )
    honest = newest.read_bytes()
    said = json.loads(honest)
    said["signed"]["version"] += 1
    newest.write_bytes(json.dumps(said).encode())
    code, line = met(fleet)
    assert code == EXIT_REFUSED and ("not signed by the trusted keys" in line or "not what was signed" in line)
    newest.write_bytes(honest)
    is_well_again(fleet)


@pytest.mark.parametrize("garbage", [b"", b"{}", b"\xff\xfe", b"[" * 5000, b'{"signed": {}, "signatures": []}'])
def test_metadata_that_are_none(fleet: Fleet, garbage: bytes) -> None:
    fleet.publish(8)
    fleet.server.misbehaving[METADATA] = lambda answer: answer.say(200, garbage)
    code, line = met(fleet)
    assert code == EXIT_REFUSED and "127.0.0.1" in line
    is_well_again(fleet)


def test_rollback(fleet: Fleet, tmp_path: Path) -> None:
    """The repository as it was before, with signatures that still hold."""
    shutil.copytree(fleet.repo, tmp_path / "before")
    fleet.publish(8, percent=0.0)
    fleet.pull()
    with serving(tmp_path / "before") as old:
        fleet.url = old.url
        code, line = met(fleet)
    assert code == EXIT_REFUSED and "older than what was seen or signed before" in line


def test_freeze(fleet: Fleet) -> None:
    """The same metadata for ever: they end by themselves."""
    fleet.publish(8)
    code, line = met(fleet, now=NOW + timedelta(days=4000))
    assert code == EXIT_REFUSED and "out of date" in line
    is_well_again(fleet)


def test_mix_and_match(fleet: Fleet) -> None:
    """A snapshot and targets of other states than the timestamp says."""
    metadata = fleet.repo / "metadata"
    former = {role: max(metadata.glob(f"*.{role}.json")).read_bytes() for role in ("snapshot", "models")}
    fleet.publish(8)
    for role, old in former.items():
        fleet.server.misbehaving[rf"\d+\.{role}\.json"] = lambda answer, old=old: answer.say(200, old)
        code, line = met(fleet)
        assert code == EXIT_REFUSED and "signed" in line, line
        fleet.server.misbehaving.clear()
    is_well_again(fleet)


def test_another_key(fleet: Fleet, tmp_path: Path) -> None:
    """A whole repository, well made, by somebody else."""
    stranger = key_in(tmp_path / "strangers")
    repo = new_repository(tmp_path / "other", stranger)
    take_in(repo, stranger, fleet_bundle(fleet, tmp_path, stranger))
    with serving(repo) as server:
        fleet.url = server.url
        code, line = met(fleet)
    assert code == EXIT_REFUSED and "not signed by the trusted keys" in line


def fleet_bundle(fleet: Fleet, tmp_path: Path, key: object) -> Path:
    bundle = tmp_path / "stranger.bundle"
    bundle_of(bundle, NO_MODEL, key, 8, name="ic")  # type: ignore[arg-type]
    return bundle


MISBEHAVING: dict[str, tuple[str, Misbehave, int, str]] = {
    "endless metadata": (METADATA, endless, EXIT_REFUSED, "does not say how long"),
    "huge metadata": (METADATA, claiming(1 << 40), EXIT_REFUSED, "are allowed"),
    "endless file": (FILE, endless, EXIT_REFUSED, "does not say how long"),
    "huge file": (FILE, claiming(1 << 40), EXIT_REFUSED, "are allowed"),
    "dripping metadata": (METADATA, dripping, EXIT_DEVICE, "too slow"),
    "dripping file": (FILE, dripping, EXIT_DEVICE, "too slow"),
    "headers without end": (METADATA, dripping_head, EXIT_DEVICE, "too slow"),
    "silence": (METADATA, silent, EXIT_DEVICE, "too slow"),
    "no metadata": (METADATA, lambda answer: answer.say(404), EXIT_DEVICE, "404"),
    "no file": (FILE, lambda answer: answer.say(404), EXIT_DEVICE, "404"),
    "a server in trouble": (METADATA, lambda answer: answer.say(503, b"x" * 100_000), EXIT_DEVICE, "503"),
    "no HTTP": (METADATA, lambda answer: answer.write(b"220 mail ready\r\n\r\n"), EXIT_DEVICE, "mail"),
    "nothing": (METADATA, lambda answer: answer.hang_up(), EXIT_DEVICE, "timestamp"),
    "metadata elsewhere": (METADATA, redirect_to("http://127.0.0.2:9/x"), EXIT_REFUSED, "to another server"),
    "a file elsewhere": (FILE, redirect_to("//example.invalid/ic-8.bundle"), EXIT_REFUSED, "to another server"),
    "a file from this disk": (FILE, redirect_to("file:///etc/passwd"), EXIT_REFUSED, "to another server"),
    "round and round": (FILE, redirect_to("?again"), EXIT_REFUSED, "from one place to the next"),
}


@pytest.mark.parametrize("what", MISBEHAVING)
def test_a_far_end_of_no_use(fleet: Fleet, what: str) -> None:
    fleet.publish(8)
    name, misbehave, exit_code, said = MISBEHAVING[what]
    fleet.server.misbehaving[name] = misbehave
    if said == "too slow":
        fleet.patience = HASTY
    code, line = met(fleet)
    assert (code, said in line) == (exit_code, True), line
    fleet.patience = Patience()
    is_well_again(fleet)


def test_nobody_listens(fleet: Fleet) -> None:
    fleet.url = "http://127.0.0.1:9"
    code, line = met(fleet)
    assert code == EXIT_DEVICE and "refused" in line
    fleet.url = ""
    fleet.publish(8)
    is_well_again(fleet)


def test_a_move_on_the_same_server_is_followed(fleet: Fleet) -> None:
    fleet.publish(8)
    fleet.server.misbehaving[FILE] = redirect_to(f"/targets/ic/moved?to={target_file(fleet).name}")
    content = target_file(fleet).read_bytes()
    fleet.server.misbehaving["moved"] = lambda answer: answer.say(200, content)
    fleet.pull()
    assert fleet.running == 8


def test_a_clock_that_was_never_set(fleet: Fleet) -> None:
    """A board that thinks it is 1970 still gets its releases, and is not fooled with what ended before it was built."""
    long_ago = datetime(1970, 1, 1, tzinfo=timezone.utc)
    fleet.publish(8)
    fleet.pull(now=long_ago)
    assert fleet.running == 8


def test_what_ended_before_the_agent_was_built_is_refused_by_any_clock(fleet: Fleet, tmp_path: Path) -> None:
    old = datetime(2020, 1, 1, tzinfo=timezone.utc)
    repo = new_repository(tmp_path / "old", fleet.key, old)
    take_in(repo, fleet.key, fleet_bundle(fleet, tmp_path, fleet.key), now=old)
    (fleet.state / FOLDER / "root.json").write_bytes((repo / "metadata/1.root.json").read_bytes())
    shutil.rmtree(fleet.state / FOLDER / "metadata", ignore_errors=True)
    with serving(repo) as server:
        fleet.url = server.url
        code, line = met(fleet, now=datetime(1970, 1, 1, tzinfo=timezone.utc))
    assert code == EXIT_REFUSED and "out of date" in line


def test_the_clock_is_believed_when_it_is_ahead() -> None:
    built = datetime.fromisoformat(BUILT).replace(tzinfo=timezone.utc)
    assert reference_time(built - timedelta(days=9)) == built
    assert reference_time(built + timedelta(days=9)) == built + timedelta(days=9)
    assert built < datetime.now(timezone.utc)


@pytest.mark.parametrize("lost", ["metadata/timestamp.json", "metadata/snapshot.json", "channel.json", "seen.json"])
def test_what_a_power_cut_left_of_our_own_files_is_made_anew(fleet: Fleet, lost: str) -> None:
    fleet.pull()
    (fleet.state / FOLDER / lost).write_bytes(b"")
    fleet.publish(8)
    is_well_again(fleet)


@pytest.mark.parametrize("plain", [False, True], ids=["libcrypto", "pure Python"])
def test_without_cryptography_as_on_boards(fleet: Fleet, plain: bool) -> None:
    """The whole poll, signatures of wrong metadata included."""
    no_libcrypto = "from edgeloop_agent.release import signatures; signatures.libcrypto_verify = lambda: None; "
    code = f"import sys; sys.modules['cryptography'] = None; {no_libcrypto if plain else ''}" + (
        "from edgeloop_agent.cli import main; sys.exit(main())"
    )
    asked = ["pull", "--json", "--state", str(fleet.state), "--release", fleet.server.url]

    def poll() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *asked], capture_output=True, text=True, timeout=60, env={**os.environ}
        )

    done = poll()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["models"][0]["state"] == "current"
    said = json.loads((fleet.repo / "metadata/timestamp.json").read_bytes())
    said["signed"]["version"] += 1
    (fleet.repo / "metadata/timestamp.json").write_text(json.dumps(said))
    done = poll()
    assert done.returncode == EXIT_REFUSED and json.loads(done.stdout)["error"]["exit_code"] == EXIT_REFUSED
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("bad", ["garbage", "cut", "of another model"])
def test_a_delta_that_was_signed_and_leads_elsewhere(
    fleet: Fleet, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publisher's mistake, or a publisher's key in wrong hands: the full file is taken, and not twice tried."""
    from edgeloop.release import delta

    honest = delta.make_delta

    def made(old: Path, new: Path) -> bytes | None:
        right = honest(old, new)
        if right is None:  # from version 7, which is another model
            return None
        if bad == "of another model":
            bundle_of(tmp_path / "other.bundle", retrained(model)["5 % of the weights"], fleet.key, 9, name="ic")
            right = honest(old, tmp_path / "other.bundle") or b""
        return {"garbage": b"x" * 900, "cut": right[:-100]}.get(bad, right)

    monkeypatch.setattr(delta, "make_delta", made)
    model = model_bytes(60_000)
    fleet.install(fleet.publish(8, model))
    content = fleet.publish(9, retrained(model)["all, by a step"]).read_bytes()
    (pulled,) = fleet.pull().models
    assert (pulled.state, pulled.way, fleet.offered) == ("trial", "full", [content])
    assert [name.partition(".")[2][:4] for name in fleet.server.targets_asked[-2:]] == ["from", "bund"]
