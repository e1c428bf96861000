"""A restart takes over what was verified, and nothing that anybody could have touched since."""

from __future__ import annotations

import json
import os
import time

import pytest

from edgeloop.bundle import Bundle, TrustStore, load_or_create_signing_key
from edgeloop.bundle.verified_mark import VALID_FOR_S, stage_verified
from edgeloop.errors import RefusedError
from support.bundles import members_of, small_bundle


@pytest.fixture
def verified(monkeypatch) -> list[str]:
    """Grows with every bundle whose members are really read."""
    calls: list[str] = []
    real = Bundle.verify
    monkeypatch.setattr(Bundle, "verify", lambda self: (calls.append(self.path.name), real(self))[1])
    return calls


def mark_of(folder):
    (mark,) = folder.glob(".verified-*")
    return mark


def test_the_second_start_reads_nothing_again(bundle, key, tmp_path, verified):
    first, signed_by = stage_verified(bundle, tmp_path / "b")
    again, again_by = stage_verified(bundle, tmp_path / "b")
    assert len(verified) == 1 and signed_by == again_by == key.public_key.fingerprint
    assert first.path == again.path and again.was_there and not first.was_there
    assert first.manifest == again.manifest
    assert mark_of(tmp_path / "b").stat().st_mode & 0o777 == 0o600


def _same_size(staged, _bundle):
    path = staged / "models/int8.tflite"
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(b"\x00" + content[1:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the ctime cannot be set back


def _replaced(staged, _bundle):
    path = staged / "models/int8.tflite"
    other = path.with_name("other")
    other.write_bytes(b"\x00" * path.stat().st_size)
    other.rename(path)


def _extra(staged, _bundle):
    (staged / "models/extra.tflite").write_bytes(b"x")


def _gone(staged, _bundle):
    (staged / "golden.npz").unlink()


def _link(staged, _bundle):
    path = staged / "models/int8.tflite"
    path.rename(staged.parent / "elsewhere")
    path.symlink_to(staged.parent / "elsewhere")


def _open_file(staged, _bundle):
    (staged / "models/int8.tflite").chmod(0o666)


def _open_folder(staged, _bundle):
    (staged / "models").chmod(0o777)


def _open_root(staged, _bundle):
    staged.parent.chmod(0o777)


def _bundle_again(_staged, bundle):
    content = bundle.read_bytes()
    bundle.unlink()
    bundle.write_bytes(content)


def _old(staged, _bundle):
    mark = mark_of(staged.parent)
    said = json.loads(mark.read_bytes())
    mark.write_text(json.dumps({**said, "made_s": time.time() - VALID_FOR_S - 1}))


def _clock_went_back(staged, _bundle):
    mark = mark_of(staged.parent)
    said = json.loads(mark.read_bytes())
    mark.write_text(json.dumps({**said, "made_s": time.time() + 3600}))


def _nonsense(staged, _bundle):
    mark_of(staged.parent).write_bytes(b"[" * 5000)


def _mark_of_another(staged, _bundle):
    mark = mark_of(staged.parent)
    said = json.loads(mark.read_bytes())
    mark.write_text(json.dumps({**said, "key": "el:0000"}))


@pytest.mark.parametrize(
    "change",
    [_same_size, _replaced, _extra, _gone, _link, _open_file, _open_folder, _open_root, _bundle_again, _old,
     _clock_went_back, _nonsense, _mark_of_another],
)  # fmt: skip
def test_whatever_was_touched_is_verified_again_and_right(bundle, tmp_path, verified, change):
    staged, _ = stage_verified(bundle, tmp_path / "b")
    change(staged.path, bundle)
    again, _ = stage_verified(bundle, tmp_path / "b")
    assert len(verified) == 2
    files = {str(p.relative_to(again.path)): p.read_bytes() for p in again.path.rglob("*") if p.is_file()}
    assert files == members_of(bundle)


def test_a_key_that_is_trusted_no_more_is_refused_whatever_the_mark_says(bundle, tmp_path, trust):
    stage_verified(bundle, tmp_path / "b", trust=trust)
    other = load_or_create_signing_key(tmp_path / "k").public_key
    with pytest.raises(RefusedError):
        stage_verified(bundle, tmp_path / "b", trust=TrustStore.of(other))


def test_an_unsigned_bundle_gets_no_mark(tmp_path, verified):
    bundle = small_bundle(tmp_path, None)
    for _ in range(2):
        _staged, signed_by = stage_verified(bundle, tmp_path / "b", allow_unsigned=True)
        assert signed_by is None
    assert len(verified) == 2 and not list((tmp_path / "b").glob(".verified-*"))


def test_marks_go_with_their_folders(tmp_path, key):
    for version in range(5):
        folder = tmp_path / str(version)
        folder.mkdir()
        stage_verified(small_bundle(folder, key, version=version + 1), tmp_path / "b")
    assert len(list((tmp_path / "b").glob(".verified-*"))) == 3
