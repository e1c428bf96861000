"""Who may sign what: thresholds, keys that are elsewhere, keys that change. Judged by the client a device has."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("tuf", reason="tuf is missing: scripts/setup")

from edgeloop.bundle.trust import TrustStore
from edgeloop.cli.main import main
from edgeloop.deploy.release.change import Change
from edgeloop.deploy.release.publish import publish
from edgeloop.deploy.release.repository import Repository, locked
from edgeloop.deploy.release.roles import ONLINE, OWNERS, PUBLISHERS
from edgeloop.deploy.release.setup import create, finish, group_with, read_groups, with_key, without_key
from edgeloop.errors import UsageError
from support.releasing import NOW, Device, bundle_of, key_in, new_repository, ring, take_in

ALL = (OWNERS, PUBLISHERS, ONLINE)


@pytest.fixture
def keys(tmp_path):
    return {name: key_in(tmp_path / name) for name in ("alice", "bob", "builder", "server", "new")}


@pytest.fixture
def strict(tmp_path, keys):
    """Two owners who must both sign, elsewhere; one key to publish, one to steer."""
    groups = {
        OWNERS: group_with([keys["alice"].public_key, keys["bob"].public_key], 2),
        PUBLISHERS: group_with([keys["builder"].public_key]),
        ONLINE: group_with([keys["server"].public_key]),
    }
    repo = tmp_path / "repo"
    with locked(repo):
        missing = create(repo, groups, ring(keys["builder"], keys["server"]), NOW)
        assert {(m.role, m.count) for m in missing} == {("root", 2), ("targets", 2)}
    with pytest.raises(UsageError, match="no release repository"):
        Repository.load(repo)
    with locked(repo):
        assert {(m.role, m.count) for m in finish(repo, ring(keys["alice"]), NOW)} == {("root", 1), ("targets", 1)}
        assert finish(repo, ring(keys["bob"], keys["builder"], keys["server"]), NOW) == ()
    return repo


def changed(repo, keyring, groups):
    with locked(repo):
        change = Change.of(Repository.load(repo), keyring, NOW)
        change.set_groups(groups)
        return change.commit()


def test_owners_sign_elsewhere_and_publishers_without_them(tmp_path, strict, keys):
    with locked(strict):
        change = Change.of(Repository.load(strict), ring(keys["builder"], keys["server"]), NOW)
        trust = TrustStore.of(keys["builder"].public_key)
        publish(change, bundle_of(tmp_path, keys["builder"], 7), "stable", trust=trust)
        assert change.commit() == ()
    assert Device(tmp_path / "device", strict).channel().offers[0].version == 7


def test_who_steers_cannot_bring_anything_in(tmp_path, strict, keys):
    change = Change.of(Repository.load(strict), ring(keys["server"]), NOW)
    change.set_channel(Repository.load(strict).channel("stable"))
    assert change.commit() == ()
    change = Change.of(Repository.load(strict), ring(keys["server"]), NOW)
    publish(change, bundle_of(tmp_path, keys["builder"], 7), "stable", trust=TrustStore.of(keys["builder"].public_key))
    with pytest.raises(UsageError, match="publishers"):
        change.commit()


def test_an_owner_who_changes_keys_needs_the_other(tmp_path, strict, keys):
    groups = with_key(read_groups(Repository.load(strict)), (ONLINE,), keys["new"].public_key)
    everything = ring(keys["alice"], keys["builder"], keys["server"])
    assert {m.role for m in changed(strict, everything, groups)} == {"root", "targets"}
    device = Device(tmp_path / "device", strict)
    device.updater()  # still the old ones
    with locked(strict):
        assert finish(strict, ring(keys["bob"], keys["server"]), NOW) == ()
    device.updater()
    assert len(read_groups(Repository.load(strict))[ONLINE].keys) == 2


def test_the_last_owner_may_be_far_from_the_other_keys(tmp_path, strict, keys):
    groups = with_key(read_groups(Repository.load(strict)), (ONLINE,), keys["new"].public_key)
    changed(strict, ring(keys["alice"]), groups)
    with locked(strict):
        missing = finish(strict, ring(keys["bob"]), NOW)
        assert {m.role for m in missing} == {"snapshot", "timestamp"}
        assert finish(strict, ring(keys["server"]), NOW) == ()
    Device(tmp_path / "device", strict).updater()


def test_what_was_prepared_before_another_change_is_refused(strict, keys):
    groups = read_groups(Repository.load(strict))
    changed(strict, ring(keys["alice"]), with_key(groups, (ONLINE,), keys["new"].public_key))
    staged = strict / ".edgeloop/staged/root.json"
    kept = staged.read_bytes()
    every = ring(*keys.values())
    assert changed(strict, every, with_key(groups, (PUBLISHERS, ONLINE), keys["new"].public_key)) == ()
    staged.write_bytes(kept)
    with locked(strict), pytest.raises(UsageError, match="was changed since"):
        finish(strict, every, NOW)


def test_a_group_that_could_never_sign_is_refused(strict, keys):
    groups = without_key(read_groups(Repository.load(strict)), (OWNERS,), keys["bob"].public_key.raw)
    with pytest.raises(UsageError, match="owners have 1 keys, 2 must sign"):
        changed(strict, ring(*keys.values()), groups)


@pytest.mark.parametrize("groups_changed", [ALL, (OWNERS,), (PUBLISHERS,), (ONLINE,)])
def test_a_key_is_replaced_and_devices_follow(tmp_path, keys, groups_changed):
    old, new = keys["alice"], keys["new"]
    repo = new_repository(tmp_path / "repo", old)
    take_in(repo, old, bundle_of(tmp_path, old, 7))
    device = Device(tmp_path / "device", repo)
    device.channel()
    groups = without_key(
        with_key(read_groups(Repository.load(repo)), groups_changed, new.public_key), groups_changed, old.public_key.raw
    )
    assert changed(repo, ring(old, new), groups) == ()
    assert device.channel().offers[0].version == 7
    assert Device(tmp_path / "fresh", repo, device.root).fetch("ic/ic-7.bundle")
    if groups_changed == ALL:
        with pytest.raises(UsageError, match="key is not at hand"):
            take_in(repo, old, bundle_of(tmp_path, old, 8))


def test_the_verbs(tmp_path, keys, capsys):
    repo, alice, new = str(tmp_path / "r"), keys["alice"], keys["new"]
    signed = ["--key", str(alice.path)]
    assert main(["release", "init", repo, *signed, "--days", "timestamp=7"]) == 0
    assert main(["release", "keys", repo, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["groups"]["online"] == {"threshold": 1, "keys": [alice.fingerprint]}
    rotate = ["release", "keys", repo, "rotate", alice.fingerprint, str(new.public_path)]
    assert main([*rotate, *signed, "--key", str(new.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"]["owners"]["keys"] == [new.fingerprint]
    assert main(["release", "refresh", repo, "--key", str(new.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds_left"]["timestamp"] <= 7 * 86400
    assert main(["release", "keys", repo, "revoke", new.fingerprint, "--key", str(new.path)]) == 2
    assert main(["release", "keys", repo, "revoke", "ffff"]) == 2
    add = ["release", "keys", repo, "add", str(alice.public_path), "--group", "owners", "--key", str(new.path)]
    assert main(add) == 0
    assert main(["release", "keys", repo, "set", "--group", "owners", "--threshold", "3", "--key", str(new.path)]) == 2
    capsys.readouterr()
    threshold = ["release", "keys", repo, "set", "--group", "owners", "--threshold", "2", "--key", str(new.path)]
    assert main([*threshold, "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["live"]
    assert main(["release", "sign", repo, *signed, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"][0]["role"] == "snapshot"
    assert main(["release", "sign", repo, "--key", str(new.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"]["owners"]["threshold"] == 2
    assert main(["release", "sign", repo, "--key", str(new.path)]) == 2
