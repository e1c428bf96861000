"""Devices by name, and those around."""

from __future__ import annotations

import json
import os
import pty
import socket
from pathlib import Path
from typing import Any

import pytest

from edgeloop.cli.main import main
from edgeloop.devices import connect
from edgeloop.devices.aliases import add_alias, aliases_path, device_url
from edgeloop.devices.finding import Search, find, look_at
from edgeloop.devices.looking import Seen, look
from edgeloop.devices.mdns import SERVICES, Announced, browse
from edgeloop.errors import ConfigError, UsageError


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["devices", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_name_stands_where_a_url_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "add", "kitchen", "ssh://pi@kitchen.local:2222")[0] == 0
    assert call(capsys, "add", "door", "serial:///dev/ttyUSB7")[0] == 0
    assert [(d["name"], d["url"]) for d in call(capsys, "list")[1]["devices"]] == [
        ("door", "serial:///dev/ttyUSB7"),
        ("kitchen", "ssh://pi@kitchen.local:2222"),
    ]
    assert device_url("kitchen") == "ssh://pi@kitchen.local:2222"
    assert device_url("ssh://kitchen") == "ssh://kitchen" and device_url("hall") == "hall"
    assert main(["run", "nowhere", "x.bundle", "--source", "synthetic:"]) == 2
    capsys.readouterr()
    assert main(["device", "ping", "door", "--timeout", "1"]) == 3
    assert "/dev/ttyUSB7" in capsys.readouterr().err
    assert call(capsys, "remove", "door")[0] == 0 and device_url("door") == "door"
    assert call(capsys, "remove", "door")[0] == 2


def test_a_name_is_taken_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "add", "a", "ssh://one")[0] == 0
    assert call(capsys, "add", "a", "ssh://one")[0] == 0
    code, done = call(capsys, "add", "a", "ssh://two")
    assert code == 2 and done["error"]["hint"] == "--replace"
    assert call(capsys, "add", "a", "ssh://two", "--replace")[0] == 0 and device_url("a") == "ssh://two"
    for name, url in (("local", "ssh://x"), ("a/b", "ssh://x"), ("", "ssh://x"), ("b", "x"), ("b", "ssh://")):
        with pytest.raises(UsageError):
            add_alias(name, url)


def test_a_damaged_file_of_names_is_one_line() -> None:
    aliases_path().parent.mkdir(parents=True, exist_ok=True)
    for text in ("[devices]\na = 3\n", "devices = 3\n", "[["):
        aliases_path().write_text(text)
        with pytest.raises(ConfigError, match=r"devices\.toml"):
            device_url("a")


def test_a_device_says_what_it_is() -> None:
    device = connect("local:")
    known = look(device)
    assert known["python"].startswith("3.") and known["machine"] and isinstance(known["coral"], tuple)


def test_the_speed_of_a_stick_is_said_where_it_is_slow() -> None:
    def text(mbit: int) -> str:
        return Seen("local:", "x", "local", coral=({"kind": "usb", "port": "1-1", "mbit": mbit},)).coral_text

    assert text(480) == "Coral stick at 480 Mbit/s (a USB 3 port gives 5000)"
    assert (text(5000), text(0)) == ("Coral stick at 5000 Mbit/s", "Coral stick")


def test_what_does_not_answer_has_a_problem_and_keeps_nobody_up(tmp_path: Path) -> None:
    master, line = pty.openpty()
    try:
        (tmp_path / "ttyUSB0").symlink_to(os.ttyname(line))
        seen: list[Seen] = []
        found = find(Search(with_mdns=False), seen.append, dev=tmp_path)
        assert [device.found_by for device in found] == ["local", "serial"] and len(seen) == 2
        assert not found[0].problem and found[1].problem
    finally:
        os.close(master)
        os.close(line)
    (gone,) = look_at([Seen("ssh://127.0.0.1:1", "x", "mdns")], Search())
    assert "127.0.0.1" in gone.problem


def test_the_network_is_asked_and_a_name_keeps_its_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_alias("kitchen", "ssh://cook@kitchen.local")
    answers = [Announced("hall.local", "10.0.0.7", 22), Announced("kitchen.local", "10.0.0.8", 22)]
    monkeypatch.setattr("edgeloop.devices.finding.browse", lambda _wait_s: answers)
    found = find(Search(user="pi", with_look=False, with_serial=False))
    assert [(d.url, d.address) for d in found[1:]] == [
        ("ssh://pi@hall.local", "10.0.0.7"),
        ("ssh://cook@kitchen.local", "10.0.0.8"),
    ]


def test_hosts_that_announce_themselves_are_found() -> None:
    zeroconf = pytest.importorskip("zeroconf")
    try:
        announcing = zeroconf.Zeroconf(interfaces=["127.0.0.1"])
    except OSError as error:
        pytest.skip(f"no multicast here: {error}")
    address = socket.inet_aton("127.0.0.1")
    info = zeroconf.ServiceInfo(
        SERVICES[0], f"pi-1.{SERVICES[0]}", port=22, addresses=[address], server="edgeloop-test-pi-1.local."
    )
    try:
        announcing.register_service(info)
        found = browse(1.5, interfaces=["127.0.0.1"])
    finally:
        announcing.close()
    assert Announced("edgeloop-test-pi-1.local", "127.0.0.1", 22) in found
