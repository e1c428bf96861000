"""`edgeloop rollback` on one device: its agent's own `rollback`, then a look whether the running agent took it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from edgeloop.deploy.host import open_host
from edgeloop.devices.connection import Device, read_platform
from edgeloop.errors import DeviceError

_LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class WentBack:
    """is_running: False where no agent runs there."""

    name: str
    version: int
    is_running: bool


def roll_back(
    device: Device, name: str | None, *, prefix: str | None = None, wait_s: float = 60.0, is_own_service: bool = False
) -> WentBack:
    """is_own_service: see DeployPlan. Raises UsageError where there is nothing to go back to, DeviceError where the
    agent does not take it."""
    platform = read_platform(device)
    host = open_host(device, platform, prefix, is_own=is_own_service)
    found = host.look()
    if found.agent is None:
        raise DeviceError(f"{device.url} has no agent", hint="edgeloop deploy puts one there")
    with host.locked():
        runs_there = bool(host.ask(found.owner, "status", may_fail=True))
        done = host.ask(found.owner, "rollback", *([name] if name else []))
        went = WentBack(str(done["name"]), int(done["version"]), is_running=False)
        until_s = time.monotonic() + wait_s
        # Once it ran it is waited for: it may be silent for a moment while it changes its models.
        while runs_there:
            for model in host.ask(found.owner, "status", may_fail=True).get("models", ()):
                shown = (model.get("bundle"), model.get("version"), model.get("phase"))
                if shown == (went.name, went.version, "running"):
                    return WentBack(went.name, went.version, is_running=True)
            if time.monotonic() > until_s:
                raise DeviceError(
                    f"{device.url}: the agent does not run version {went.version} after {wait_s:.0f} s",
                    hint="edgeloop-agent status on the device says more",
                )
            time.sleep(_LOOK_EVERY_S)
    return went
