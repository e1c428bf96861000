"""`flash` and `deploy` tell a device where its releases come from and by which root it knows them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tuf", reason="tuf is missing: scripts/setup")

from edgeloop.bundle.keys import load_or_create_signing_key
from edgeloop.cli.main import main
from edgeloop.deploy import card as card_module
from edgeloop.deploy.host import Found, Places
from edgeloop.deploy.remote import _changes, _undo, plan_deploy
from edgeloop.devices.agent_site import AgentSite, pack_own_code
from edgeloop.tomlfile import parse_toml
from support.bundles import small_bundle
from support.releasing import new_repository


@pytest.fixture
def made(tmp_path):
    key = load_or_create_signing_key()
    return small_bundle(tmp_path, key, target="generic-aarch64"), new_repository(tmp_path / "repo", key)


@pytest.mark.slow
def test_a_card_knows_its_repository(tmp_path, made, monkeypatch):
    disk_images = pytest.importorskip("support.disk_images")
    from edgeloop.deploy.image.os_image import open_image

    monkeypatch.setattr(card_module, "build_agent_site", lambda _p, *, slim=False: AgentSite("0", (), pack_own_code()))
    image, (bundle, repo) = disk_images.raspberry_pi_os(tmp_path / "pi.img"), made
    words = ["--bundle", bundle, "--source", "camera:0", "--release", "https://h/repo", "--release-root", repo]
    assert main(["flash", *map(str, [image, *words]), "--channel", "beta", "--tag", "hall"]) == 0
    root = open_image(image).root
    assert root.read("/var/lib/edgeloop/agent/release/root.json") == (repo / "metadata/1.root.json").read_bytes()
    config = parse_toml(root.read("/etc/edgeloop/agent.toml").decode(), "")
    assert (config["release"], config["channel"], config["tags"]) == ("https://h/repo", "beta", ["hall"])


def test_a_deploy_brings_the_root_beside_the_config_and_leaves_it(made):
    bundle, repo = made
    text = (repo / "metadata/1.root.json").read_text()
    plan = plan_deploy(bundle, settings={"source": "camera:0", "release": "https://h/repo"}, release_root=text)
    found = Found(None, "/s", None, "", {}, True)
    changes = _changes("ssh://x", found, Places(Path("/")), plan)
    assert changes[-1] == ("file", "/s/release/root.json", text)
    assert 'release = "https://h/repo"' in changes[-2][2]
    assert all("root.json" not in path for _, path, _ in _undo(_Host(), changes, found))


class _Host:
    places = Places(Path("/"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--release", "https://h/repo"], "by which root"),
        (["--release", "ftp://h/repo", "--release-root", "REPO"], "release must be https://"),
        (["--release", "https://h/repo", "--release-root", "BUNDLE"], "no root of a release repository"),
        (["--release", "https://h/repo", "--release-root", "nowhere.json"], "No such file"),
        (["--channel", "a b"], "channel"),
    ],
)
def test_what_the_device_could_not_follow_is_refused_here(made, flags, said, capsys):
    bundle, repo = made
    given = [{"REPO": str(repo), "BUNDLE": str(bundle)}.get(flag, flag) for flag in flags]
    assert main(["deploy", "ssh://pi@127.0.0.1:1", str(bundle), "--source", "camera:0", *given]) == 2
    assert said in capsys.readouterr().err
