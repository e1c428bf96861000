"""The running agent polls: `edgeloop-agent pull` as a child now and then, and what is worth saying of its end.

No numpy and no TUF here: this is in the supervisor.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeloop.release.events import FAILED, REFUSED, RELEASE, release_detail
from edgeloop.runtime.child import child_command
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.delivery.watch import versions_of
from edgeloop_agent.release.telling import take

_CODE = "import sys; from edgeloop_agent.release.polling import run_poll; sys.exit(run_poll(sys.argv[1:]))"
_NICENESS = 5
_FIRST_AFTER_S = (5.0, 120.0)
"""Of the agent's start: a fleet that starts together does not ask together."""
_JITTER = 0.2
_TAKE_EVERY_S = 5.0
_MOST_S = 12 * 3600.0
"""A poll that takes longer is ended; the next one goes on with its file."""

Say = Callable[[str, str], None]
"""An event: (kind, detail)."""


class Polls:
    """Of one agent, whatever models it runs one after another."""

    def __init__(self, config_file: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """config_file: what the agent was started with; the child reads it, too."""
        self._config_file = config_file
        self._clock = clock
        self._configs: Sequence[AgentConfig] = ()
        self._say: Say = lambda _kind, _detail: None
        self._child: subprocess.Popen[bytes] | None = None
        self._began_s = 0.0
        self._next_s: float | None = None
        self._said: frozenset[str] = frozenset()
        self._took_s = -_TAKE_EVERY_S

    def attend(self, configs: Sequence[AgentConfig], say: Say) -> None:
        """These models run from now on. A poll that is going on is left: it may be what brought them."""
        self._configs, self._say = configs, say
        if self._next_s is None:
            low, high = _FIRST_AFTER_S
            every_s = configs[0].release_interval
            self._next_s = self._clock() + random.uniform(min(low, every_s / 10), min(high, every_s))

    def look(self) -> None:
        """In the supervisor's loop."""
        now = self._clock()
        if self._child is None and self._configs and now - self._took_s >= _TAKE_EVERY_S:
            self._took_s = now
            self._news_by_hand(take(self._configs[0].state))
        if self._child is not None:
            if self._child.poll() is not None:
                self._ended(self._child)
            elif now - self._began_s > _MOST_S:
                self._child.kill()
        elif self._configs and self._configs[0].release and self._next_s is not None and now >= self._next_s:
            every_s = self._configs[0].release_interval
            self._next_s = now + every_s * random.uniform(1 - _JITTER, 1 + _JITTER)
            if not self._is_trying():
                self._start(now)

    def close(self) -> None:
        """At the agent's end."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    # -- inside

    def _is_trying(self) -> bool:
        """Whether a version is on trial: nothing else comes in until that is settled."""
        folders = [versions_of(config.bundle) for config in self._configs]
        return any(folder.standing().trial is not None for folder in folders if folder is not None)

    def _start(self, now: float) -> None:
        shared = self._configs[0]
        arguments = ["pull", "--json", "--state", str(shared.state), "--device", shared.device]
        if self._config_file is not None:
            arguments += ["--config", str(self._config_file.absolute())]
        try:
            self._child = subprocess.Popen(
                child_command(_CODE, *arguments),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:  # no memory for a process: the next time
            self._news({f"pull cannot be started: {error.strerror}"})
        self._began_s = now

    def _ended(self, child: subprocess.Popen[bytes]) -> None:
        self._child = None
        said: dict[str, Any] = {}
        if child.stdout is not None:
            with child.stdout as pipe, contextlib.suppress(ValueError):
                said = json.loads(pipe.read())
        self._news(set(details(said, child.returncode)))
        if self._configs:
            take(self._configs[0].state)  # it was said just now

    def _news_by_hand(self, met: Sequence[str]) -> None:
        """What a poll met that somebody else started."""
        for detail in sorted(set(met) - self._said):
            self._say(RELEASE, detail)
        self._said |= frozenset(met)

    def _news(self, met: set[str]) -> None:
        """What was said after the last poll is not said again; what went well in between is."""
        for detail in sorted(met - self._said):
            self._say(RELEASE, detail)
        self._said = frozenset(met)


def run_poll(arguments: Sequence[str]) -> int:
    """In the child: the agent's command line, behind all else that the board does where that may be asked for. The
    service's sandbox lets nobody change priorities."""
    from edgeloop_agent.cli import main

    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    return main(list(arguments))


def details(said: dict[str, Any], code: int) -> list[str]:
    """Of `release` events, from what `pull --json` said: what went wrong."""
    if "error" in said:
        return [f"{REFUSED if said['error'].get('exit_code') == 4 else FAILED}: {said['error'].get('message')}"]
    if "models" not in said:
        return [f"{FAILED}: pull ended with exit code {code} and said nothing"]
    return [
        release_detail(model["name"], model["version"], model["state"], model["reason"])
        for model in said["models"]
        if model["state"] in (REFUSED, FAILED)
    ]
