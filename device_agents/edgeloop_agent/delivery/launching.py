"""Which agent runs, with which config: what `edgeloop-agent run --launch` does before it runs anything.

    systemd -> the installed agent (root's) -> the version that came through the door, in the same process
                        ^                                        |
                        +---- every start, every switch ---------+

The agent that root installed is the launcher, so a version that cannot even start never decides what starts next. A
start of what is on trial counts before it begins; the third one without a commit is the last (`update.at_start`). What
is on trial gets an alarm from the kernel, too, which survives `exec`: a version that runs but never says that it is
well is ended. stdlib only, no numpy.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeloop import paths
from edgeloop.errors import EdgeloopError
from edgeloop.tomlfile import read_toml
from edgeloop.version import VERSION
from edgeloop_agent.delivery.file_lock import is_locked
from edgeloop_agent.delivery.package_folders import (
    AGENT,
    CONFIG,
    Base,
    agent_folder,
    base_of,
    config_folder,
    forget_other_bases,
    write_base,
)
from edgeloop_agent.delivery.update import Version
from edgeloop_agent.delivery.versions import VersionFolder
from edgeloop_agent.service.statedir import LOCK

VARIABLE = "EDGELOOP_LAUNCHED"
WENT_BACK = "EDGELOOP_WENT_BACK"
_ALARM_S = 1200
"""At least: twice the longest that a trial may take by its own rules."""


@dataclass(frozen=True)
class Choice:
    """config: to run with. launcher: of the agent that is to run; None: the one that asks. folders: kind -> where its
    versions are. ran: kind -> what was chosen there. notes: events to say. alarm_s: 0 for none."""

    config: Path
    launcher: Path | None = None
    folders: tuple[tuple[str, Path], ...] = ()
    ran: tuple[tuple[str, Version | None], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    alarm_s: int = 0


def launch(config: Path, more: Sequence[str], command: Sequence[str], tell: Callable[[str], None]) -> Path:
    """The config that this agent is to run with; does not return where another agent is to run.

    more: further words for `run`. command: how this agent is started, without a verb.
    """
    signal.alarm(0)
    before = [("rollback", line) for line in _went_back()]
    choice = choose(config, tuple(command), tell)
    launched = {
        "command": [*command, "run", "--config", str(config), *more, "--launch"],
        "folders": {kind: str(folder) for kind, folder in choice.folders},
        "ran": {kind: None if v is None else [v.number, v.digest] for kind, v in choice.ran},
        "notes": [*before, *choice.notes],
    }
    os.environ[VARIABLE] = json.dumps(launched)
    if choice.launcher is None:
        return choice.config
    signal.alarm(choice.alarm_s)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        words = [sys.executable, "-I", str(choice.launcher), "run", "--config", str(choice.config), *more]
        os.execv(sys.executable, words)
    except OSError as error:
        tell(f"warning: {choice.launcher}: {error.strerror}; the installed agent runs")
        signal.alarm(0)
        return choice.config


def choose(config: Path, command: tuple[str, ...], tell: Callable[[str], None]) -> Choice:
    """What is to run, after what the last start or a power cut left undone. Never raises: what root installed runs
    where anything is wrong."""
    try:
        settings = read_toml(config, "agent config")
        state = Path(str(settings.get("state") or paths.state_dir() / "agent"))
        base = base_of(_agent_of(command), command, config)
    except (EdgeloopError, OSError):  # `run` says what is wrong with it
        return Choice(config)
    # Where another agent runs this one will be told so, and counts as no start.
    if not state.is_dir() or is_locked(state / LOCK):
        return Choice(config)
    try:
        write_base(state, base)
        forget_other_bases(state, base)
    except OSError as error:
        tell(f"warning: {state}: {error.strerror}; agents and configs that come by update are not looked for")
        return Choice(config)
    return _chosen(config, state, base, settings.get("trial"), tell)


def _chosen(config: Path, state: Path, base: Base, trial_s: object, tell: Callable[[str], None]) -> Choice:
    folders = {AGENT: agent_folder(state, base), CONFIG: config_folder(state, base)}
    notes: list[tuple[str, str]] = []
    ran: dict[str, Version | None] = {}
    for kind, folder in folders.items():
        version, said = _settled(kind, folder, tell)
        ran[kind] = version
        notes += said
    for note in notes:
        tell(": ".join(note))
    agent, chosen = ran[AGENT], ran[CONFIG]
    standing = folders[AGENT].standing()
    is_tried = agent is not None and standing.trial is not None and standing.trial.version == agent
    window_s = trial_s if isinstance(trial_s, (int, float)) else 0
    return Choice(
        config if chosen is None else folders[CONFIG].path_of(chosen),
        None if agent is None else agent_folder(state, base).launcher_of(agent),
        tuple((kind, folder.folder) for kind, folder in folders.items()),
        tuple(ran.items()),
        tuple(notes),
        max(_ALARM_S, int(3 * window_s)) if is_tried else 0,
    )


def _settled(
    kind: str, folder: VersionFolder, tell: Callable[[str], None]
) -> tuple[Version | None, list[tuple[str, str]]]:
    """(what runs now, events). On a disk that cannot be written what was committed runs: no start could be counted."""
    if not folder.folder.is_dir():
        return None, []
    before = folder.standing()
    try:
        verdict = folder.recover()
    except OSError as error:
        tell(f"warning: {folder.folder}: {error.strerror}; what is on trial waits")
        return before.committed, []
    now = folder.standing()
    if verdict is not None:
        return now.running, [("rollback", f"{kind} version {before.running} to {named(now.running)}: {verdict.reason}")]
    if now.trial is not None and now.running == now.trial.version:
        return now.running, [("update", f"{kind} version {now.running} is on trial")]
    return now.running, []


def named(version: Version | None) -> str:
    return "the installed one" if version is None else f"version {version}"


def _went_back() -> list[str]:
    """What the agent that handed over had no report left to say in."""
    try:
        return [str(line) for line in json.loads(os.environ.pop(WENT_BACK, "[]"))]
    except (ValueError, TypeError):
        return []


def _agent_of(command: Sequence[str]) -> str:
    """The version of an agent that lies in a folder of its own, as `deploy` and `flash` put it."""
    launcher = Path(command[-1])
    folder = launcher.resolve().parent.parent.name if launcher.name == "edgeloop-agent" else ""
    return folder if folder[:1].isdigit() else f"python-{VERSION}"
