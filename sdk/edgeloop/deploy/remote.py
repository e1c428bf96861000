"""`edgeloop deploy` to one device: agent, key, config, service and bundle, then the first sign that it is well.

    look -> lock -> agent beside the old one -> the device's own door: verified, rehearsed, on trial
         -> key, config and agent link, a rename each -> service -> committed, or as it was before

What the door refuses changes nothing but an unpacked agent that nothing runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeloop.bundle import PublicKey
from edgeloop.deploy.agent_settings import changed_config
from edgeloop.deploy.card import link_of
from edgeloop.deploy.cargo import Cargo, signed_cargo
from edgeloop.deploy.host import USER, Change, Found, Host, Places, open_host
from edgeloop.deploy.remote_door import RemoteDoor, through_the_door
from edgeloop.deploy.remote_service import restart_service, start_service, take_service_away, what_to_type
from edgeloop.deploy.waiting import wait_until_well
from edgeloop.devices.connection import Device, read_platform
from edgeloop.devices.install import InstalledAgent, install_agent
from edgeloop.errors import DeviceError, EdgeloopError, GoalNotMetError, RefusedError
from edgeloop.progress import Progress

RELEASE_ROOT = "release/root.json"
"""In the agent's state folder. It stays where a deploy is undone: without its config nothing reads it."""


@dataclass(frozen=True)
class DeployPlan:
    """What goes to every device. key: whose signature the bundle has. settings: keys of the agent's config that the
    user gave. update_flags: given to the door as they are. prefix: stands for "/" on the device. is_own_service: of the
    user who logs in, without root. release_root: the text of whom it believes about releases."""

    cargo: Cargo
    key: PublicKey
    settings: Mapping[str, Any] = field(default_factory=dict)
    update_flags: tuple[str, ...] = ()
    prefix: str | None = None
    slim: bool = False
    with_service: bool = True
    dry_run: bool = False
    wait_s: float = 900.0
    release_root: str | None = None
    is_own_service: bool = False


def plan_deploy(path: Path, **options: Any) -> DeployPlan:
    """Raises as `signed_cargo`."""
    return DeployPlan(*signed_cargo(path), **options)


@dataclass(frozen=True)
class Deployed:
    """state: "committed", "installed" (without the service) or "would be installed". steps: what was done, or would be.
    next: what remains to be typed on the device."""

    state: str
    agent_version: str
    steps: tuple[str, ...]
    next: tuple[str, ...] = ()


def deploy(device: Device, plan: DeployPlan, progress: Progress) -> Deployed:
    """Raises GoalNotMetError where the device refuses the bundle or rolls it back, DeviceError, RefusedError,
    UsageError."""
    platform = read_platform(device)
    host = open_host(device, platform, plan.prefix, is_own=plan.is_own_service)
    found = host.look()
    if plan.with_service and not found.has_systemctl:
        raise DeviceError(f"{device.url} has no systemd", hint="--no-service installs agent and bundle only")
    changes = _changes(device.url, found, host.places, plan)
    if plan.dry_run:
        return Deployed("would be installed", found.agent or "none", _in_words(changes, plan))
    with host.locked():
        with progress.step("install the agent") as advance:
            agent = install_agent(host.device, platform, host.places.layout, advance, slim=plan.slim)
        if found.agent != agent.version:
            changes.append(("link", host.places.current_agent, agent.version))
        _to_the_door(host, found, agent, plan, changes, progress)
        undo = _undo(host, changes, found)
        owner = USER if host.places.is_system else platform.user
        try:
            host.settle(changes)
            if plan.key.fingerprint not in found.keys:
                progress.note(f"first deploy: {device.url} trusts {plan.key.fingerprint} from now on")
            if not plan.with_service:
                next_steps = what_to_type(host.places)
                return Deployed("installed", agent.version, _in_words(changes, plan), next_steps)
            to_type = start_service(host, owner, is_changed=bool(changes), state=found.state)
            with progress.step("wait until it is well"):
                _wait(host, owner, plan)
        except EdgeloopError as error:
            if not isinstance(error, GoalNotMetError):  # else the device has gone back already
                _end_trial(host, found.owner or owner, plan)
            if undo:
                _as_it_was(host, undo, had_agent=found.agent is not None, plan=plan)
            raise
    return Deployed("committed", agent.version, _in_words(changes, plan), to_type)


