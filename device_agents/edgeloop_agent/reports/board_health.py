"""The board as the supervisor reports it: its gauges, and in words when it begins or ceases to be held back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeloop import probes
from edgeloop.boards import BOARDS, Board, detect_board
from edgeloop.probes import ROOT

_GENERIC = "generic"


def made_for_another(target: str, *, root: Path = ROOT) -> str:
    """A line where a bundle's target is a board, and this is not that one; "" else. A bundle runs on any board: what
    was measured and promised for its own does not hold here."""
    board = detect_board(root=root)
    if target not in BOARDS or target == board.id:
        return ""
    here = "no board that it knows" if board.id == _GENERIC else board.id
    return f"the bundle was made for {target}, this is {here}: its figures and goals are of another board"


class BoardHealth:
    """Reads the board each time it is asked; what it said last is remembered, so that each change is told once."""

    def __init__(self, *, root: Path = ROOT, board: Board | None = None) -> None:
        self._root = root
        self._board = board or detect_board(root=root)
        self._name = probes.board_name(root=root)
        self._now: tuple[str, ...] = ()
        self._gauges = self._board.gauges(root=root)

    def gauges(self) -> dict[str, float]:
        """The numeric gauges of a report, read now; memory is this process's."""
        self._gauges = self._board.gauges(root=self._root)
        return self._gauges.numbers()

    def news(self) -> tuple[str, ...]:
        """What began or ended since the last call, by the flags of the last `gauges`: a line for each."""
        now, _past = probes.describe_throttling(self._gauges.throttle_flags or 0)
        began = [f"{text} since now: {self._board.fix_for(text)}" for text in now if text not in self._now]
        ended = [f"{text} is over" for text in self._now if text not in now]
        self._now = now
        return (*began, *ended)

    def state(self) -> dict[str, Any]:
        """For `edgeloop-agent status`, read now."""
        gauges = self._gauges = self._board.gauges(root=self._root)
        flags = gauges.throttle_flags
        now, past = ((), ()) if flags is None else probes.describe_throttling(flags)
        return {
            "id": self._board.id,
            "name": self._name,
            "temperature_c": gauges.temperature_c,
            "accelerator_c": gauges.accelerator_c,
            "frequency_mhz": gauges.frequency_mhz,
            "clock_governor": gauges.governor,
            "memory_available_bytes": gauges.memory_available_bytes,
            "throttle_flags": flags,
            "throttled_now": list(now),
            "throttled_since_boot": list(past),
        }
