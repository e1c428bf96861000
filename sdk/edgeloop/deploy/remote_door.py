"""A file through the door of a device that SSH reaches: copied there, then `edgeloop-agent update`, and its answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from secrets import token_hex

from edgeloop.deploy.cargo import Cargo
from edgeloop.deploy.host import Change, Host, error_of
from edgeloop.devices.guarded import GuardedFolder
from edgeloop.devices.install import put_file
from edgeloop.errors import DeviceError, GoalNotMetError
from edgeloop.progress import Progress

_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class RemoteDoor:
    """Whose door it is. agent: its version, or "current". owner: of its state folder. config: text of what it is to run
    with. key: text of the key that the device trusts only from now on, "" where it does already. flags: of `update`."""

    agent: str
    owner: str
    config: str
    key: str = ""
    flags: tuple[str, ...] = ()


def through_the_door(host: Host, cargo: Cargo, door: RemoteDoor, progress: Progress) -> None:
    """On trial, or there already. Raises GoalNotMetError for what the door refuses, else its own error."""
    with GuardedFolder(host.device, host.places.root / "opt/edgeloop/deploys" / token_hex(4)) as folder:
        host.run(["chmod", "0755", str(folder.path)], "making a folder")
        config, key, file = (str(folder.path / name) for name in ("agent.toml", "signer.pub", cargo.path.name))
        staged: list[Change] = [("file", config, door.config)]
        if door.key:
            staged.append(("file", key, door.key))
        host.settle(staged)
        with progress.step(f"copy the {cargo.kind}"):
            put_file(host.device, cargo.path, PurePosixPath(file), within=folder.path)
            host.run(["chmod", "0644", file], f"copying the {cargo.kind}")
        words = [*host.agent_command(door.agent), "update", file, "--config", config]
        words += ["--trust", key] if door.key else []
        said: list[str] = []
        complained: list[str] = []
        with progress.step("verify and rehearse on the device"):
            folder.start(host.as_owner([*words, *door.flags, "--json"], door.owner), said.append, complained.append)
            code = folder.wait(_TIMEOUT_S)
    _judge_answer(host.device.url, said, complained, code)


def _judge_answer(url: str, said: list[str], complained: list[str], code: int | None) -> None:
    try:
        answer = json.loads(said[-1])
    except (ValueError, IndexError):
        reason = complained[-1] if complained else f"exit code {code}"
        raise DeviceError(f"{url}: the update was not finished: {reason}", hint="what ran there runs") from None
    if "error" in answer:
        raise error_of(url, answer["error"], code or 0)
    if answer["state"] == "refused":
        raise GoalNotMetError(f"{url} refused it: {answer['reason']}", hint=answer["hint"] or "what ran there runs")
