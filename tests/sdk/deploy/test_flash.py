"""`edgeloop flash`: an image with agent, bundle, keys and service in it, and the original untouched by any error."""

from __future__ import annotations

import importlib.util
import json
import lzma
import sys
from pathlib import Path

import pytest
import tomllib

from edgeloop.bundle import load_or_create_signing_key
from edgeloop.cli.main import main
from edgeloop.deploy import card as card_module
from edgeloop.deploy.image.os_image import open_image, read_facts
from edgeloop.devices.agent_site import AgentSite, pack_own_code
from edgeloop.devices.connection import DevicePlatform
from edgeloop.telemetry.identity.kept import IdentityFolder
from edgeloop_agent.config_reading import load_configs
from edgeloop_agent.delivery.versions import VersionFolder
from support.agents import make_bundle
from support.disk_images import make_image, raspberry_pi_os

COMPILE = card_module._compile


@pytest.fixture(autouse=True)
def light_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own code without the libraries: those are the same for every way in, and take minutes to fetch."""

    def build(_platform: DevicePlatform, *, slim: bool = False) -> AgentSite:
        return AgentSite("0.1+light", (), pack_own_code())

    monkeypatch.setattr(card_module, "build_agent_site", build)
    monkeypatch.setattr(card_module, "_compile", lambda *_: None)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    load_or_create_signing_key()
    return make_bundle(tmp_path / "ic.bundle", target="rpi4")


def flash(*words: str | Path) -> int:
    return main(["flash", *map(str, words), "--json"])


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_everything_is_in_the_image_and_the_original_as_it_was(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = raspberry_pi_os(tmp_path / "pi.img"), tmp_path / "card.img"
    before = image.read_bytes()
    code = flash(image, "-o", out, "--bundle", bundle, "--source", "camera:0", "--hostname", "pi-7", "--serial", "uart")
    said = answer(capsys)
    assert code == 0 and said["machine"] == "aarch64", said
    assert image.read_bytes() == before
    root = open_image(out).root
    root.check()
    assert root.read("/etc/hostname") == b"pi-7\n"
    unit = (root.read("/etc/systemd/system/multi-user.target.wants/edgeloop-agent.service") or b"").decode()
    assert "ExecStart=/usr/bin/python3 -I /opt/edgeloop/agent/current/bin/edgeloop-agent run --config" in unit
    assert b"edgeloop_agent.cli" in (root.read("/opt/edgeloop/agent/current/bin/edgeloop-agent") or b"")
    assert root.names("/etc/edgeloop/trusted")
    assert root.read(str(said["bundle"])) == bundle.read_bytes()
    assert [p.name for p in tmp_path.glob(".*partial*")] == []


@pytest.mark.slow
def test_what_is_laid_out_is_what_the_agent_reads(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = raspberry_pi_os(tmp_path / "pi.img")
    assert flash(image, "--bundle", bundle, "--source", "synthetic:", "--telemetry", "http://10.0.0.2:8080") == 0
    said, root = answer(capsys), open_image(image).root
    (tmp_path / "agent.toml").write_bytes(root.read("/etc/edgeloop/agent.toml") or b"")
    (config,) = load_configs({}, tmp_path / "agent.toml")
    assert (str(config.bundle), config.source) == (said["bundle"], "synthetic:")
    name = root.names(str(Path(str(said["bundle"])).parent / "versions"))[0]
    folder = VersionFolder(tmp_path / "digits")
    (folder.folder / "versions").mkdir(parents=True)
    (folder.folder / "versions" / name).write_bytes(bundle.read_bytes())
    folder.current.symlink_to(f"versions/{name}")
    folder.committed.symlink_to(f"versions/{name}")
    standing = folder.standing()
    assert standing.running is not None and standing.running == standing.committed and standing.running.number == 7


@pytest.mark.slow
def test_a_compressed_image_needs_a_name_for_the_result(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = tmp_path / "pi.img.xz"
    packed.write_bytes(lzma.compress(raspberry_pi_os(tmp_path / "pi.img").read_bytes(), preset=0))
    assert flash(packed, "--bundle", bundle, "--source", "camera:0") == 2
    assert flash(packed, "-o", tmp_path / "out.img", "--bundle", bundle, "--source", "camera:0") == 0
    assert read_facts(open_image(tmp_path / "out.img")).name == "Debian GNU/Linux 12"
    packed.write_bytes(packed.read_bytes()[:-1000])
    assert flash(packed, "-o", tmp_path / "out2.img", "--bundle", bundle, "--source", "camera:0") == 2
    assert not (tmp_path / "out2.img").exists()
    assert [p.name for p in tmp_path.glob(".*partial*")] == []


def test_a_dry_run_writes_nothing(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = raspberry_pi_os(tmp_path / "pi.img", version="13", python="3.13", table="gpt")
    before = image.read_bytes()
    words = ("--bundle", bundle, "--source", "camera:0", "--hostname", "pi-7")
    assert flash(image, "-o", tmp_path / "out.img", *words, "--dry-run") == 0
    said = answer(capsys)
    assert said["out"] is None and said["first_boot"] == ["boot:/user-data", "boot:/meta-data"]
    assert main(["flash", *map(str, [image, *words, "--dry-run"])]) == 0
    shown = capsys.readouterr().out
    assert 'config   source = "camera:0"' in shown and "trusts   /etc/edgeloop/trusted/00-" in shown
    assert image.read_bytes() == before and not (tmp_path / "out.img").exists()


def test_a_file_that_is_there_is_written_over_only_when_that_is_said(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = raspberry_pi_os(tmp_path / "pi.img"), tmp_path / "out.img"
    out.write_bytes(b"mine")
    words = ("-o", out, "--bundle", bundle, "--source", "camera:0")
    assert flash(image, *words) == 2
    error = answer(capsys)["error"]
    assert isinstance(error, dict) and "is there already" in error["message"] and "--force" in error["hint"]
    assert out.read_bytes() == b"mine"
    assert flash(image, *words, "--force") == 0
    assert read_facts(open_image(out)).name.startswith("Debian")


def test_secrets_of_the_network_are_for_root_alone(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGELOOP_WIFI_PASSWORD", "geheim-genug")
    monkeypatch.setenv("EDGELOOP_PASSWORD", "raspberry")
    image = raspberry_pi_os(tmp_path / "pi.img")
    assert flash(image, "--user", "pi", "--wifi", "net", "--wifi-country", "DE") == 0
    said = capsys.readouterr()
    assert "geheim" not in said.out + said.err and "raspberry" not in said.out + said.err
    disk = open_image(image)
    assert (disk.boot.read("/userconf.txt") or b"").startswith(b"pi:$6$")
    secret = "/etc/NetworkManager/system-connections/edgeloop-wifi.nmconnection"
    assert b"psk=geheim-genug" in (disk.root.read(secret) or b"")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"/etc/hostname": "x\n"}, "no Linux that edgeloop knows"),
        ({"/etc/os-release": 'VERSION_ID="12"\n'}, "does not start with systemd"),
        ({"/etc/os-release": 'VERSION_ID="12"\n', "/usr/lib/systemd/systemd": "x"}, "Python is missing"),
    ],
)
def test_a_system_without_what_the_agent_needs_is_left_alone(
    tmp_path: Path, bundle: Path, files: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = make_image(tmp_path / "x.img", files, root_mib=16)
    before = image.read_bytes()
    assert flash(image, "--bundle", bundle, "--source", "camera:0") == 2
    assert said in capsys.readouterr().err and image.read_bytes() == before


def test_a_full_partition_leaves_the_original(tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = raspberry_pi_os(tmp_path / "pi.img", root_mib=3)
    before = image.read_bytes()
    assert flash(image, "--bundle", bundle, "--source", "camera:0") == 2
    assert "MB free" in capsys.readouterr().err and image.read_bytes() == before


def test_a_bundle_that_the_device_would_refuse_is_refused_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_or_create_signing_key()
    unsigned = make_bundle(tmp_path / "u.bundle", signed=False)
    image = raspberry_pi_os(tmp_path / "pi.img")
    assert flash(image, "--bundle", unsigned, "--source", "camera:0") == 4
    assert "the device would refuse it" in capsys.readouterr().err


def test_a_bundle_for_another_processor_is_refused_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_or_create_signing_key()
    bundle = make_bundle(tmp_path / "pc.bundle", target="generic-x86-64")
    image = raspberry_pi_os(tmp_path / "pi.img")
    assert flash(image, "--bundle", bundle, "--source", "camera:0", "--dry-run") == 2
    assert "was made for generic-x86-64 (x86_64), the image is aarch64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--source", "camra:0"), "camera"),
        (("--source", "camera:0", "--telemetry", "htp://x"), "no known scheme"),
        (("--source", "camera:0", "--sink", "json:x"), "jsonl"),
        (("--source", "camera:0", "--enroll-token", "elt-1"), "is for a collector"),
        (("--source", "camera:0", "--user", "pi"), "set EDGELOOP_PASSWORD"),
        (("--source", "camera:0", "--wifi", "net"), "--wifi-country DE"),
        ((), "a bundle needs a source"),
    ],
)
def test_what_the_agent_would_refuse_is_refused_here(
    tmp_path: Path, bundle: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pi.img").write_bytes(b"never looked at")
    assert flash(tmp_path / "pi.img", "--bundle", bundle, *words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_token_and_a_certificate_lie_where_the_agent_looks(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, ca = raspberry_pi_os(tmp_path / "pi.img"), tmp_path / "ca.pem"
    words = ("--bundle", bundle, "--source", "camera:0", "--telemetry", "https://c.local:8443", "--ca", ca)
    ca.write_text("no certificate")
    assert flash(image, *words, "--enroll-token", "elt-1") == 2
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    assert flash(image, *words, "--enroll-token", "elt-1") == 0
    root = open_image(image).root
    assert b"elt-1" not in (root.read("/etc/edgeloop/agent.toml") or b"")
    folder = IdentityFolder(tmp_path / "state")
    folder.path.mkdir(parents=True)
    for name in root.names("/var/lib/edgeloop/agent/identity"):
        (folder.path / name).write_bytes(root.read(f"/var/lib/edgeloop/agent/identity/{name}") or b"")
    assert folder.laid_token() == "elt-1" and folder.ca_path is not None


def test_settings_of_a_file_come_along_and_a_card_without_a_name_names_its_boards(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mine.toml"
    config.write_text('# mine\nsource = "npz:/srv/x.npz"\nloop = true\ntrial = 5\n')
    image = raspberry_pi_os(tmp_path / "pi.img")
    assert flash(image, "--bundle", bundle, "--config", config, "--serial", "uart") == 0
    text = (open_image(image).root.read("/etc/edgeloop/agent.toml") or b"").decode()
    settings = tomllib.loads(text)
    assert text.startswith("# mine\n") and (settings["trial"], settings["loop"]) == (5, True)
    assert settings["bundle"] == answer(capsys)["bundle"] and settings["device"] == "{hostname}-{machine}"
    config.write_text('source = "npz:/srv/x.npz"\ntrail = 5\n')
    assert flash(image, "--bundle", bundle, "--config", config) == 2
    assert "unknown key 'trail'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_agent_comes_with_its_bytecode(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_module, "_compile", COMPILE)
    image = raspberry_pi_os(tmp_path / "pi.img", python=f"3.{sys.version_info.minor}")
    assert flash(image, "--bundle", bundle, "--source", "synthetic:") == 0
    name = f"cli.{sys.implementation.cache_tag}.pyc"
    code = open_image(image).root.read(f"/opt/edgeloop/agent/current/site/edgeloop_agent/__pycache__/{name}") or b""
    assert code[:8] == importlib.util.MAGIC_NUMBER + b"\1\0\0\0"  # PEP 552: by hash, and not checked
    assert b"/opt/edgeloop/agent/" in code and str(tmp_path).encode() not in code


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("/dev/null", "neither a file nor a disk"),
        ("/dev/sd-none", "there is no disk"),
        ("no/out.img", "there is no folder"),
    ],
)
def test_a_place_where_no_image_can_appear_is_said_at_once(
    tmp_path: Path, bundle: Path, out: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = raspberry_pi_os(tmp_path / "pi.img")
    place = out if out.startswith("/dev") else tmp_path / out
    assert flash(image, "-o", place, "--bundle", bundle, "--source", "camera:0", "--force") == 2
    error = answer(capsys)["error"]
    assert isinstance(error, dict) and said in error["message"], error
    assert Path("/dev/null").is_char_device()
