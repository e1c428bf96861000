"""The agent's systemd service on a device: installed by the agent itself, enabled and started here."""

from __future__ import annotations

import json
import shlex

from edgeloop.deploy.host import UNIT, Host, Places
from edgeloop.devices.connection import DEVICE_PYTHON
from edgeloop.errors import DeviceError

_TIMEOUT_S = 240.0
"""The unit gives a start three minutes."""


_LINGER = "sudo loginctl enable-linger $USER    # else the agent runs only while you are logged in"


def start_service(host: Host, owner: str, *, is_changed: bool, state: str) -> tuple[str, ...]:
    """Install, enable and start; started anew where something has changed. owner: the user it runs as. What remains to
    be typed there.

    Raises DeviceError."""
    places = host.places
    kind = "user" if places.is_own else "system"
    unit = UNIT if places.is_system else str(places.root / f"etc/systemd/{kind}/{UNIT}")
    command = shlex.join(host.agent_command())
    words = [*host.agent_command(), "service", "--json", "--command", command, "--config", places.config]
    if places.is_system:
        host.run([*words, "--install"], "installing the service")
        host.run(["systemd-sysusers"], "making the agent's user")
        host.run(["mkdir", "-p", state], "making the agent's folder")
        host.run(["chown", "-R", f"{owner}:", state], "handing the agent its folder")
        host.device.run(["udevadm", "control", "--reload"])  # without it a Coral stick waits for the next boot
    else:  # outside of where systemd looks: only the unit, by its path
        user = ["--user"] if places.is_own else ["--user", owner]
        text = json.loads(host.run([*words, *user], "the service").stdout)["unit"]
        host.settle([("file", unit, text)])
    control = places.systemctl
    host.run([*control, "daemon-reload"], "installing the service")
    host.run([*control, "enable", unit], "enabling the service")
    host.run([*control, "restart" if is_changed else "start", UNIT], "starting the service", timeout_s=_TIMEOUT_S)
    stays = not places.is_own or host.device.run(["loginctl", "enable-linger"]).exit_code == 0
    return () if stays else (_LINGER,)


def restart_service(host: Host) -> None:
    """Raises DeviceError."""
    host.run([*host.places.systemctl, "restart", UNIT], "starting the service", timeout_s=_TIMEOUT_S)


def take_service_away(host: Host) -> None:
    """Where there was none before. Raises DeviceError."""
    try:
        host.run([*host.places.systemctl, "disable", "--now", UNIT], "stopping the service", timeout_s=_TIMEOUT_S)
    except DeviceError:  # it never came so far
        return


def what_to_type(places: Places) -> tuple[str, ...]:
    """For `--no-service`, on the device."""
    agent = f"{DEVICE_PYTHON} -I {places.current_agent}/bin/edgeloop-agent"
    if not places.is_system:
        return (f"{agent} run --config {places.config}",)
    return (
        f"sudo {agent} service --install --command '{agent}'",
        "sudo systemd-sysusers",
        "sudo systemctl daemon-reload",
        "sudo systemctl enable --now edgeloop-agent",
    )
