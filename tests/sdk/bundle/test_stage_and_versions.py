"""Staging: a folder that is whole or not there. Versions: each number once, however many ask."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgeloop import paths
from edgeloop.bundle import Bundle, claim_version, next_version
from edgeloop.bundle.versions import doubt_of_version
from edgeloop.errors import DeviceError, UsageError
from support.bundles import NO_MODEL, members_of, small_bundle


def files_under(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_staged_bundle_holds_the_members_byte_for_byte(bundle, tmp_path):
    staged = Bundle.open(bundle).stage(tmp_path / "bundles")
    assert files_under(staged.path) == members_of(bundle)
    assert staged.path.name.startswith("small-3-")
    assert staged.model_path() == staged.path / "models/int8.tflite"
    assert staged.model_path("float").read_bytes() == NO_MODEL + b"float"
    assert staged.manifest == Bundle.open(bundle).manifest


def test_staging_again_writes_nothing(bundle, tmp_path):
    first = Bundle.open(bundle).stage(tmp_path / "bundles")
    before = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in first.path.rglob("*")}
    again = Bundle.open(bundle).stage(tmp_path / "bundles")
    assert again.path == first.path
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in again.path.rglob("*")} == before


def _change(path):
    (path / "models/int8.tflite").write_bytes(b"evil")


def _delete(path):
    (path / "golden.npz").unlink()


def _add(path):
    (path / "models/extra.tflite").write_bytes(b"x")


def _link(path):
    target = path.parent / "elsewhere"
    target.write_bytes((path / "models/int8.tflite").read_bytes())
    (path / "models/int8.tflite").unlink()
    (path / "models/int8.tflite").symlink_to(target)


@pytest.mark.parametrize("damage", [_change, _delete, _add, _link])
def test_a_staged_folder_that_was_changed_is_made_anew(bundle, tmp_path, damage):
    staged = Bundle.open(bundle).stage(tmp_path / "bundles")
    damage(staged.path)
    again = Bundle.open(bundle).stage(tmp_path / "bundles")
    assert files_under(again.path) == members_of(bundle)
    assert not (again.path / "models/int8.tflite").is_symlink()


def test_a_link_in_the_place_of_the_folder_is_replaced_not_followed(bundle, tmp_path):
    staged = Bundle.open(bundle).stage(tmp_path / "bundles")
    outside = tmp_path / "outside"
    staged.path.rename(outside)
    staged.path.symlink_to(outside)
    again = Bundle.open(bundle).stage(tmp_path / "bundles")
    assert not again.path.is_symlink()
    assert outside.is_dir()


def test_another_content_of_the_same_name_and_version_gets_a_folder_of_its_own(bundle, tmp_path, key):
    first = Bundle.open(bundle).stage(tmp_path / "bundles")
    other = small_bundle(tmp_path / "other", key, recipe_toml="a = 2\n")
    assert Bundle.open(other).stage(tmp_path / "bundles").path != first.path
    assert first.path.is_dir()


def test_only_the_bundles_that_were_staged_last_stay(tmp_path, key):
    folder = tmp_path / "bundles"
    bundles = [Bundle.open(small_bundle(tmp_path / str(i), key, recipe_toml=f"a = {i}\n")) for i in range(6)]
    paths_of = [bundle.stage(folder).path for bundle in bundles[:3]]
    bundles[0].stage(folder)  # the second is the oldest now
    (folder / "of-somebody-else").mkdir()
    (folder / "current").symlink_to(paths_of[2].name)
    paths_of += [bundle.stage(folder).path for bundle in bundles[3:5]]
    assert [path.is_dir() for path in paths_of] == [True, False, True, True, True]  # the third is linked to
    (folder / "current").unlink()
    paths_of.append(bundles[5].stage(folder).path)
    assert [path.is_dir() for path in paths_of] == [False, False, False, True, True, True]
    assert (folder / "of-somebody-else").is_dir()


def test_what_a_died_process_left_is_cleared_away(bundle, tmp_path):
    leftover = tmp_path / "bundles/.staging-12345/models"
    leftover.mkdir(parents=True)
    (leftover / "half").write_bytes(b"x")
    staged = Bundle.open(bundle).stage(tmp_path / "bundles")
    assert sorted(p.name for p in (tmp_path / "bundles").iterdir()) == [".lock", staged.path.name]


def test_a_stage_killed_at_any_time_leaves_a_whole_folder_or_none(bundle, tmp_path):
    code = (
        "import os, sys\nfrom edgeloop.bundle import Bundle\nfrom edgeloop.bundle import stage\n"
        "calls = [0]\nreal = os.fsync\n"
        "def fsync(descriptor):\n    real(descriptor)\n    calls[0] += 1\n"
        "    if calls[0] == int(sys.argv[3]): os.kill(os.getpid(), 9)\n"
        "os.fsync = fsync\nBundle.open(sys.argv[1]).stage(sys.argv[2])"
    )
    seen = set()
    for after in (1, 4, 7, 8, 9, 10, 11):
        folder = tmp_path / f"bundles{after}"
        done = subprocess.run([sys.executable, "-c", code, str(bundle), str(folder), str(after)], check=False)
        whole = [p for p in folder.iterdir() if not p.name.startswith(".")]
        assert all(files_under(path) == members_of(bundle) for path in whole)
        seen.add((done.returncode, len(whole)))
        assert files_under(Bundle.open(bundle).stage(folder).path) == members_of(bundle)
    assert (-9, 0) in seen
    assert (0, 1) in seen or (-9, 1) in seen


def test_where_it_cannot_be_unpacked_is_one_line(bundle, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DeviceError, match="cannot unpack small"):
        Bundle.open(bundle).stage(tmp_path / "file")


def test_versions_count_up_by_name_and_never_down():
    assert [next_version("a"), next_version("a"), next_version("b")] == [1, 2, 1]
    assert claim_version("a", 10) == 10
    assert next_version("a") == 11
    assert claim_version("a", 3) == 3
    assert next_version("a") == 12


def test_a_number_that_another_bundle_may_have_is_doubted():
    assert doubt_of_version("x", 1) is None, "nothing was made here"
    claim_version("x", 7)
    assert [doubt_of_version("x", wanted) is None for wanted in (None, 8, 7, 3)] == [True, True, False, False]


def test_versions_of_processes_that_ask_at_once_differ():
    code = "from edgeloop.bundle import next_version as n; print(*[n('x') for _ in range(10)])"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    numbers = [int(n) for process in running for n in process.communicate()[0].split()]
    assert sorted(numbers) == list(range(1, 41))


def test_bad_names_and_damaged_counters_are_one_line():
    for name in ("", "../x", "a/b", "a b", ".lock", "x" * 65):
        with pytest.raises(UsageError):
            next_version(name)
    for wanted in (0, -1, 1 << 60):
        with pytest.raises(UsageError):
            claim_version("a", wanted)
    next_version("a")
    (paths.state_dir() / "versions/a").write_bytes(b"\xff many")
    with pytest.raises(UsageError, match="damaged"):
        next_version("a")
