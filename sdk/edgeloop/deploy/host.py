"""A device as `deploy` sees it: where things are on it, what it has already, and how root does something there.

Only the agent's own command line and its `--json` are spoken; which files it keeps is its own matter.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from edgeloop.bundle import PublicKey
from edgeloop.deploy._on_device import HOLD, LOOK, SETTLE
from edgeloop.deploy.card import CONFIG, STATE, TRUSTED
from edgeloop.devices.connection import DEVICE_PYTHON, Completed, Device, DevicePlatform, Running
from edgeloop.devices.install import DeviceLayout
from edgeloop.errors import ConfigError, DeviceError, EdgeloopError, RefusedError, UsageError
from edgeloop.tomlfile import parse_toml

UNIT = "edgeloop-agent.service"
USER = "edgeloop"
_LOCK_TIMEOUT_S = 20.0
_ERRORS: Mapping[int, type[EdgeloopError]] = {e.exit_code: e for e in (UsageError, DeviceError, RefusedError)}


class RootDevice:
    """A device on which every command is run by `sudo -n`."""

    is_local = False

    def __init__(self, device: Device) -> None:
        self._device = device
        self.url = device.url

    def run(self, argv: Sequence[str], *, stdin: Iterable[bytes] = (), timeout_s: float = 60.0) -> Completed:
        return self._device.run(["sudo", "-n", "--", *argv], stdin=stdin, timeout_s=timeout_s)

    def start(
        self, argv: Sequence[str], on_line: Callable[[str], None], on_error: Callable[[str], None] | None = None
    ) -> Running:
        return self._device.start(["sudo", "-n", "--", *argv], on_line, on_error)

    def forward_to_host(self, host_port: int) -> int:
        return self._device.forward_to_host(host_port)

    def close(self) -> None:
        self._device.close()


def as_root(device: Device, platform: DevicePlatform, prefix: str | None) -> Device:
    """The device with root's rights; as it is below a prefix. Raises DeviceError where sudo asks for a password."""
    if platform.is_root or prefix is not None:
        return device
    if device.run(["sudo", "-n", "true"]).exit_code == 0:
        return RootDevice(device)
    raise DeviceError(
        f"{device.url}: {platform.user} may not use sudo without a password; nothing was changed",
        hint=f"ssh://root@..., or on the device: echo '{platform.user} ALL=(ALL) NOPASSWD: ALL' | "
        "sudo tee /etc/sudoers.d/edgeloop",
    )


@dataclass(frozen=True)
class Places:
    """Paths on the device; everything is below `root`, which is "/" for real. is_own: for whoever logs in, without
    root's rights, as a service of their own."""

    root: PurePosixPath
    is_own: bool = False

    @property
    def layout(self) -> DeviceLayout:
        return DeviceLayout(self.root)

    @property
    def config(self) -> str:
        return str(self.root / CONFIG[1:])

    @property
    def state(self) -> str:
        return str(self.root / STATE[1:])

    @property
    def trusted(self) -> str:
        return str(self.root / TRUSTED[1:])

    @property
    def current_agent(self) -> str:
        return str(self.layout.agents / "current")

    @property
    def is_system(self) -> bool:
        return self.root == PurePosixPath("/")

    @property
    def systemctl(self) -> list[str]:
        """The command; a user's manager is found by a variable that not every way of logging in sets."""
        if not self.is_own:
            return ["systemctl"]
        folder = 'XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"'
        return ["sh", "-c", f'export {folder}; exec systemctl --user "$@"', "systemctl"]

    def needed_settings(self) -> dict[str, Any]:
        """What a config has to say where the places are not the usual ones."""
        return {} if self.is_system else {"state": self.state, "trust": [self.trusted]}


@dataclass(frozen=True)
class Found:
    """What the device has. config: agent.toml's text. state: the agent's folder. agent: what the link `current` says.
    owner: of the state folder, "" where there is none. keys: public keys it trusts, by fingerprint."""

    config: str | None
    state: str
    agent: str | None
    owner: str
    keys: Mapping[str, PublicKey]
    has_systemctl: bool


OWN_FOLDER = ".local/share/edgeloop-device"
"""Below the home of whoever has no root's rights, as for `edgeloop run`."""

Change = tuple[str, str, str | None]
"""("file" or "link", path, its text or target; None: it goes)."""


def open_host(device: Device, platform: DevicePlatform, prefix: str | None, *, is_own: bool = False) -> Host:
    """With root's rights, or below a folder. prefix: stands for "/". is_own: see Places. Raises as `as_root`."""
    below = prefix or (f"{platform.home}/{OWN_FOLDER}" if is_own else None)
    return Host(as_root(device, platform, below), Places(PurePosixPath(below or "/"), is_own))


