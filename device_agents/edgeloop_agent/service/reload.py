"""SIGHUP: read the config file again, where there is one and no terminal that could have hung up.

The rule: an agent that was started with `--config` and has no controlling terminal (a service, a container) reloads;
any other ends, as programs do whose terminal is gone. A config that does not hold changes nothing and is said once.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from edgeloop.errors import ConfigError, EdgeloopError
from edgeloop_agent.config import AgentConfig

Plan = TypeVar("Plan")


class Reload(Generic[Plan]):
    """`plan` makes what is to run of the config file as it is now; raises EdgeloopError where that cannot run."""

    def __init__(self, plan: Callable[[], Plan]) -> None:
        self._plan = plan
        self._is_asked = False
        self.next: Plan | None = None
        self.refused = ""

    @contextlib.contextmanager
    def on_hangup(self) -> Iterator[None]:
        """For the whole life of the agent: between two runs a SIGHUP must not end it either."""

        before = signal.signal(signal.SIGHUP, lambda *_: self.ask())
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def ask(self) -> None:
        """For a reload, in the next turn of the loop."""
        self._is_asked = True

    def take_request(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._is_asked = self._is_asked, False
        return asked

    def take_next(self) -> Plan | None:
        """What runs next, if a reload brought something."""
        plan, self.next = self.next, None
        return plan

    def prepare(self) -> bool:
        """Whether there is something new to run. A plan that cannot run is told in `refused`."""
        try:
            self.next, self.refused = self._plan(), ""
        except EdgeloopError as error:
            self.refused = error.message + (f" ({error.hint})" if error.hint else "")
        return not self.refused


def may_reload() -> bool:
    """Whether a SIGHUP cannot come from a terminal that hung up, and is not ignored (nohup)."""
    return not has_controlling_terminal() and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def has_controlling_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def same_state(configs: Sequence[AgentConfig], state: Path) -> Sequence[AgentConfig]:
    """The configs, if their state folder is the one that this agent holds. Raises ConfigError."""
    if any(config.state != state for config in configs):
        raise ConfigError(f"state is {state} and cannot change while the agent runs", hint="restart the agent for that")
    return configs
