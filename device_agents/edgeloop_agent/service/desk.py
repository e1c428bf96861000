"""The supervisor's desk: what the world around asks and hears of an agent while it runs.

systemd (readiness, watchdog, status line), `edgeloop-agent status` (a socket), SIGHUP (reload). It lives in the
supervisor's loop: what it says is said by the loop itself, so a loop that stands still is silent.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeloop.version import VERSION
from edgeloop_agent.commands.executor import CommandedModel, Executor
from edgeloop_agent.delivery.lending import Lender
from edgeloop_agent.delivery.versions import INSTALLED
from edgeloop_agent.delivery.watch import Updates
from edgeloop_agent.release.polling import Polls
from edgeloop_agent.reports.board_health import BoardHealth
from edgeloop_agent.service.agent_state import alerts_of, status_line
from edgeloop_agent.service.event_log import EventLog
from edgeloop_agent.service.reload import Reload
from edgeloop_agent.service.sd_notify import Notifier
from edgeloop_agent.service.status import StatusSocket
from edgeloop_agent.supervisor.stop_signals import StopSignals

_STATUS_LINE_EVERY_S = 5.0
_UNHURRIED = 2.5


class Desk:
    """For one agent, whatever models it runs one after another. `telemetry` and `commands` are set from outside."""

    def __init__(
        self, folder: Path, tell: Callable[[str], None], *, device: str, reload: Reload[Any] | None = None
    ) -> None:
        """folder: the state folder, locked by this process."""
        self.events = EventLog(folder, tell, run=os.urandom(4).hex())
        self.telemetry: Callable[[], Mapping[str, Any]] | None = None
        self.hard_samples: Callable[[], Mapping[str, Any]] | None = None
        self.commands: Executor | None = None
        self.updates: Updates | None = None
        self.releases: Polls | None = None
        self.is_relaunched = False
        self._lender = Lender(folder / INSTALLED)
        self._folder = folder
        self._tell = tell
        self._device = device
        self._reload = reload
        self._reloads = 0
        self._notifier = Notifier()
        self._health = BoardHealth()
        self._models: Sequence[CommandedModel] = ()
        self._stops = StopSignals()
        self._own_stops = 0
        self._socket: StatusSocket | None = None
        self._started_s = time.monotonic()
        self._status_line_s = -_STATUS_LINE_EVERY_S

    @property
    def was_stopped(self) -> bool:
        """Whether somebody else than a reload asked the last models to stop."""
        return self._stops.count > self._own_stops

    def time_to_close_s(self, stop_timeout_s: float) -> float:
        """How long the last report may take: what is left of the time that a stop has; more where nobody waits."""
        if self._stops.asked_s is None:
            return _UNHURRIED * stop_timeout_s
        return max(stop_timeout_s / 4, self._stops.asked_s + stop_timeout_s - time.monotonic())

    @contextlib.contextmanager
    def attending(
        self, selector: selectors.BaseSelector, models: Sequence[CommandedModel], stops: StopSignals
    ) -> Iterator[None]:
        """While these models run."""
        self._models, self._stops, self._own_stops = models, stops, 0
        self._status_line_s = -_STATUS_LINE_EVERY_S
        if self._socket is None:
            self._socket = StatusSocket(self._folder, self.state, self._tell)
        # Bundle, keys and config hold: from here on faults are mended, not reported to whoever started us.
        self._notifier.ready()
        commands = contextlib.nullcontext() if self.commands is None else self.commands.attending(selector, models)
        try:
            with self._socket.answering(selector), commands:
                yield
        finally:
            self._models = ()
            if self.was_stopped or self.is_relaunched:
                self.close()

    def close(self) -> None:
        """Nobody is answered any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def look(self) -> None:
        """Once per round of the supervisor's loop, so at least once a second."""
        now = time.monotonic()
        self._notifier.alive(now)
        if self.commands is not None:
            self.commands.look()
        if self.updates is not None and not self._stops.count:
            self.updates.look()
        if self.releases is not None and not self._stops.count:
            self.releases.look()
        self._lender.look(self._models)
        if self._stops.count:
            if (self._reload is None or self._reload.next is None) and not self.is_relaunched:
                self._notifier.stopping()
                if self.updates is not None:
                    self.updates.ending()
            return
        if self._notifier.is_wanted and now - self._status_line_s >= _STATUS_LINE_EVERY_S:
            self._status_line_s = now
            self._notifier.status(status_line([model.state() for model in self._models]))
        if self._reload is not None and self._reload.take_request():
            self._notifier.reloading()
            with self._notifier.busy():  # a large bundle is verified and unpacked on a small board
                is_new = self._reload.prepare()
            if self.is_relaunched:
                self._reload.take_next()
            elif is_new:
                self._reloads += 1
                self._tell("reload: the config is read again; its models start now")
                self._stops.ask()
                self._own_stops = 1
            else:
                self._tell(f"reload refused, everything runs on as it was: {self._reload.refused}")
                self._notifier.ready()

    def relaunch(self) -> None:
        """The models end, for another agent or config in the place of this one."""
        self._tell("update: another version of the agent or its config takes over")
        self.is_relaunched = True
        self._stops.ask()
        self._own_stops = 1

    def rolled_back(self, reason: str) -> list[str]:
        """After a run that ended so: lines about versions on trial that were rolled back for it."""
        lines = [] if self.updates is None else self.updates.failed(reason)
        for line in lines:
            self._tell(f"rollback: {line}")
        return lines

    def state(self) -> dict[str, Any]:
        """See `agent_state`; read now."""
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:
            free = None
        state: dict[str, Any] = {
            "agent": VERSION,
            "pid": os.getpid(),
            "device": self._device,
            "state": str(self._folder),
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "reloads": self._reloads,
            "reload_refused": "" if self._reload is None else self._reload.refused,
            "models": [model.state() for model in self._models],
            "board": self._health.state(),
            "telemetry": None if self.telemetry is None else self.telemetry(),
            "hard_samples": None if self.hard_samples is None else self.hard_samples(),
            "disk_free_bytes": free,
            "events_lost": self.events.lost,
        }
        return {**state, "alerts": alerts_of(state)}
