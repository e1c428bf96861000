"""`edgeloop deploy ssh://HOST FILE` for a version of the agent or a config: through the door of the agent that is
installed there, then the first sign that it is well. What root installed stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeloop.deploy.host import Host, open_host
from edgeloop.deploy.remote import Deployed, DeployPlan
from edgeloop.deploy.remote_door import RemoteDoor, through_the_door
from edgeloop.deploy.waiting import wait_until_well
from edgeloop.devices.connection import Device, read_platform
from edgeloop.errors import DeviceError, RefusedError, UsageError
from edgeloop.progress import Progress


def deploy_package(device: Device, plan: DeployPlan, progress: Progress) -> Deployed:
    """Raises GoalNotMetError where the device refuses it or rolls it back, DeviceError, RefusedError, UsageError for a
    device without an agent."""
    platform = read_platform(device)
    host = open_host(device, platform, plan.prefix, is_own=plan.is_own_service)
    found, cargo = host.look(), plan.cargo
    if found.agent is None or found.config is None:
        raise UsageError(
            f"{device.url} has no agent that could take the {cargo.kind}",
            hint="edgeloop deploy URL BUNDLE --source SOURCE puts one there",
        )
    if plan.key.fingerprint not in found.keys:
        raise RefusedError(
            f"{device.url} does not trust {plan.key.fingerprint}, which signed the {cargo.kind}",
            hint=f"it trusts: {', '.join(found.keys) or 'nobody'}",
        )
    if plan.dry_run:
        return Deployed("would be installed", found.agent, (f"{cargo.bytes} bytes go to the device's door",))
    with host.locked():
        through_the_door(
            host, cargo, RemoteDoor("current", found.owner, found.config, flags=plan.update_flags), progress
        )
        try:
            with progress.step("wait until it is well"):
                wait_until_well(device.url, cargo, lambda: _look(host, found.owner, cargo.kind), plan.wait_s)
        except DeviceError:
            running = _standing(host, found.owner, cargo.kind)
            if running.get("on_trial") and (running.get("running") or {}).get("digest") == cargo.digest:
                host.ask(found.owner, "rollback", "--package", cargo.kind, may_fail=True)
            raise
    return Deployed("committed", found.agent, ())


def roll_back_package(
    device: Device, kind: str, *, prefix: str | None = None, is_own_service: bool = False
) -> int | None:
    """The version of the agent or config ("agent", "config") that was well there before; None: what root installed.
    Raises UsageError where there is nothing to go back to, DeviceError for a device without an agent."""
    host = open_host(device, read_platform(device), prefix, is_own=is_own_service)
    found = host.look()
    if found.agent is None:
        raise DeviceError(f"{device.url} has no agent", hint="edgeloop deploy puts one there")
    with host.locked():
        number = host.ask(found.owner, "rollback", "--package", kind)["version"]
    return None if number is None else int(number)


def _standing(host: Host, owner: str, kind: str) -> dict[str, Any]:
    return dict(host.ask(owner, "versions", may_fail=True).get(kind) or {})


def _look(host: Host, owner: str, kind: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    return _standing(host, owner, kind), host.ask(owner, "status", may_fail=True)
