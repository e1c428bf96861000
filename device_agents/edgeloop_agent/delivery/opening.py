"""The watches of an agent's run, from its configs and tallies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import Event
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.delivery.launched import Launched
from edgeloop_agent.delivery.update import Budget, Window
from edgeloop_agent.delivery.watch import Updates, Watch, versions_of
from edgeloop_agent.reports.tally import Tally


@dataclass(frozen=True)
class _Tallied:
    """A tally as `watch.Seen`: it began with the run."""

    tally: Tally

    @property
    def inferences(self) -> int:
        return self.tally.totals["inferences"]

    @property
    def errors(self) -> int:
        return self.tally.totals["errors"]

    @property
    def faults(self) -> Sequence[str]:
        return tuple(self.tally.faults)

    def latency(self, stage: str) -> Histogram:
        return self.tally.total_latency.get(stage, Histogram())


def open_updates(
    runs: Sequence[tuple[AgentConfig, Tally]], moved: Callable[[], None], tell: Callable[[str], None],
    launched: Launched | None = None, relaunch: Callable[[], None] = lambda: None,
) -> Updates:  # fmt: skip
    """One watch for each model whose bundle is a link to versions; where it was launched, one for the agent and one for
    its config. moved, relaunch: see Updates."""
    watches = []
    for config, tally in runs:
        folder = versions_of(config.bundle)
        if folder is not None:
            window, budget = Window(config.trial), Budget(config.latency_budget)
            watches.append(
                Watch(folder, folder.standing().running, _Tallied(tally), saying(tally, tell), window, budget)
            )
    packages = []
    if launched is not None and runs:
        config, tally = runs[0]
        for note in launched.notes:
            tally.happened(Event(note[0], time.time(), note[1]))
        packages = launched.watches(
            [_Tallied(t) for _, t in runs], _settling(launched, tally, tell), Window(config.trial)
        )
    return Updates(watches, moved, tell, packages, relaunch)


def _settling(launched: Launched, tally: Tally, tell: Callable[[str], None]) -> Callable[[str, str], None]:
    say = saying(tally, tell)

    def settled(kind: str, detail: str) -> None:
        say(kind, detail)
        launched.settle_alarm()

    return settled


def saying(tally: Tally, tell: Callable[[str], None]) -> Callable[[str, str], None]:
    """An event of this model (kind, detail), and a line for people."""

    def say(kind: str, detail: str) -> None:
        tally.happened(Event(kind, time.time(), detail))
        tell(f"{kind}: {detail}")

    return say
