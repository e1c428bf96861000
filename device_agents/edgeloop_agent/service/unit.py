"""The agent as a systemd service: unit, user and udev rule as texts, and writing them below a root. stdlib only."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edgeloop.errors import DeviceError, UsageError
from edgeloop.paths import missing_hint

UNIT_NAME = "edgeloop-agent.service"
USER_UNIT_NAME = "edgeloop-agent-user.service"
GROUPS = ("video", "dialout", "plugdev", "render")
"""Cameras and vcgencmd; serial lines; the Coral stick; GPUs."""

_UDEV_RULE = """SUBSYSTEM=="usb", ATTRS{idVendor}=="1a6e", ATTRS{idProduct}=="089a", MODE="0660", GROUP="plugdev"
SUBSYSTEM=="usb", ATTRS{idVendor}=="18d1", ATTRS{idProduct}=="9302", MODE="0660", GROUP="plugdev"
SUBSYSTEM=="apex", MODE="0660", GROUP="plugdev"
"""
_ANNOUNCED = """<?xml version="1.0" standalone='no'?>
<!DOCTYPE service-group SYSTEM "avahi-service.dtd">
<service-group>
  <name replace-wildcards="yes">%h</name>
  <service><type>_edgeloop._tcp</type><port>22</port></service>
</service-group>
"""
_CONFIG = """# Settings of the edgeloop agent, all of them in docs/agent.md.
# Read again by: systemctl reload edgeloop-agent
# bundle = "/var/lib/edgeloop/bundles/NAME.bundle"
# source = "camera:0"
# telemetry = "https://collector.local:8443"    # or a list, in order: ["https://...", "file:///media/usb/edgeloop"]
"""
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_SIZE = re.compile(r"\d+[KMGT]?|\d{1,3}%|infinity")


@dataclass(frozen=True)
class Service:
    """Raises UsageError for what cannot stand in a unit. command: how the agent is started, without a verb."""

    command: str
    config: str = "/etc/edgeloop/agent.toml"
    user: str = "edgeloop"
    memory_max: str = "60%"

    def __post_init__(self) -> None:
        if not _USER.fullmatch(self.user):
            raise UsageError(f"'{self.user}' is not the name of a user", hint="letters, digits, _ and -")
        if not _SIZE.fullmatch(self.memory_max):
            raise UsageError(f"'{self.memory_max}' is not a size", hint="for example 300M or 60%")
        if not Path(self.config).is_absolute() or any(c.isspace() or c in "%\"'\\$" for c in self.config):
            raise UsageError(f"config '{self.config}' must be an absolute path without blanks, quotes, % and $")

    def unit(self, name: str = UNIT_NAME) -> str:
        """The text of `edgeloop-agent.service`; name: of the file that it is made of."""
        text = (resources.files("edgeloop_agent") / "units" / name).read_text(encoding="utf-8")
        values = {"COMMAND": self.command, "CONFIG": self.config, "USER": self.user, "MEMORY_MAX": self.memory_max}
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text

    def files(self) -> dict[str, str]:
        """Path below the root -> content."""
        members = [f"m {self.user} {group}" for group in GROUPS]  # makes the groups, too
        user = f'u {self.user} - "edgeloop device agent" /var/lib/edgeloop'
        return {
            f"etc/systemd/system/{UNIT_NAME}": self.unit(),
            "etc/sysusers.d/edgeloop.conf": "\n".join([user, *members, ""]),
            "etc/udev/rules.d/99-coral.rules": _UDEV_RULE,
            "etc/avahi/services/edgeloop.service": _ANNOUNCED,  # `edgeloop devices find`
        }


@dataclass(frozen=True)
class Installed:
    """Paths that were written, those that were there and stay, and the commands that remain to be typed."""

    written: tuple[str, ...]
    kept: tuple[str, ...]
    next: tuple[str, ...]


def install(service: Service, root: Path) -> Installed:
    """Write everything below `root`; a config that is there stays. Raises DeviceError, UsageError."""
    if not root.is_dir():
        raise UsageError(f"--root {root}: there is no such folder", hint=missing_hint(root) or "mount the image first")
    config = root / service.config.lstrip("/")
    contents = {root / name: text for name, text in service.files().items()}
    kept = _write(contents, config)
    commands = ["systemd-sysusers", "systemctl daemon-reload", "udevadm control --reload"] if root == Path("/") else []
    following = [f"edit {service.config}: bundle and source", *(f"sudo {command}" for command in commands)]
    following.append(f"sudo systemctl {'enable --now' if commands else f'--root={root} enable'} edgeloop-agent")
    return Installed(tuple(map(str, contents)), kept, tuple(following))


def install_for_user(service: Service, folder: Path) -> Installed:
    """For whoever calls, without root. folder: of the user's settings (XDG_CONFIG_HOME). Raises DeviceError."""
    contents = {folder / "systemd/user" / UNIT_NAME: service.unit(USER_UNIT_NAME)}
    kept = _write(contents, Path(service.config))
    following = (
        f"edit {service.config}: bundle and source",
        "systemctl --user daemon-reload",
        "systemctl --user enable --now edgeloop-agent",
        "loginctl enable-linger    # to run from the boot on, not from your login; sudo where it is refused",
    )
    return Installed(tuple(map(str, contents)), kept, following)


def _write(contents: dict[Path, str], config: Path) -> tuple[str, ...]:
    """All of it, and a config to fill in where there is none: what was there and stays. Raises DeviceError."""
    kept = (str(config),) if config.exists() else ()
    if not kept:
        contents[config] = _CONFIG
    for path, text in contents.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            hint = (
                "sudo edgeloop-agent service --install, or service --user --install"
                if isinstance(error, PermissionError)
                else None
            )
            raise DeviceError(f"{path}: {error.strerror}", hint=hint) from error
    return kept


def agent_command() -> str:
    """How this agent is started: by its own launcher, else as a module of this Python. Raises UsageError."""
    launcher = Path(sys.argv[0]).absolute()
    if launcher.name == "edgeloop-agent" and launcher.is_file():
        isolated = [sys.executable, "-I"] if sys.flags.isolated else []
        words = [*isolated, str(launcher)]
    else:
        words = [sys.executable, "-m", "edgeloop_agent.cli"]
    if any(c.isspace() or c in "%\"'\\$" for word in words for c in word):
        raise UsageError(f"the agent is in {words[-1]}: a path with blanks or quotes cannot stand in a unit")
    return " ".join(words)