class Host:
    """A device that is being deployed to. device: with root's rights."""

    def __init__(self, device: Device, places: Places) -> None:
        self.device, self.places = device, places

    def look(self) -> Found:
        """Nothing is changed. Raises DeviceError, ConfigError."""
        said = self._look(self.places.state, [self.places.trusted])
        settings = parse_toml(said["config"] or "", f"agent config on {self.device.url}")
        state, trust = str(settings.get("state") or self.places.state), settings.get("trust") or [self.places.trusted]
        if "state" in settings or "trust" in settings:
            said = self._look(state, [trust] if isinstance(trust, str) else list(map(str, trust)))
        keys = [key for path, text in said["keys"].items() for key in _keys(text or "", path)]
        return Found(
            said["config"], state, said["agent"], said["owner"], {key.fingerprint: key for key in keys},
            said["has_systemctl"],
        )  # fmt: skip

    def _look(self, state: str, trust: Sequence[str]) -> dict[str, Any]:
        where = [self.places.config, state, str(self.places.layout.agents), *trust]
        return _object(self.run([DEVICE_PYTHON, "-I", "-c", LOOK, *where], "looking at the device"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One deploy at a time. Raises DeviceError for a second."""
        said: list[str] = []
        answered = threading.Event()

        def heard(line: str) -> None:
            said.append(line)
            answered.set()

        path = str(self.places.root / "opt/edgeloop/.deploy.lock")
        holder = self.device.start([DEVICE_PYTHON, "-I", "-c", HOLD, path], heard)
        try:
            answered.wait(_LOCK_TIMEOUT_S)
            if said[:1] == ["busy"]:
                raise DeviceError(f"{self.device.url}: another deploy to it is going on", hint="wait for its end")
            if said[:1] != ["held"]:
                raise DeviceError(f"{self.device.url}: {said[-1] if said else 'no answer'}")
            yield
        finally:
            holder.end_input()
            holder.wait(5.0)

    def settle(self, changes: Sequence[Change]) -> None:
        """Each appears whole or not at all, in this order. Raises DeviceError."""
        if changes:
            text = json.dumps(changes).encode()
            self.run([DEVICE_PYTHON, "-I", "-c", SETTLE], "setting it up", stdin=[text])

    def run(self, argv: Sequence[str], what: str, *, stdin: Iterable[bytes] = (), timeout_s: float = 60.0) -> Completed:
        """Raises DeviceError where the command fails."""
        done = self.device.run(argv, stdin=stdin, timeout_s=timeout_s)
        if done.exit_code:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            hint = "free some space there" if said and "No space left" in said[-1] else None
            reason = said[-1] if said else f"exit code {done.exit_code}"
            raise DeviceError(f"{self.device.url}: {what}: {reason}", hint=hint)
        return done

    def agent_command(self, version: str = "current") -> list[str]:
        return [DEVICE_PYTHON, "-I", str(self.places.layout.launcher(version))]

    def as_owner(self, argv: Sequence[str], owner: str) -> list[str]:
        """The command with the rights and the surroundings of the service, where its user has a state folder."""
        if not self.places.is_system:
            return list(argv)
        surroundings = ["env", "XDG_CONFIG_HOME=/etc", "XDG_STATE_HOME=/var/lib", "XDG_CACHE_HOME=/var/cache"]
        user = ["runuser", "-u", owner, "--"] if owner not in ("", "root") else []
        return [*user, *surroundings, *argv]

    def ask(self, owner: str, *words: str, agent: str = "current", may_fail: bool = False) -> dict[str, Any]:
        """The `--json` answer of an agent's verb; {} where it fails and may."""
        command = [*self.agent_command(agent), *words, "--config", self.places.config, "--json"]
        done = self.device.run(self.as_owner(command, owner))
        try:
            answer = _object(done)
        except DeviceError:
            if may_fail:
                return {}
            raise
        if "error" in answer:
            if may_fail:
                return {}
            raise error_of(self.device.url, answer["error"], done.exit_code)
        return answer


def error_of(url: str, error: Any, exit_code: int) -> EdgeloopError:
    """An agent's own error, with its words, its next step and its exit code."""
    said = error if isinstance(error, Mapping) else {"message": str(error)}
    kind = _ERRORS.get(exit_code, DeviceError)
    return kind(f"{url}: {said.get('message', 'the agent failed')}", hint=said.get("hint") or None)


def _object(done: Completed) -> dict[str, Any]:
    try:
        found = json.loads(done.stdout.decode().strip().splitlines()[-1])
    except (ValueError, IndexError):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise DeviceError(f"the device answered: {said[-1] if said else 'nothing'}") from None
    if not isinstance(found, dict):
        raise DeviceError("the device answered something else than an object")
    return found


def _keys(text: str, where: str) -> list[PublicKey]:
    """A damaged one is none: the device does not trust it either."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(PublicKey.from_text(line, where))
            except ConfigError:
                continue
    return found
