"""What a card is told for its first boot."""

from __future__ import annotations

from typing import Any

import pytest
import tomllib

from edgeloop.deploy.agent_settings import config_text
from edgeloop.deploy.image.files import FileEntry, LinkEntry
from edgeloop.deploy.image.first_boot import CardFiles, FirstBoot, first_boot_files, serial_settings
from edgeloop.errors import UsageError
from support.disk_images import CMDLINE, CONFIG

KEY = "ssh-ed25519 AAAAC3NzaC1 me@laptop"


def made(wish: FirstBoot, *, cloud: bool = False) -> CardFiles:
    return first_boot_files(wish, has_cloud_init=cloud, config_txt=CONFIG, cmdline_txt=CMDLINE)


def text(entry: FileEntry | LinkEntry) -> str:
    assert isinstance(entry, FileEntry) and isinstance(entry.content, bytes)
    return entry.content.decode()


def test_nothing_wished_is_nothing_written() -> None:
    assert made(FirstBoot()) == CardFiles({}, {}) == made(FirstBoot(), cloud=True)


def test_bookworm_is_told_by_userconf_and_network_manager() -> None:
    card = made(FirstBoot("pi-1", "pi", "$6$salt$hash", (KEY,), ("Café; net", "geheim\\123", "DE")))
    assert text(card.root["/etc/hostname"]) == "pi-1\n" and "127.0.1.1\tpi-1" in text(card.root["/etc/hosts"])
    assert text(card.boot["/userconf.txt"]) == "pi:$6$salt$hash\n" and "/ssh" in card.boot
    assert text(card.root["/etc/ssh/authorized_keys/pi"]) == f"{KEY}\n"
    connection = card.root["/etc/NetworkManager/system-connections/edgeloop-wifi.nmconnection"]
    assert isinstance(connection, FileEntry) and connection.mode == 0o600
    assert "ssid=67;97;102;195;169;59;32;110;101;116;" in text(connection) and "psk=geheim\\\\123" in text(connection)


def test_trixie_is_told_by_cloud_init() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads what cloud-init would")
    card = made(FirstBoot("pi-1", "pi", "$6$salt$hash", (KEY,), ('a"b', "geheim12\\", "DE")), cloud=True)
    assert card.root == {}
    user_data: dict[str, Any] = yaml.safe_load(text(card.boot["/user-data"]))
    assert user_data["hostname"] == "pi-1"
    assert user_data["users"][0]["ssh_authorized_keys"] == [KEY] and user_data["users"][0]["passwd"] == "$6$salt$hash"
    network: dict[str, Any] = yaml.safe_load(text(card.boot["/network-config"]))
    assert network["network"]["wifis"]["wlan0"]["access-points"] == {'a"b': {"password": "geheim12\\"}}


def test_the_uart_is_enabled_and_freed_of_consoles() -> None:
    config, cmdline = serial_settings("uart", CONFIG, CMDLINE)
    assert config.endswith("\n[all]\nenable_uart=1\n") and "console=serial0" not in cmdline
    assert "console=tty1 root=PARTUUID=1234-02" in cmdline
    assert serial_settings("uart", config, cmdline) == (config, cmdline)
    card = made(FirstBoot(serial="uart"))
    assert card.root["/etc/systemd/system/serial-getty@ttyAMA0.service"] == LinkEntry("/dev/null")


def test_the_usb_gadget_is_a_serial_line() -> None:
    config, cmdline = serial_settings("usb", CONFIG, CMDLINE)
    assert "dtoverlay=dwc2" in config and cmdline.endswith("rootwait modules-load=dwc2,g_serial\n")
    assert serial_settings("usb", config, cmdline) == (config, cmdline)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"hostname": "a b"}, "is no host name"),
        ({"hostname": "-x"}, "is no host name"),
        ({"user": "Pi", "password_hash": "x"}, "is no user name"),
        ({"user": "pi"}, "needs a password or an SSH key"),
        ({"password_hash": "x"}, "needs a user"),
        ({"wifi": ("net", "short", "DE")}, "8 to 63"),
        ({"wifi": ("net", "longenough", "germany")}, "country code"),
        ({"user": "pi", "authorized_keys": (f"{KEY}\nroot:x",)}, "line break"),
        ({"serial": "spi"}, "not known"),
    ],
)
def test_what_cannot_be_wished(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        FirstBoot(**wish)


def test_the_config_is_toml_whatever_is_in_it() -> None:
    settings = {"source": 'folder:/a "b"\\c\x7f', "sink": ["jsonl:x", "é"], "rate": 2.5, "gate": True, "count": 3}
    assert tomllib.loads(config_text(settings)) == settings
