"""What a killed conversion had finished is taken over; damaged, foreign or unwritable files change nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeloop_converters.kept_passes import Done, KeptPasses
from edgeloop_converters.passes.report import PassReport

REPORT = PassReport("prune", "8 of 16 channels", 12.5, {"macs": 2.0}, {"macs": 1.0}, history=({"loss": 0.5},))
DONE = Done(b"TFL3 a model", REPORT, b"TFL3 int8")


def test_what_was_kept_comes_back_until_the_conversion_ends(tmp_path: Path) -> None:
    KeptPasses(tmp_path).save("a" * 64, DONE)
    again = KeptPasses(tmp_path)
    assert again.load("a" * 64) == DONE
    assert again.load("b" * 64) is None
    again.clear()
    assert list(tmp_path.iterdir()) == []


def test_quick_passes_are_done_again_and_old_files_go(tmp_path: Path) -> None:
    kept = KeptPasses(tmp_path)
    kept.save("a" * 64, Done(b"TFL3", PassReport("optimize", "", 0.1)))
    assert list(tmp_path.iterdir()) == []
    kept.save("c" * 64, DONE)
    os.utime(next(tmp_path.iterdir()), (0, 0))
    assert KeptPasses(tmp_path).load("c" * 64) is None


@pytest.mark.parametrize("damage", [b"", b"PK no zip", b"\x00" * 100])
def test_a_damaged_file_is_no_file(tmp_path: Path, damage: bytes) -> None:
    kept = KeptPasses(tmp_path)
    kept.save("a" * 64, DONE)
    path = next(tmp_path.iterdir())
    path.write_bytes(damage)
    assert kept.load("a" * 64) is None
    path.write_bytes(path.read_bytes()[: len(damage) // 2])
    assert kept.load("a" * 64) is None


def test_a_folder_that_cannot_be_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = KeptPasses(tmp_path / "file")
    kept.save("a" * 64, DONE)
    assert kept.load("a" * 64) is None
