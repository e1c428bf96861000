"""An agent that `launching` started: it watches the version that it is itself, and its config, and hands over to the
launcher when another is to run. No numpy: this is in the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from edgeloop.telemetry.histogram import Histogram
from edgeloop_agent.delivery.launching import VARIABLE, WENT_BACK, named
from edgeloop_agent.delivery.package_folders import AGENT, AgentFolder, is_changed, read_base
from edgeloop_agent.delivery.update import Budget, Version, Window
from edgeloop_agent.delivery.versions import VersionFolder
from edgeloop_agent.delivery.watch import Say, Seen, Watch


@dataclass(frozen=True)
class Launched:
    """command: of the launcher. folders: kind -> its versions; ran: kind -> what runs. notes: events of the launch."""

    command: tuple[str, ...]
    folders: Mapping[str, VersionFolder]
    ran: Mapping[str, Version | None]
    notes: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def from_environment() -> Launched | None:
        """None for an agent that was started by hand."""
        try:
            said = json.loads(os.environ.get(VARIABLE, ""))
            folders = {
                str(kind): AgentFolder(Path(path)) if kind == AGENT else VersionFolder(Path(path), suffix=".toml")
                for kind, path in said["folders"].items()
            }
            ran = {str(k): None if v is None else Version(int(v[0]), str(v[1])) for k, v in said["ran"].items()}
            notes = tuple((str(kind), str(text)) for kind, text in said["notes"])
            return Launched(tuple(map(str, said["command"])), folders, ran, notes)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None

    def watches(self, seen: Sequence[Seen], say: Say, window: Window) -> list[Watch]:
        """One for the agent, one for the config; seen: of all models."""
        return [
            Watch(folder, self.ran.get(kind), _Together(seen), say, window, Budget(), kind, named)
            for kind, folder in self.folders.items()
        ]

    def give_up(self, reason: str) -> list[str]:
        """Roll back what is on trial, because it cannot go on: a line for each; none where nothing is."""
        lines = []
        for kind, folder in self.folders.items():
            with contextlib.suppress(OSError):
                standing, ran = folder.standing(), self.ran.get(kind)
                if standing.trial is not None and standing.trial.version == ran == standing.running:
                    folder.roll_back(reason)
                    lines.append(f"{kind} version {ran} to {named(folder.standing().running)}: {reason}")
        return lines

    def is_base_changed(self, state: Path) -> bool:
        """Whether root has changed the config: what came on top of it is the launcher's to judge. Raises EdgeloopError
        for one that no agent can start with."""
        base = read_base(state)
        if base is None or not is_changed(base):
            return False
        from edgeloop_agent.config_reading import load_configs

        load_configs({}, Path(base.config))
        return True

    def settle_alarm(self) -> None:
        """No alarm for a version that was committed."""
        folder = self.folders.get(AGENT)
        if folder is not None and folder.standing().trial is None:
            signal.alarm(0)

    def relaunch(self, went_back: Sequence[str] = ()) -> NoReturn:
        """In the place of this process, which systemd takes for the same service. went_back: lines that are still to be
        reported. Raises OSError."""
        os.environ.pop(VARIABLE, None)
        os.environ[WENT_BACK] = json.dumps(list(went_back))
        sys.stdout.flush()
        sys.stderr.flush()
        os.execvp(self.command[0], list(self.command))


@dataclass(frozen=True)
class _Together:
    """All models as one: the agent is as well as the one that is worst off."""

    models: Sequence[Seen]

    @property
    def inferences(self) -> int:
        return min((model.inferences for model in self.models), default=0)

    @property
    def errors(self) -> int:
        return max((model.errors for model in self.models), default=0)

    @property
    def faults(self) -> Sequence[str]:
        return _joined(model.faults for model in self.models)

    def latency(self, stage: str) -> Histogram:
        return Histogram()


def _joined(faults: Iterable[Sequence[str]]) -> Sequence[str]:
    return tuple(fault for some in faults for fault in some)
