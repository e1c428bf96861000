"""A repository as a device sees it: made, published into, steered."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest

pytest.importorskip("tuf", reason="tuf is missing: scripts/setup")

from edgeloop.bundle import load_or_create_signing_key
from edgeloop.bundle.packer import allow_older
from edgeloop.bundle.trust import TrustStore
from edgeloop.deploy.release.change import Change
from edgeloop.deploy.release.publish import publish, verified
from edgeloop.deploy.release.repository import Repository, expires_soon, locked
from edgeloop.errors import RefusedError, UsageError
from support.bundles import small_bundle
from support.releasing import NOW, Device, bundle_of, key_in, new_repository, ring, take_in


@pytest.fixture
def key(tmp_path):
    return key_in(tmp_path / "key")


@pytest.fixture
def repo(tmp_path, key):
    return new_repository(tmp_path / "repo", key)


def test_a_device_gets_what_was_published(tmp_path, repo, key):
    bundle = bundle_of(tmp_path, key, 7)
    take_in(repo, key, bundle, percent=10, tags=("hall",), p95_ms=20)
    device = Device(tmp_path / "device", repo)
    channel = device.channel()
    (offer,) = channel.offers
    assert (channel.serial, offer.percent, offer.tags, offer.p95_ms, offer.for_target) == (1, 10, ("hall",), 20, "rpi4")
    assert device.fetch(offer.target_path) == bundle.read_bytes()
    assert offer.sha256 == hashlib.sha256(bundle.read_bytes()).hexdigest()


def test_a_second_version_is_offered_beside_the_first_and_few_are_kept(tmp_path, repo, key):
    for version in (7, 8, 9, 12):
        take_in(repo, key, bundle_of(tmp_path, key, version))
    device = Device(tmp_path / "device", repo)
    assert [offer.version for offer in device.channel().offers] == [8, 9, 12]
    assert device.fetch("ic/ic-7.bundle")


def test_no_change_costs_one_small_file(tmp_path, repo, key):
    take_in(repo, key, bundle_of(tmp_path, key, 7))
    device = Device(tmp_path / "device", repo)
    device.channel()
    device.fetched.clear()
    device.updater()
    assert [name.rpartition("/")[2] for name in device.fetched] == ["2.root.json", "timestamp.json"]
    assert (repo / "metadata/timestamp.json").stat().st_size < 700


def test_a_bundle_with_an_exception_is_not_published(tmp_path):
    own = load_or_create_signing_key()
    bundle = bundle_of(tmp_path, own, 7)
    allow_older(bundle, own, ["pi-1"])
    with pytest.raises(UsageError, match="carries an exception"):
        verified(bundle)


def test_what_is_not_signed_or_damaged_is_not_taken(tmp_path, repo, key):
    with pytest.raises(RefusedError, match="not signed"):
        take_in(repo, key, bundle_of(tmp_path, None, 7))
    stranger = key_in(tmp_path / "stranger")
    with pytest.raises(RefusedError, match="not trusted"):
        take_in(repo, key, bundle_of(tmp_path, stranger, 8))
    damaged = bundle_of(tmp_path, key, 9)
    raw = bytearray(damaged.read_bytes())
    raw[len(raw) // 2] ^= 1
    damaged.write_bytes(raw)
    with pytest.raises(RefusedError):
        take_in(repo, key, damaged)
    assert Repository.load(repo).channels() == {}


def test_a_version_has_one_content_and_goes_up(tmp_path, repo, key):
    take_in(repo, key, bundle_of(tmp_path, key, 7))
    with pytest.raises(RefusedError, match="other bytes"):
        take_in(repo, key, bundle_of(tmp_path, key, 7, b"x"))
    with pytest.raises(UsageError, match="offers ic version 7 already"):
        take_in(repo, key, bundle_of(tmp_path, key, 7))
    older = bundle_of(tmp_path, key, 6)
    with pytest.raises(UsageError, match="newer than 6"):
        take_in(repo, key, older)
    take_in(repo, key, older, older=True)
    assert not take_in(repo, key, bundle_of(tmp_path, key, 7), "beta").is_new


def test_a_name_that_is_a_folder_of_ours_is_refused(tmp_path, repo, key):
    with pytest.raises(UsageError, match="channels"):
        take_in(repo, key, small_bundle(tmp_path, key, name="channels"))


def test_what_no_device_would_read_is_not_published(tmp_path, repo, key):
    with pytest.raises(RefusedError, match="for_target"):
        take_in(repo, key, bundle_of(tmp_path, key, 7, target="two\nlines"))
    take_in(repo, key, bundle_of(tmp_path, key, 8))


def test_two_at_once_are_refused(tmp_path, repo, key):
    with locked(repo), pytest.raises(UsageError, match="being changed"), locked(repo):
        pass


def test_nothing_is_written_before_the_end(tmp_path, repo, key):
    before = sorted(p.name for p in repo.rglob("*.json"))
    change = Change.of(Repository.load(repo), ring(key), NOW)
    publish(change, bundle_of(tmp_path, key, 7), "stable", trust=TrustStore.of(key.public_key))
    assert sorted(p.name for p in repo.rglob("*.json")) == before


def test_a_key_that_may_not_publish_is_told_which_may(tmp_path, repo, key):
    change = Change.of(Repository.load(repo), ring(key_in(tmp_path / "other")), NOW)
    publish(change, bundle_of(tmp_path, key, 7), "stable", trust=TrustStore.of(key.public_key))
    with pytest.raises(UsageError, match="publishers") as caught:
        change.commit()
    assert key.fingerprint in str(caught.value)


@pytest.mark.parametrize("name", ["timestamp.json", "1.models.json", "1.root.json"])
def test_a_repository_that_was_tampered_with_is_not_built_on(repo, name):
    path = repo / "metadata" / name
    path.write_text(path.read_text().replace('"version":1', '"version":3'))
    with pytest.raises(RefusedError):
        Repository.load(repo)


def test_a_lost_root_is_not_replaced_by_another(tmp_path, repo, key):
    take_in(repo, key, bundle_of(tmp_path, key, 7))
    (repo / "metadata/1.root.json").unlink()
    with pytest.raises(RefusedError, match="no root"):
        new_repository(repo, key)


def test_a_damaged_file_is_no_base_of_a_delta(tmp_path, repo, key):
    take_in(repo, key, bundle_of(tmp_path, key, 7))
    (damaged,) = repo.glob("targets/ic/*.bundle")
    damaged.write_bytes(b"x")
    with pytest.raises(RefusedError, match="not what was signed"):
        take_in(repo, key, bundle_of(tmp_path, key, 8))


def test_expiry_is_told_in_time(repo):
    repository = Repository.load(repo)
    assert expires_soon(repository, NOW) == {}
    assert set(expires_soon(repository, NOW + timedelta(days=25))) == {"channels", "snapshot", "timestamp"}
    assert len(expires_soon(repository, NOW + timedelta(days=300))) == 6
