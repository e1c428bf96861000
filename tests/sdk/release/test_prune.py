"""Old files leave a repository; what any channel offers, and its deltas, stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeloop.bundle import load_or_create_signing_key
from edgeloop.cli.main import main
from edgeloop.deploy.release.prune import unwanted
from edgeloop.release.channel import Channel, Delta, Offer, delta_path
from support.releasing import Device, bundle_of, new_repository, take_in


def release(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert main(["release", *map(str, words), "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_what_any_channel_offers_is_wanted() -> None:
    offer = Offer("ic", 8, "1" * 64, 1000, "rpi4")
    delta = Delta("2" * 64, delta_path("ic", 8, "2" * 64), 10)
    with_delta = Offer("ic", 8, "1" * 64, 1000, "rpi4", deltas=(delta,))
    files = [offer.target_path, delta.target_path, "ic/ic-7.bundle"]
    assert unwanted(files, [Channel("a", 1), Channel("b", 1, (with_delta,))]) == ("ic/ic-7.bundle",)
    assert unwanted(files, [Channel("a", 1, (offer,))]) == ("ic/ic-7.bundle", delta.target_path)
    assert unwanted(files, []) == tuple(sorted(files))


def test_old_versions_go_and_devices_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = load_or_create_signing_key()
    repo = new_repository(tmp_path / "repo", key)
    device = Device(tmp_path / "device", repo)
    for version in range(1, 6):
        take_in(repo, key, bundle_of(tmp_path, key, version), channel="beta" if version == 1 else "stable")
    (repo / "targets/ic" / f"{'0' * 64}.ic-9.bundle").write_text("of a publisher that was killed")
    mine = repo / "targets/ic/notes.txt"
    mine.write_text("not ours")
    would = release("prune", repo, "--dry-run", capsys=capsys)
    assert "ic/ic-2.bundle" in str(would["would_go"]) and (repo / "metadata/2.models.json").exists()
    done = release("prune", repo, capsys=capsys)
    assert done["versions"] == ["ic/ic-2.bundle"] and mine.exists()
    names = {path.name.partition(".")[2] for path in (repo / "targets/ic").iterdir()} - {"txt"}
    assert {name for name in names if name.endswith(".bundle")} == {f"ic-{n}.bundle" for n in (1, 3, 4, 5)}
    assert device.channel("beta").offers[0].version == 1
    for version in (1, 3, 4, 5):
        assert device.fetch(f"ic/ic-{version}.bundle")
    assert release("prune", repo, capsys=capsys)["removed"] == 0
    take_in(repo, key, bundle_of(tmp_path, key, 6))
    assert device.channel("stable").offers[-1].version == 6


def test_what_was_so_already_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = load_or_create_signing_key()
    repo = new_repository(tmp_path / "repo", key)
    take_in(repo, key, bundle_of(tmp_path, key, 7), percent=10)
    assert release("promote", repo, "--percent", "50", capsys=capsys)["changed"] is True
    assert release("promote", repo, "--percent", "50", capsys=capsys)["changed"] is False
    assert main(["release", "resume", str(repo)]) == 0
    assert "nothing changed" in capsys.readouterr().out


def test_a_refused_first_bundle_leaves_nothing_behind(tmp_path: Path) -> None:
    load_or_create_signing_key()
    unsigned = bundle_of(tmp_path, None, 7)
    assert main(["release", "publish", str(tmp_path / "repo"), str(unsigned)]) == 4
    assert not (tmp_path / "repo").exists()
