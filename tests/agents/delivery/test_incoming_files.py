"""A file that arrives in chunks: what counts as arrived after a kill, a power cut, on a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from edgeloop.errors import DeviceError, UsageError
from edgeloop.telemetry.serial_link.chunks import CHUNK_BYTES
from edgeloop_agent.delivery import incoming_files
from edgeloop_agent.delivery.incoming_files import PartialFile, forget, read_verdict, write_verdict
from support.faults import environment

SHA = "ab" * 32
DATA = os.urandom(10 * CHUNK_BYTES + 100)


def piece(number: int) -> bytes:
    return DATA[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]


def begun(state: Path, *numbers: int) -> PartialFile:
    file = PartialFile(state, SHA, len(DATA))
    for number in numbers:
        file.put(number, piece(number))
    return file


def test_chunks_in_any_order_make_the_file(tmp_path: Path) -> None:
    file = begun(tmp_path, 10, 3, 0, 1, 2, 9, 8, 7, 6, 5, 4)
    assert file.chunks.is_complete
    file.close()
    assert file.path.read_bytes() == DATA
    forget(file.path)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_another_process_goes_on_where_it_was(tmp_path: Path) -> None:
    begun(tmp_path, 0, 1, 4).close()
    again = PartialFile(tmp_path, SHA, len(DATA))
    assert again.chunks.arrived().first_missing == 2
    assert again.chunks.arrived().beyond == {4}
    again.close()


def test_what_the_disk_lost_after_a_power_cut_is_missing_again(tmp_path: Path) -> None:
    file = begun(tmp_path, 0, 1, 2, 3)
    file.close()
    with file.path.open("r+b") as damaged:
        damaged.seek(2 * CHUNK_BYTES)
        damaged.write(bytes(CHUNK_BYTES))
    again = PartialFile(tmp_path, SHA, len(DATA))
    assert (again.chunks.arrived().first_missing, set(again.chunks.arrived().beyond)) == (2, {3})
    again.close()
    file.path.with_suffix(".chunks").write_bytes(b"\1\2")
    again = PartialFile(tmp_path, SHA, len(DATA))
    assert again.chunks.count == 0
    again.close()


def test_what_is_no_chunk_of_it_is_dropped(tmp_path: Path) -> None:
    file = begun(tmp_path)
    for number, data in ((0, b"short"), (10, piece(0)), (11, b""), (2**32 - 1, piece(1))):
        file.put(number, data)
    assert file.chunks.count == 0
    file.close()
    assert file.path.stat().st_size == len(DATA)


def test_another_file_makes_room_and_an_other_size_starts_over(tmp_path: Path) -> None:
    begun(tmp_path, 0).close()
    other = PartialFile(tmp_path, "cd" * 32, 5)
    assert [path.name[:2] for path in sorted((tmp_path / "incoming").iterdir())] == ["cd", "cd"]
    other.put(0, b"abcde")
    other.close()
    longer = PartialFile(tmp_path, "cd" * 32, 6)
    assert longer.chunks.count == 0
    longer.close()


def test_no_room_is_said_before_anything_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(incoming_files.shutil, "disk_usage", lambda _path: usage(0, 0, (16 << 20) + 2 * len(DATA)))
    PartialFile(tmp_path, SHA, len(DATA)).close()
    forget(tmp_path / "incoming" / f"{SHA}.part")
    with pytest.raises(DeviceError, match="the disk has no room"):
        PartialFile(tmp_path, SHA, len(DATA), unpacked_bytes=1)
    assert list((tmp_path / "incoming").iterdir()) == []
    with pytest.raises(UsageError, match="64 lowercase"):
        PartialFile(tmp_path, "../../etc/passwd", 5)


def test_verdicts_are_kept_by_offer_and_the_oldest_leave(tmp_path: Path) -> None:
    for number in range(70):
        write_verdict(tmp_path, f"{number:016x}", {"state": "there"})
    assert read_verdict(tmp_path, f"{69:016x}") == {"state": "there"}
    assert read_verdict(tmp_path, f"{0:016x}") is None
    assert len(list((tmp_path / "incoming").iterdir())) == 64
    with pytest.raises(UsageError):
        read_verdict(tmp_path, "../x")


def test_a_kill_loses_no_chunk_that_was_taken(tmp_path: Path) -> None:
    """kill -9 at ten moments: what the process said to have, is there."""
    code = (
        "import sys; from pathlib import Path; from edgeloop_agent.delivery.incoming_files import PartialFile\n"
        "file = PartialFile(Path(sys.argv[1]), 'ef' * 32, 4096 * 1024)\n"
        "for n in range(file.chunks.arrived().first_missing, 4096):\n"
        "    file.put(n, bytes([n % 251]) * 1024); print(n, flush=True)\n"
    )
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment()
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.005)
        child.kill()
        said = child.communicate()[0].split()
        file = PartialFile(tmp_path, "ef" * 32, 4096 * 1024)
        assert file.chunks.count >= int(said[-1] if said else 0)
        file.close()
