"""The supervisor process: keeps the workers of its models running, and reports. It imports no numpy and touches no
frame.

One loop serves all models, `supervised` is one model's life; what to do after a fault is decided in `supervision`, what
is told of a run in `reporting`.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from edgeloop_agent.reports.reporting import Outlet
from edgeloop_agent.service.desk import Desk
from edgeloop_agent.supervisor.endings import End
from edgeloop_agent.supervisor.stop_signals import StopSignals
from edgeloop_agent.supervisor.supervised import Assignment, SupervisedModel


def supervise(
    assignments: Sequence[Assignment], outlet: Outlet, tell: Callable[[str], None], desk: Desk | None = None
) -> tuple[End, ...]:
    """Run every model until its source ends, its count is reached, a signal asks for a stop, or nothing is left to try.

    A model that ends, however, leaves the others alone. `tell` gets lines for people; who stands at the `desk` may ask
    for a stop, too. The ends are in the same order.
    """
    stops = StopSignals()
    with selectors.DefaultSelector() as selector, stops.wake_up(selector), ExitStack() as attended:
        models = [SupervisedModel(a, outlet, tell, selector, stops) for a in assignments]
        if desk is not None:
            attended.enter_context(desk.attending(selector, models, stops))
        try:
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
        finally:
            for model in models:
                model.close()
    return tuple(model.end or End("stop") for model in models)
