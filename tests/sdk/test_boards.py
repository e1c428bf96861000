"""Boards on made-up trees: which one it is, what it says of being held back, what doctor makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop import probes
from edgeloop.boards import BOARDS, Board, detect_board
from edgeloop.boards.coral import pci_cards, usb_sticks
from edgeloop.boards.raspberry_pi import parse_throttled
from edgeloop.boards.table import load_board
from edgeloop.doctor import CHECKS, FAIL, OK, WARN, Finding, System
from edgeloop.targets import TARGETS
from support.boards import TREES, coral_stick, write_tree

FULL_SUPPLY = {"proc/device-tree/chosen/power/max_current": "\0\0\x13\x88"}  # 5000, big-endian
WEAK_SUPPLY = {"proc/device-tree/chosen/power/max_current": "\0\0\x0b\xb8"}  # 3000


def findings(check: str, root: Path) -> list[Finding]:
    return list(CHECKS[check].look(System(root=root, machine="aarch64", versions={})))


@pytest.mark.parametrize("board_id", sorted(TREES))
def test_every_board_is_known_by_its_tree(board_id: str, tmp_path: Path) -> None:
    assert detect_board(root=write_tree(tmp_path, TREES[board_id])).id == board_id


def test_every_board_of_the_table_has_a_tree_here_and_is_a_target_with_its_id() -> None:
    assert set(BOARDS) == set(TREES)
    for board_id in BOARDS:
        board = load_board(board_id)
        assert board.id == board_id
        if board_id != "generic":
            assert TARGETS[board_id].name.startswith(board.name)


@pytest.mark.parametrize(
    ("compatible", "board_id"),
    [
        ("raspberrypi,model-zero-2-w\0brcm,bcm2837\0", "rpi-zero2w"),
        ("raspberrypi,3-compute-module\0brcm,bcm2837\0", "rpi3"),
        ("raspberrypi,400\0brcm,bcm2711\0", "rpi4"),
        ("raspberrypi,500\0brcm,bcm2712\0", "rpi5"),
        ("radxa,rock-5b\0rockchip,rk3588\0", "generic"),
    ],
)
def test_a_relative_of_a_board_is_known_by_its_chip(compatible: str, board_id: str, tmp_path: Path) -> None:
    assert detect_board(root=write_tree(tmp_path, {"proc/device-tree/compatible": compatible})).id == board_id


@pytest.mark.parametrize(
    ("board_id", "now", "past"),
    [
        ("rpi4", ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        ("rpi3", ("soft temperature limit",), ("soft temperature limit",)),
        ("rpi5", (), ()),
        ("coral-dev-board", ("frequency capped",), ()),
    ],
)
def test_each_board_says_in_its_way_what_holds_it_back(
    board_id: str, now: tuple[str, ...], past: tuple[str, ...], tmp_path: Path
) -> None:
    root = write_tree(tmp_path, TREES[board_id])
    board = detect_board(root=root)
    flags = board.throttle_flags(root=root)
    assert flags is not None
    assert probes.describe_throttling(flags) == (now, past)
    assert board.is_throttled(root=root) is bool(now)


def test_a_mainline_kernel_knows_under_voltage_only(tmp_path: Path) -> None:
    files = {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0", "sys/class/hwmon/hwmon1/name": "rpi_volt"}
    board = detect_board(root=write_tree(tmp_path, files))
    assert board.throttle_flags(root=tmp_path) is None
    write_tree(tmp_path, {"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"})
    assert board.throttle_flags(root=tmp_path) == 1


@pytest.mark.parametrize(
    ("text", "flags"), [("50005\n", 0x50005), ("throttled=0x80008\n", 0x80008), ("0", 0), ("", None), ("error=x", None)]
)
def test_the_firmwares_answer_is_read_in_both_its_forms(text: str, flags: int | None) -> None:
    assert parse_throttled(text) == flags


def test_vcgencmd_is_asked_where_sysfs_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "vcgencmd"
    tool.write_text("#!/bin/sh\n[ $1 = get_throttled ] && echo throttled=0x50000\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    flags = load_board("rpi4").throttle_flags()
    assert flags == 0x50000, "on a Raspberry Pi this test reads the board itself"
    tool.write_text("#!/bin/sh\necho 'VCHI initialization failed'; exit 255\n")
    assert load_board("rpi4").throttle_flags() is None


def test_all_gauges_of_a_board_go_into_a_report(tmp_path: Path) -> None:
    root = write_tree(tmp_path, TREES["coral-dev-board"])
    numbers = detect_board(root=root).gauges(root=root).numbers()
    assert (numbers["temperature_c"], numbers["accelerator_c"], numbers["throttle_flags"]) == (61.0, 57.3, 2.0)


@given(st.dictionaries(st.sampled_from(sorted({n for t in TREES.values() for n in t})), st.text(max_size=12)))
def test_no_content_of_any_file_is_an_error(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]) -> None:
    root = tmp_path_factory.mktemp("board")
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode(errors="surrogateescape"))
    board = detect_board(root=root)
    board.gauges(root=root)
    board.notes(root)
    usb_sticks(root=root)
    pci_cards(root=root)


@pytest.mark.parametrize(
    ("board_id", "speed", "status", "says"),
    [
        ("rpi4", "5000", OK, "5000 Mbit/s"),
        ("rpi4", "480", WARN, "blue USB 3 port"),
        ("rpi3", "480", WARN, "has USB 2 only"),
        ("rpi-zero2w", "480", WARN, "has USB 2 only"),
    ],
)
def test_the_stick_is_judged_by_what_its_board_has(
    board_id: str, speed: str, status: str, says: str, tmp_path: Path
) -> None:
    first = findings("edgetpu", write_tree(tmp_path, {**TREES[board_id], **coral_stick(speed=speed)}))[0]
    assert first.status == status
    assert says in first.what + first.fix


def test_doctor_names_board_clock_and_temperature(tmp_path: Path) -> None:
    [finding] = findings("board", write_tree(tmp_path, TREES["rpi4"]))
    assert finding.what == ("Raspberry Pi 4 Model B Rev 1.5 (rpi4), 600 MHz of 1800, clock governor ondemand, 48 °C")


@pytest.mark.parametrize(
    ("supply", "stick", "warns"), [(WEAK_SUPPLY, True, True), (WEAK_SUPPLY, False, False), (FULL_SUPPLY, True, False)]
)
def test_a_weak_supply_of_a_raspberry_pi_5_matters_with_a_stick(
    supply: dict[str, str], stick: bool, warns: bool, tmp_path: Path
) -> None:
    root = write_tree(tmp_path, {**TREES["rpi5"], **(coral_stick() if stick else {})})
    for name, text in supply.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(text.encode("latin-1"))
    statuses = [f.status for f in findings("board", root)]
    assert statuses == ([OK, WARN] if warns else [OK])


def test_the_dev_boards_own_system_is_too_old_and_its_container_needs_the_chip(tmp_path: Path) -> None:
    root = write_tree(tmp_path, TREES["coral-dev-board"])
    assert [f.status for f in findings("board", root)] == [OK]
    (root / "dev/apex_0").unlink()
    [_, finding] = findings("board", root)
    assert (finding.status, "--device /dev/apex_0" in finding.fix) == (WARN, True)
    (root / "etc/os-release").write_text('NAME="Mendel"\nID=mendel\n')
    [_, finding] = findings("board", root)
    assert (finding.status, "too old" in finding.what, "Debian 12 container" in finding.fix) == (FAIL, True, True)


def test_under_voltage_names_the_boards_own_supply(tmp_path: Path) -> None:
    throttling = findings("throttling", write_tree(tmp_path, TREES["rpi4"]))
    assert {f.what: f.fix.split()[2:6] for f in throttling}["now: under-voltage"] == ["5", "V", "3", "A"]


def test_a_board_without_facts_of_its_own_is_still_read(tmp_path: Path) -> None:
    assert Board("x", "X").gauges(root=tmp_path).numbers() == {}
