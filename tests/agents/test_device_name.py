"""Names of devices that were made alike."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edgeloop.errors import ConfigError
from edgeloop_agent.config_reading import load_config
from edgeloop_agent.device_name import device_name


def board(folder: Path, *, serial: bytes = b"", machine: str = "") -> Path:
    """A root folder with what a board tells of itself."""
    for name, content in (("proc/device-tree/serial-number", serial), ("etc/machine-id", machine.encode())):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_copies_of_a_card_are_told_apart_and_a_board_keeps_its_name(tmp_path: Path) -> None:
    boards = [
        board(tmp_path / "a", serial=b"10000000abcdef01\0", machine="1" * 32),
        board(tmp_path / "b", serial=b"10000000abcdef02\0", machine="1" * 32),
        board(tmp_path / "c", machine="1" * 32),
        board(tmp_path / "d", machine="2" * 32),
    ]
    names = [device_name("{hostname}-{machine}", root) for root in boards]
    assert len(set(names)) == 4
    assert all(name.startswith(f"{socket.gethostname()}-") and "1111" not in name for name in names)
    written_anew = board(tmp_path / "e", serial=b"10000000abcdef01\0", machine="3" * 32)
    assert device_name("{hostname}-{machine}", written_anew) == names[0]


def test_a_board_without_any_mark_says_so(tmp_path: Path) -> None:
    assert device_name("kitchen", tmp_path) == "kitchen"
    with pytest.raises(ConfigError, match="no serial number and no /etc/machine-id"):
        device_name("{machine}", board(tmp_path, serial=b"0000000000000000\0", machine="uninitialized\n"))


def test_the_config_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('bundle = "x"\nsource = "synthetic:"\ndevice = "{hostname}"\n')
    assert load_config({}, file).device == socket.gethostname()
