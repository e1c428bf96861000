"""A publisher that is killed at any file operation leaves a repository that devices accept: the old one or the new."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tuf", reason="tuf is missing: scripts/setup")

from edgeloop.bundle.trust import TrustStore
from edgeloop.deploy.release.change import Change
from edgeloop.deploy.release.publish import publish
from edgeloop.deploy.release.repository import Repository, locked
from edgeloop.deploy.release.setup import read_groups, with_key, without_key
from support.releasing import NOW, Device, bundle_of, key_in, new_repository, ring, take_in

GROUPS = ("owners", "publishers", "online")
KILLED = 9


def killed_at(operation: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is gone before its file operation of that number; whether it came so far."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **kwargs: object) -> object:
                nonlocal count
                if count == operation:
                    os._exit(KILLED)
                count += 1
                return function(*args, **kwargs)

            return call

        for name in ("fsync", "replace", "link", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


@pytest.fixture
def prepared(tmp_path):
    key = key_in(tmp_path / "key")
    repo = new_repository(tmp_path / "before", key)
    take_in(repo, key, bundle_of(tmp_path, key, 7))
    device = Device(tmp_path / "known", repo)
    device.channel()
    return key, repo, device


def each_cut(tmp_path: Path, repo: Path, device: Device, work: Callable[[Path], object]) -> list[int]:
    """Kill the work at every operation; versions that a fresh and an old client then see."""
    seen = []
    for operation in range(200):
        place = tmp_path / f"cut{operation}"
        shutil.copytree(repo, place / "repo")
        shutil.copytree(device.folder, place / "known")
        was_killed = killed_at(operation, lambda place=place: work(place / "repo"))
        fresh, known = Device(place / "fresh", place / "repo", device.root), Device(place / "known", place / "repo")
        assert fresh.channel() == known.channel()
        newest = fresh.channel().offers[-1]
        assert fresh.fetch(newest.target_path)
        Repository.load(place / "repo")
        seen.append(newest.version)
        if not was_killed:
            return seen
    raise AssertionError("too many operations")


def test_publish_is_whole_or_nothing_and_can_be_repeated(tmp_path, prepared):
    key, repo, device = prepared
    bundle = bundle_of(tmp_path, key, 8)
    seen = each_cut(tmp_path, repo, device, lambda place: take_in(place, key, bundle))
    assert seen == sorted(seen) and {7, 8} == set(seen) and len(seen) > 10
    again = tmp_path / "cut9/repo"
    take_in(again, key, bundle)
    assert [*again.glob("metadata/.*"), *again.glob("targets/*/.*")] == []
    assert Device(tmp_path / "again", again).channel().offers[-1].version == 8


@pytest.mark.slow
def test_other_keys_come_without_a_gap(tmp_path, prepared):
    key, repo, device = prepared
    new = key_in(tmp_path / "new")

    def rotate(place: Path) -> None:
        with locked(place):
            repository = Repository.load(place)
            change = Change.of(repository, ring(key, new), NOW)
            groups = with_key(read_groups(repository), GROUPS, new.public_key)
            change.set_groups(without_key(groups, GROUPS, key.public_key.raw))
            publish(change, bundle_of(tmp_path, key, 8), "stable", trust=TrustStore.of(key.public_key))
            assert change.commit() == ()

    seen = each_cut(tmp_path, repo, device, rotate)
    assert seen == sorted(seen) and {7, 8} == set(seen)
