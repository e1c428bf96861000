"""The supervisor process: keeps the workers of its models running, and reports. It imports no numpy and touches no
frame.

One loop serves all models, `supervised` is one model's life; what to do after a fault is decided in `supervision`, what
is told of a run in `reporting`.
"""

from __future__ import annotations

import gc
import selectors
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from edgeloop_agent.reports.board_health import BoardHealth
from edgeloop_agent.reports.reporting import Outlet
from edgeloop_agent.service.desk import Desk
from edgeloop_agent.supervisor.endings import End
from edgeloop_agent.supervisor.stop_signals import StopSignals
from edgeloop_agent.supervisor.supervised import Assignment, SupervisedModel

_TIDY_EVERY_S = 10.0


def supervise(
    assignments: Sequence[Assignment], outlet: Outlet, tell: Callable[[str], None], desk: Desk | None = None
) -> tuple[End, ...]:
    """Run every model until its source ends, its count is reached, a signal asks for a stop, or nothing is left to try.

    A model that ends, however, leaves the others alone. `tell` gets lines for people; who stands at the `desk` may ask
    for a stop, too. The ends are in the same order.
    """
    stops, board = StopSignals(), BoardHealth()
    with selectors.DefaultSelector() as selector, stops.wake_up(selector), ExitStack() as attended:
        models = [SupervisedModel(a, outlet, tell, selector, stops, board) for a in assignments]
        if desk is not None:
            attended.enter_context(desk.attending(selector, models, stops))
        try:
            tidy_s = _settle()
            while running := [model for model in models if model.end is None]:
                for model in running:
                    model.step()
                for key, _ in selector.select(min(model.patience_s() for model in running)):
                    key.data()
                # After the messages: when this process was suspended itself, they are here and no worker is silent.
                for model in running:
                    model.watch()
                if desk is not None:
                    desk.look()
                if time.monotonic() - tidy_s > _TIDY_EVERY_S:
                    tidy_s = _tidy()
        finally:
            for model in models:
                model.close()
    return tuple(model.end or End("stop") for model in models)


def _settle() -> float:
    """What is alive now stays alive: `_tidy` need not walk over it."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    return time.monotonic()


def _tidy() -> float:
    """Python keeps up to 2,000 freed tuples of each size for later, and of 20 items it kept one per report that was
    never taken again: 0.4 MiB in half an hour. A full collection lets go of them."""
    gc.collect()
    return time.monotonic()
