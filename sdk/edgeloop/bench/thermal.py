"""The thermal guard: a board that is held back is given time to cool before it is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from edgeloop import probes
from edgeloop.boards import Board

PATIENCE_S = 60.0
_MARGIN_C = 10.0  # below where its clock is held back: a few seconds of work must not take it there
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Start:
    """How a board was when measuring began. waited_s: for it to cool; throttled: None is unknown."""

    waited_s: float
    throttled: bool | None
    temperature_c: float | None


def wait_until_cool(
    board: Board,
    patience_s: float = PATIENCE_S,
    *,
    note: Callable[[str], None] = lambda _text: None,
    temperature: Callable[[], float | None] = probes.temperature_c,
    sleep: Callable[[float], None] = time.sleep,
) -> Start:
    """Wait while the board is throttled or hotter than 10 degrees below where it will be, `patience_s` at most."""
    waited_s = 0.0
    while True:
        throttled, hot_c = board.is_throttled(), temperature()
        is_hot = hot_c is not None and hot_c > board.hot_c - _MARGIN_C
        if not (throttled or is_hot) or waited_s >= patience_s:
            return Start(waited_s, throttled, hot_c)
        if not waited_s:
            shown = "" if hot_c is None else f" ({hot_c:.0f} °C)"
            note(f"the board is too hot or held back{shown}: waiting for it, {patience_s:g} s at most")
        sleep(_LOOK_EVERY_S)
        waited_s += _LOOK_EVERY_S
