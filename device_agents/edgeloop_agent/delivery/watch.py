"""What the running agent does about versions: run the right one, watch a new one, commit it or go back.

Stands between the folder of versions (`versions`), the rules (`update`) and the agent's loop, which calls `look` about
once a second. No numpy: this is in the supervisor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeloop.errors import DeviceError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import HEADLINE_STAGE
from edgeloop_agent.delivery.update import (
    Begin,
    Budget,
    Commit,
    Health,
    RollBack,
    Standing,
    Version,
    Window,
    at_start,
    judge_health,
)
from edgeloop_agent.delivery.versions import VersionFolder

_LOOK_EVERY_S = 1.0
CURRENT = "current.bundle"
ROLLBACK = "rollback"

Say = Callable[[str, str], None]
"""An event of the model: (kind, detail)."""


class Seen(Protocol):
    """What a tally knows of the version that runs, since the agent's run began."""

    @property
    def inferences(self) -> int: ...

    @property
    def errors(self) -> int: ...

    @property
    def faults(self) -> Sequence[str]:
        """Of workers, as far as model or delegate may be to blame."""

    def latency(self, stage: str) -> Histogram: ...


def versions_of(bundle: Path) -> VersionFolder | None:
    """The folder of versions whose link `bundle` is; None for a bundle file that stands for itself."""
    is_link = bundle.name == CURRENT and (bundle.parent / "versions").is_dir()
    return VersionFolder(bundle.parent) if is_link else None


def settle_versions(folder: VersionFolder, *, is_start: bool) -> tuple[str, str] | None:
    """Before anything runs: what the last run, or a power cut, left undone. An event to say, (kind, detail).

    is_start: of the agent; a reload is no start of a trial that is going on. Raises DeviceError where the disk cannot
    be written, or nothing is left that could run.
    """
    try:
        standing = folder.standing()
        trial = standing.trial
        if isinstance(at_start(standing), Begin) and not is_start and trial is not None and trial.starts > 0:
            return None
        verdict = folder.recover()
    except OSError as error:
        raise DeviceError(f"{folder.folder}: {error.strerror}") from error
    now = folder.standing()
    if now.running is None:
        why = verdict.reason if verdict is not None else "the version that ran is gone"
        raise DeviceError(f"{folder.folder}: {why}, and there is none to go back to", hint="edgeloop-agent update FILE")
    if verdict is not None:
        return ROLLBACK, f"{_named(standing)} to version {now.running}: {verdict.reason}"
    if now.trial is not None:
        return "update", f"version {now.running} is on trial"
    return None


def give_up(folder: VersionFolder, reason: str) -> tuple[str, str] | None:
    """What is on trial cannot even be begun: the rollback, an event to say; None where nothing is on trial, or there is
    nothing to go back to."""
    try:
        standing = folder.standing()
        if standing.trial is None or standing.trial.version != standing.running or standing.committed is None:
            return None
        folder.roll_back(reason)
    except OSError:  # the reason that it cannot begin, as likely as not
        return None
    return ROLLBACK, f"{_named(standing)} to version {folder.standing().running}: {reason}"


def _version_named(version: Version | None) -> str:
    return f"version {version}"


@dataclass
class Watch:
    """One model's versions during one run of the agent, or those of the agent itself. ran: what runs in it. what: ""
    for a model; named: how a version is called that is gone back to."""

    folder: VersionFolder
    ran: Version | None
    seen: Seen
    say: Say
    window: Window
    budget: Budget
    what: str = ""
    named: Callable[[Version | None], str] = _version_named

    @property
    def has_moved(self) -> bool:
        """Whether something else is to run than what runs."""
        return self.folder.standing().running != self.ran

    def look(self, since_s: float) -> None:
        """Judge what is on trial, so many seconds after the run began."""
        standing = self.folder.standing()
        if not self._is_tried(standing):
            return
        latency = self.seen.latency(HEADLINE_STAGE)
        faults = self.seen.faults
        health = Health(
            since_s, self.seen.inferences, self.seen.errors, len(faults),
            latency.percentile(95) if latency.count else 0.0, faults[-1] if faults else "",
        )  # fmt: skip
        verdict = judge_health(health, self.window, self.budget)
        if isinstance(verdict, Commit):
            self.folder.commit()
            self.say("committed", f"{self._ran}: well for {since_s:.0f} s and {health.inferences} inferences")
        elif isinstance(verdict, RollBack):
            self.say(ROLLBACK, self.go_back(verdict.reason))

    def go_back(self, reason: str) -> str:
        """What was committed runs from now on. A line that says so, "" where nothing is on trial."""
        standing = self.folder.standing()
        if not self._is_tried(standing):
            return ""
        self.folder.roll_back(reason)
        to = self.folder.standing().running
        return f"{self._ran} to {self.named(to)}: {reason}" if to or self.what else f"{self._ran}: {reason}"

    def ending(self) -> None:
        """The agent stops; the next start goes on with the trial."""
        if self._is_tried(self.folder.standing()):
            self.say("update", f"{self._ran} is on trial still: the agent was stopped")

    @property
    def _ran(self) -> str:
        return f"{self.what} version {self.ran}".lstrip()

    def _is_tried(self, standing: Standing) -> bool:
        return standing.trial is not None and self.ran == standing.running == standing.trial.version


class Updates:
    """All watches of a run. `moved` is called when other versions are to run: once, and again when it came to nothing
    and something moves anew."""

    def __init__(
        self, watches: Iterable[Watch], moved: Callable[[], None], tell: Callable[[str], None],
        packages: Iterable[Watch] = (), relaunch: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """packages: of the agent itself and of its config. relaunch: see `moved`, of these."""
        self._watches, self._packages = tuple(watches), tuple(packages)
        self._moved, self._relaunch, self._tell = moved, relaunch, tell
        self._began_s = self._looked_s = time.monotonic()
        self._trouble = ""
        self._moved_to: Sequence[Version | None] = ()
        self._is_relaunched = self._is_ending = False

    def look(self) -> None:
        """In the supervisor's loop."""
        now = time.monotonic()
        both = (*self._watches, *self._packages)
        if not both or now - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now
        try:
            for watch in both:
                watch.look(now - self._began_s)
            self._trouble = ""
        except OSError as error:  # a full disk: it is tried again
            if not self._trouble:
                self._tell(f"warning: the version on trial cannot be settled: {error.strerror}")
            self._trouble = str(error)
        if any(watch.has_moved for watch in self._packages):
            if not self._is_relaunched:
                self._is_relaunched = True
                self._relaunch()
            return
        to = [watch.folder.standing().running for watch in self._watches]
        if to != self._moved_to and to != [watch.ran for watch in self._watches]:
            self._moved()
        self._moved_to = to

    def ending(self) -> None:
        """The agent was told to stop: said once of what is on trial, in the last reports."""
        if not self._is_ending:
            self._is_ending = True
            with suppress(OSError):
                for watch in (*self._watches, *self._packages):
                    watch.ending()

    def failed(self, reason: str) -> list[str]:
        """The run ended so: what was on trial is rolled back for it. A line for each; run again where there is one."""
        try:
            lines = [watch.go_back(reason) for watch in self._watches]
        except OSError:
            return []
        return [line for line in lines if line]


def _named(standing: Standing) -> str:
    return f"version {standing.running}"
