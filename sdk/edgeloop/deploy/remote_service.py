"""The agent's systemd service on a device: installed by the agent itself, enabled and started here."""

from __future__ import annotations

import json
import shlex

from edgeloop.deploy.host import UNIT, Host, Places
from edgeloop.devices.connection import DEVICE_PYTHON
from edgeloop.errors import DeviceError

_TIMEOUT_S = 240.0
"""The unit gives a start three minutes."""


def start_service(host: Host, owner: str, *, is_changed: bool, state: str) -> None:
    """Install, enable and start; started anew where something has changed. owner: the user it runs as.

    Raises DeviceError."""
    places = host.places
    unit = UNIT if places.is_system else str(places.root / f"etc/systemd/system/{UNIT}")
    command = shlex.join(host.agent_command())
    words = [*host.agent_command(), "service", "--json", "--command", command, "--config", places.config]
    if places.is_system:
        host.run([*words, "--install"], "installing the service")
        host.run(["systemd-sysusers"], "making the agent's user")
        host.run(["mkdir", "-p", state], "making the agent's folder")
        host.run(["chown", "-R", f"{owner}:", state], "handing the agent its folder")
        host.device.run(["udevadm", "control", "--reload"])  # without it a Coral stick waits for the next boot
    else:  # outside of where systemd looks: only the unit, by its path
        text = json.loads(host.run([*words, "--user", owner], "the service").stdout)["unit"]
        host.settle([("file", unit, text)])
    host.run(["systemctl", "daemon-reload"], "installing the service")
    host.run(["systemctl", "enable", unit], "enabling the service")
    host.run(["systemctl", "restart" if is_changed else "start", UNIT], "starting the service", timeout_s=_TIMEOUT_S)


def restart_service(host: Host) -> None:
    """Raises DeviceError."""
    host.run(["systemctl", "restart", UNIT], "starting the service", timeout_s=_TIMEOUT_S)


def take_service_away(host: Host) -> None:
    """Where there was none before. Raises DeviceError."""
    try:
        host.run(["systemctl", "disable", "--now", UNIT], "stopping the service", timeout_s=_TIMEOUT_S)
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
