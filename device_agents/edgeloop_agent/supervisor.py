"""The supervisor process: keeps the workers of its models running, and reports. It imports no numpy and touches no
frame.

One loop serves all models, `supervised` is one model's life; what to do after a fault is decided in `supervision`, what
is told of a run in `reporting`.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Sequence

from edgeloop_agent.endings import End
from edgeloop_agent.reporting import Outlet
from edgeloop_agent.stop_signals import StopSignals
from edgeloop_agent.supervised import Assignment, SupervisedModel


def supervise(assignments: Sequence[Assignment], outlet: Outlet, tell: Callable[[str], None]) -> tuple[End, ...]:
    """Run every model until its source ends, its count is reached, a signal asks for a stop, or nothing is left to try.

    A model that ends, however, leaves the others alone. `tell` gets lines for people. The ends are in the same order.
    """
    stops = StopSignals()
    with selectors.DefaultSelector() as selector, stops.wake_up(selector):
        models = [SupervisedModel(a, outlet, tell, selector, stops) for a in assignments]
        try:
            while running := [model for model in models if model.end is None]:
                for model in running:
                    model.step()
                for key, _ in selector.select(min(model.patience_s() for model in running)):
                    key.data()
                # After the messages: when this process was suspended itself, they are here and no worker is silent.
                for model in running:
                    model.watch()
        finally:
            for model in models:
                model.close()
    return tuple(model.end or End("stop") for model in models)
