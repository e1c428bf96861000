"""The board's temperature and throttling, for whoever must not wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_BOARD_EVERY_S = 2.0  # on some boards it takes a process to ask

Board = Callable[[], tuple["float | None", bool]]
"""(temperature in degrees C, whether the clock is held back now)."""


class BoardWatch:
    """The board's temperature and throttling, read on a thread: sysfs may block, the loop may not."""

    def __init__(self) -> None:
        from edgeloop import probes
        from edgeloop.boards import detect_board

        self._board = detect_board()
        self._last: tuple[float | None, bool] = (probes.temperature_c(), False)
        threading.Thread(target=self._watch, name="board", daemon=True).start()

    def __call__(self) -> tuple[float | None, bool]:
        return self._last

    def _watch(self) -> None:
        from edgeloop import probes

        while True:
            self._last = (probes.temperature_c(), bool(self._board.is_throttled()))
            time.sleep(_BOARD_EVERY_S)
