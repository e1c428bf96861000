"""What a card is told for its first boot: name, user, network, serial line. Files as values, no I/O.

Raspberry Pi OS Bookworm: `userconf.txt` and `ssh` on the boot partition (raspberrypi.com, Configuration, "Headless"),
NetworkManager's connections in the root. Trixie: cloud-init's `user-data` and `network-config` on the boot partition.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field

from edgeloop.deploy.image.files import Entries, FileEntry, LinkEntry
from edgeloop.errors import UsageError

_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_LINE_BREAKS = re.compile(r"[\x00-\x1f\x7f]")
SERIAL_DEVICES = {"uart": "/dev/serial0", "usb": "/dev/ttyGS0"}
_GETTYS = {"uart": ("serial-getty@ttyS0", "serial-getty@ttyAMA0", "serial-getty@serial0"), "usb": ("getty@ttyGS0",)}
_UART_CONSOLES = re.compile(r"\s*console=(?:serial0|ttyAMA0|ttyS0),\d+")


@dataclass(frozen=True)
class FirstBoot:
    """None and "": as the image has it. password_hash: as crypt(3) makes it. wifi: (name, password, country)."""

    hostname: str = ""
    user: str = ""
    password_hash: str = ""
    authorized_keys: tuple[str, ...] = ()
    wifi: tuple[str, str, str] | None = field(default=None, repr=False)
    serial: str = ""

    def __post_init__(self) -> None:
        if self.hostname and not _HOSTNAME.fullmatch(self.hostname):
            raise UsageError(f"{self.hostname!r} is no host name", hint="letters, digits and -, at most 63")
        if self.user and not _USER.fullmatch(self.user):
            raise UsageError(f"{self.user!r} is no user name", hint="small letters, digits, _ and -")
        if self.user and not (self.password_hash or self.authorized_keys):
            raise UsageError("a user needs a password or an SSH key", hint="--ssh-key ~/.ssh/id_ed25519.pub")
        if (self.password_hash or self.authorized_keys) and not self.user:
            raise UsageError("a password or an SSH key needs a user", hint="--user NAME")
        if self.serial and self.serial not in SERIAL_DEVICES:
            raise UsageError(f"serial line {self.serial!r} is not known", hint="uart or usb")
        if self.wifi is not None:
            name, password, country = self.wifi
            if not 1 <= len(name.encode()) <= 32 or not 8 <= len(password) <= 63:
                raise UsageError("a wireless network has a name of 1 to 32 bytes and a password of 8 to 63 characters")
            if not _COUNTRY.fullmatch(country):
                raise UsageError(f"{country!r} is no country code", hint="two capital letters, as in DE or US")
        for text in (*self.authorized_keys, *(self.wifi or ())):
            if _LINE_BREAKS.search(text):
                raise UsageError("a key, network name or password has a line break or control character in it")


@dataclass(frozen=True)
class CardFiles:
    """What goes onto the boot partition, and what into the root."""

    boot: Entries
    root: Entries


def first_boot_files(wish: FirstBoot, *, has_cloud_init: bool, config_txt: str, cmdline_txt: str) -> CardFiles:
    """config_txt, cmdline_txt: as they are on the boot partition now."""
    boot: dict[str, FileEntry | LinkEntry] = {}
    root: dict[str, FileEntry | LinkEntry] = {}
    if has_cloud_init:
        if wish.hostname or wish.user:
            boot["/user-data"] = _text(_user_data(wish))
            boot["/meta-data"] = _text(f"instance-id: edgeloop-{_stable(wish)}\n")
        if wish.wifi is not None:
            boot["/network-config"] = FileEntry(_network_config(*wish.wifi).encode(), 0o600)
    else:
        if wish.hostname:
            root["/etc/hostname"] = _text(f"{wish.hostname}\n")
            root["/etc/hosts"] = _text(f"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{wish.hostname}\n")
        if wish.user:
            # "*": no password at all, only keys.
            boot["/userconf.txt"] = _text(f"{wish.user}:{wish.password_hash or '*'}\n")
            boot["/ssh"] = FileEntry(b"")
        if wish.authorized_keys:
            keys = "".join(f"{key}\n" for key in wish.authorized_keys)
            # The user is made at the first boot: sshd is told of a file that is there before the home folder is.
            root[f"/etc/ssh/authorized_keys/{wish.user}"] = _text(keys)
            root["/etc/ssh/sshd_config.d/edgeloop.conf"] = _text(
                "AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys/%u\n"
            )
        if wish.wifi is not None:
            connection = "/etc/NetworkManager/system-connections/edgeloop-wifi.nmconnection"
            root[connection] = FileEntry(_nm_connection(*wish.wifi).encode(), 0o600)
    if wish.serial:
        config, cmdline = serial_settings(wish.serial, config_txt, cmdline_txt)
        boot["/config.txt"], boot["/cmdline.txt"] = _text(config), _text(cmdline)
        for unit in _GETTYS[wish.serial]:
            root[f"/etc/systemd/system/{unit}.service"] = LinkEntry("/dev/null")
    return CardFiles(boot, root)


def serial_settings(kind: str, config_txt: str, cmdline_txt: str) -> tuple[str, str]:
    """config.txt and cmdline.txt with the line enabled and free of consoles; the same again changes nothing."""
    wanted = {"uart": "enable_uart=1", "usb": "dtoverlay=dwc2,dr_mode=peripheral"}[kind]
    lines = config_txt.rstrip("\n").split("\n") if config_txt.strip() else []
    if wanted not in lines:
        lines += ["", "[all]", wanted]
    words = cmdline_txt.strip()
    if kind == "uart":
        words = _UART_CONSOLES.sub("", f" {words}").strip()
    elif "modules-load=dwc2,g_serial" not in words.split():
        words += " modules-load=dwc2,g_serial"
    return "\n".join(lines) + "\n", words + "\n"


def _user_data(wish: FirstBoot) -> str:
    lines = ["#cloud-config"]
    if wish.hostname:
        lines += [f"hostname: {wish.hostname}", "manage_etc_hosts: true"]
    if wish.user:
        lines += [
            "users:",
            f"  - name: {wish.user}",
            "    groups: users,adm,dialout,sudo,video,plugdev,render,gpio,i2c,spi",
        ]
        lines += ["    shell: /bin/bash", f"    lock_passwd: {'false' if wish.password_hash else 'true'}"]
        if wish.password_hash:
            lines.append(f"    passwd: {_quoted(wish.password_hash)}")
        if wish.authorized_keys:
            lines += ["    ssh_authorized_keys:", *(f"      - {_quoted(key)}" for key in wish.authorized_keys)]
        lines += ["enable_ssh: true", f"ssh_pwauth: {'true' if wish.password_hash else 'false'}"]
    return "\n".join(lines) + "\n"


def _network_config(name: str, password: str, country: str) -> str:
    return (
        "network:\n  version: 2\n  wifis:\n    wlan0:\n      dhcp4: true\n"
        f"      regulatory-domain: {country}\n      access-points:\n        {_quoted(name)}:\n"
        f"          password: {_quoted(password)}\n"
    )


def _nm_connection(name: str, password: str, _country: str) -> str:
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"edgeloop.{name}")
    ssid = ";".join(str(byte) for byte in name.encode()) + ";"  # any name, as bytes
    return (
        f"[connection]\nid=edgeloop-wifi\nuuid={identity}\ntype=wifi\nautoconnect=true\n\n"
        f"[wifi]\nmode=infrastructure\nssid={ssid}\n\n"
        f"[wifi-security]\nkey-mgmt=wpa-psk\npsk={_keyfile_text(password)}\n\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
    )


def _keyfile_text(text: str) -> str:
    """GLib's key files: a backslash is doubled, a leading blank is \\s."""
    text = text.replace("\\", "\\\\")
    return f"\\s{text[1:]}" if text.startswith(" ") else text


def _quoted(text: str) -> str:
    """A YAML string in double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _stable(wish: FirstBoot) -> str:
    """Another one for other wishes: cloud-init runs again then."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, repr((wish, wish.wifi))).hex[:12]


def _text(text: str) -> FileEntry:
    return FileEntry(text.encode())
