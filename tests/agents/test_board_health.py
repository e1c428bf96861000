"""What the supervisor says of its board: each change once, in words."""

from __future__ import annotations

import json
from pathlib import Path

from edgeloop_agent.reports.board_health import BoardHealth, made_for_another
from edgeloop_agent.service.said_once import first_time
from support.boards import TREES, write_tree

FLAGS = "sys/devices/platform/soc/soc:firmware/get_throttled"


def test_being_held_back_is_told_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    health = BoardHealth(root=write_tree(tmp_path, TREES["rpi4"]))  # 0x50005
    assert health.gauges()["throttle_flags"] == 0x50005
    assert [text.split(" since")[0] for text in health.news()] == ["under-voltage", "throttled"]
    health.gauges()
    assert health.news() == ()
    (tmp_path / FLAGS).write_text("50000")
    health.gauges()
    assert health.news() == ("under-voltage is over", "throttled is over")


def test_the_state_has_words_for_the_bits(tmp_path: Path) -> None:
    state = BoardHealth(root=write_tree(tmp_path, TREES["rpi4"])).state()
    assert state["throttled_now"] == ["under-voltage", "throttled"]
    assert (state["id"], state["temperature_c"], state["clock_governor"]) == ("rpi4", 48.312, "ondemand")


def test_a_bundle_of_another_board_is_said_and_runs(tmp_path: Path) -> None:
    root = write_tree(tmp_path, TREES["rpi4"])
    assert "made for rpi5, this is rpi4" in made_for_another("rpi5", root=root)
    assert "made for rpi5, this is no board that it knows" in made_for_another("rpi5", root=tmp_path / "a laptop")
    for target in ("rpi4", "coral-usb", "generic-aarch64", "of-our-own"):
        assert made_for_another(target, root=root) == ""


def test_a_machine_that_tells_nothing_is_no_error(tmp_path: Path) -> None:
    health = BoardHealth(root=tmp_path)
    assert (health.gauges(), health.news(), health.state()["throttled_now"]) == ({}, (), [])


def test_that_a_bundle_is_of_another_board_is_said_once_in_a_state_folder(tmp_path: Path) -> None:
    assert first_time(tmp_path, "a-1-00", "text") == "text"
    assert first_time(tmp_path, "a-1-00", "text") == ""
    assert first_time(tmp_path, "a-1-00", "another text") == "another text"
    assert first_time(tmp_path, "b-1-00", "text") == "text"
    assert first_time(tmp_path / "else", "b-1-00", "") == ""
    (tmp_path / "said.json").write_text("[")
    assert first_time(tmp_path, "b-1-00", "text") == "text"
    for i in range(20):
        first_time(tmp_path, str(i), "text")
    assert len(json.loads((tmp_path / "said.json").read_text())) == 16