def _changes(url: str, found: Found, places: Places, plan: DeployPlan) -> list[Change]:
    """Key and config that the device lacks. Raises RefusedError where it trusts others."""
    changes: list[Change] = []
    if plan.key.fingerprint not in found.keys:
        if found.keys:
            raise RefusedError(
                f"{url} trusts other keys than {plan.key.fingerprint}, which signed the bundle",
                hint=f"if it shall trust this one, too: put its .pub file into {places.trusted} on the device, "
                f"it has now: {', '.join(found.keys)}",
            )
        name = plan.key.fingerprint.removeprefix("el:").replace("-", "")[:12]
        changes.append(("file", f"{places.trusted}/{name}.pub", plan.key.to_text()))
    link = link_of(found.state, plan.cargo.name)
    text = changed_config(found.config, link, plan.settings, places.needed_settings())
    if text != found.config:
        changes.append(("file", places.config, text))
    if plan.release_root is not None:
        changes.append(("file", f"{found.state}/{RELEASE_ROOT}", plan.release_root))
    return changes


def _in_words(changes: list[Change], plan: DeployPlan) -> tuple[str, ...]:
    words = []
    for kind, path, content in changes:
        is_key = path.endswith(".pub")
        what = f"trusts {plan.key.fingerprint}: {path}" if is_key else f"{path}"
        words.append(f"{what} -> {content}" if kind == "link" else what)
    return tuple(words)


def _to_the_door(
    host: Host, found: Found, agent: InstalledAgent, plan: DeployPlan, changes: list[Change], progress: Progress
) -> None:
    """On trial, or there already. Raises what the door refuses."""
    contents = {path: content for kind, path, content in changes if kind == "file"}
    is_trusted = plan.key.fingerprint in found.keys
    door = RemoteDoor(
        agent.version, found.owner, contents.get(host.places.config, found.config) or "",
        "" if is_trusted else plan.key.to_text(), plan.update_flags,
    )  # fmt: skip
    through_the_door(host, plan.cargo, door, progress)


def _undo(host: Host, changes: list[Change], found: Found) -> list[Change]:
    """What brings everything back, in the opposite order."""
    before = {host.places.config: found.config, host.places.current_agent: found.agent}
    return [(kind, path, before.get(path)) for kind, path, _ in reversed(changes) if not path.endswith(RELEASE_ROOT)]


def _as_it_was(host: Host, undo: list[Change], *, had_agent: bool, plan: DeployPlan) -> None:
    if plan.with_service and not had_agent:
        take_service_away(host)
    host.settle(undo)
    if plan.with_service and had_agent:
        restart_service(host)


def _end_trial(host: Host, owner: str, plan: DeployPlan) -> None:
    """What was committed runs again, nothing where nothing was, while the new version is still on trial. Said to the
    door as that: a `rollback` would go back one more where the device went back by itself a moment ago."""
    name = plan.cargo.name
    running = _standing(host, owner, name).get("running")
    if running and running["digest"] == plan.cargo.digest:
        host.ask(owner, "rollback", name, "--trial", may_fail=True)


def _standing(host: Host, owner: str, name: str) -> dict[str, Any]:
    """Of this model, as `edgeloop-agent versions` has it; {} where it has none."""
    for model in host.ask(owner, "versions", may_fail=True).get("models", []):
        if model.get("name") == name:
            return dict(model)
    return {}


def _wait(host: Host, owner: str, plan: DeployPlan) -> None:
    name = plan.cargo.name

    def look() -> tuple[dict[str, Any], dict[str, Any]]:
        return _standing(host, owner, name), host.ask(owner, "status", may_fail=True)

    wait_until_well(host.device.url, plan.cargo, look, plan.wait_s)
