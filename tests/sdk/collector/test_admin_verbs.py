"""`edgeloop collect init|token|device|user|audit` as an operator types them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from edgeloop.cli.main import main
from edgeloop.telemetry.collector.security.audit import Audit
from edgeloop.telemetry.store import open_store
from support.collecting import make_report


class Shell:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.store, self._capsys = f"sqlite:///{folder}/t.db", capsys

    def __call__(self, *arguments: str, code: int = 0) -> Any:
        """The JSON object that it prints."""
        with_store = () if arguments[0] == "init" else ("--store", self.store)
        assert main(["collect", *arguments, *with_store, "--json"]) == code
        printed = self._capsys.readouterr()
        self.said = printed.err
        return json.loads(printed.out)

    def text(self, *arguments: str) -> str:
        assert main(["collect", *arguments, "--store", self.store]) == 0
        return self._capsys.readouterr().out


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def test_init_makes_a_ca_once_and_renews_its_certificate(shell: Shell, tmp_path: Path) -> None:
    folder = str(tmp_path / "tls")
    first = shell("init", "--dir", folder, "--host", "collector.local", "--host", "10.1.2.3")
    assert first["names"][:2] == ["collector.local", "10.1.2.3"] and first["fingerprint"].startswith("el:")
    error = shell("init", "--dir", folder, code=2)["error"]
    assert "already" in error["message"] and "--renew" in error["hint"]
    again = shell("init", "--dir", folder, "--renew")
    assert (again["names"], again["fingerprint"]) == (first["names"], first["fingerprint"])
    assert shell("init", "--dir", folder, "--renew", "--host", "new.local")["names"][0] == "new.local"
    assert "no CA" in shell("init", "--dir", str(tmp_path / "x"), "--renew", code=2)["error"]["message"]


def test_tokens_are_shown_once_listed_and_revoked(shell: Shell) -> None:
    made = shell("token", "create", "--uses", "3", "--expires", "2h", "--group", "lab", "--tag", "site=berlin")
    (listed,) = shell("token", "list")["tokens"]
    assert (listed["id"], listed["uses"], listed["group"], listed["tags"]) == (made["id"], 3, "lab", {"site": "berlin"})
    assert listed["status"] == "valid" and "hash" not in listed and made["token"] not in json.dumps(listed)
    assert made["id"] in shell.text("token", "list")
    shell("token", "revoke", made["id"])
    assert shell("token", "list")["tokens"][0]["status"] == "revoked"
    assert shell("token", "create", "--api", "prometheus")["kind"] == "api"
    for wrong in (("token", "create", "--expires", "soon"), ("token", "create", "--uses", "0"), ("token", "revoke"),
                  ("token", "create", "--tag", "berlin"), ("token", "revoke", "nothing")):  # fmt: skip
        assert shell(*wrong, code=2)["error"]["hint"] or wrong[2] == "--uses"


def test_devices_are_listed_tagged_grouped_and_removed(shell: Shell) -> None:
    store = open_store(shell.store)
    store.insert([make_report(device=device) for device in ("pi-1", "pi-2", "a=b")])
    store.close()
    assert shell("device", "list")["devices"] == []
    shell("device", "tag", "pi-1", "pi-2", "site=ulm", "rack=1")
    shell("device", "tag", "pi-2", "rack-")
    shell("device", "group", "pi-1", "--group", "field")
    assert [d["device"] for d in shell("device", "list", "--tag", "site=ulm")["devices"]] == ["pi-1", "pi-2"]
    assert [d["device"] for d in shell("device", "list", "--group", "field")["devices"]] == ["pi-1"]
    (shown,) = shell("device", "show", "pi-2")["devices"]
    assert shown["tags"] == {"site": "ulm"} and shown["status"] == "known" and "proof" not in shown
    assert "pi-1" in shell.text("device", "list")
    assert "not enrolled" in shell("device", "revoke", "pi-1", code=2)["error"]["message"]
    assert shell("device", "remove", "pi-1")["removed"] == ["pi-1"]
    for wrong in (("device", "show"), ("device", "tag", "pi-2"), ("device", "group", "pi-2"), ("device", "show", "no")):
        assert shell(*wrong, code=2)["error"]["hint"]


def test_users_and_the_audit_log(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\nanother long password\nshort\n"))
    shell("user", "add", "ann", "--role", "operator", "--password-stdin")
    shell("user", "password", "ann", "--password-stdin")
    assert "10 to" in shell("user", "add", "bob", "--password-stdin", code=2)["error"]["message"]
    assert [(u["name"], u["role"]) for u in shell("user", "list")["users"]] == [("ann", "operator")]
    shell("user", "remove", "ann")
    assert "no user" in shell("user", "remove", "ann", code=2)["error"]["message"]
    entries = shell("audit")["entries"]
    assert [entry["action"] for entry in entries] == ["user.add", "user.password", "user.remove"]
    assert {entry["origin"] for entry in entries} == {"command line"} and all(entry["who"] for entry in entries)
    assert len(shell("audit", "--limit", "1")["entries"]) == 1
    assert "horse" not in shell.text("audit")


def test_a_store_that_is_not_there_is_not_made_by_looking(shell: Shell) -> None:
    assert "no telemetry store" in shell("device", "list", code=2)["error"]["message"]


@pytest.mark.parametrize("arguments", [("token", "create"), ("token", "create", "--api", "x")])
def test_a_store_that_is_made_on_the_way_is_said(shell: Shell, arguments: tuple[str, ...]) -> None:
    shell(*arguments)
    assert "made a new store" in shell.said and "--store" in shell.said
    shell(*arguments)
    assert "made a new store" not in shell.said


def test_what_a_stranger_put_into_the_audit_log_moves_no_terminal(shell: Shell) -> None:
    store = open_store(shell.store)
    Audit(store.database).add("user ann", "http.post", "/v1/devices/\x1b[2J\u202epi/commands", origin="127.0.0.1")
    store.close()
    printed = shell.text("audit")
    assert "/v1/devices/" in printed
    assert all(line.isprintable() for line in printed.splitlines())


def test_a_name_of_bytes_that_are_no_text_is_wrong_use(shell: Shell) -> None:
    shell("token", "create")
    assert (
        shell("device", "revoke", "\udcff\x1b[31m", code=2)["error"]["message"] == "'??[31m' has bytes that are no text"
    )
