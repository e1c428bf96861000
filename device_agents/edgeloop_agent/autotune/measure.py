"""Measuring the candidates within a time: a child process at a time, which may crash or hang."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeloop_agent.autotune.child import OPEN_TIMEOUT_S, ChildGoneError, MeasuringChild
from edgeloop_agent.autotune.halving import Candidate, Measured, better_half, slice_s, turns


class Measurement:
    """All candidates of one bundle. `note` gets a line for people per round."""

    def __init__(self, staged: Path, candidates: Sequence[Candidate], note: Callable[[str], None]) -> None:
        self.measured = [Measured(candidate) for candidate in candidates]
        self._staged = staged
        self._note = note
        self._child: MeasuringChild | None = None

    def run(self, objective: str, budget_s: float) -> None:
        """Measure until the best is known, or the time is over. Everything it learns is in `measured`."""
        until_s = time.monotonic() + budget_s
        try:
            for measured in self.measured:
                if time.monotonic() > until_s:
                    measured.failed = "not tried: the time was over"
                    continue
                if objective == "memory":  # which only a process with nothing else in it tells
                    self._renew()
                self._slice(measured, 0.0, until_s)
                if objective != "memory":
                    measured.rss_bytes = 0
            left = [m for m in self.measured if not m.failed]
            count, budget_s = len(left), max(0.0, until_s - time.monotonic())
            while left and objective != "memory":
                seconds = slice_s(budget_s, count, len(left))
                self._note(f"{len(left)} candidates, {seconds * 1e3:.0f} ms a slice")
                for measured in turns(left):
                    if time.monotonic() < until_s:
                        self._slice(measured, seconds, until_s)
                left = [m for m in left if not m.failed]
                if len(left) <= 2 or time.monotonic() >= until_s:
                    break
                left = better_half(left, objective)
        finally:
            self._renew()

    def _renew(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _slice(self, measured: Measured, seconds: float, until_s: float) -> None:
        """Open it if need be and run it for so long; a candidate that fails is out."""
        if measured.failed:
            return
        number, candidate = self.measured.index(measured), measured.candidate
        # A candidate may not take all the time that is left and then some.
        patience_s = max(2.0, min(OPEN_TIMEOUT_S, until_s - time.monotonic()))
        try:
            if self._child is None:
                self._child = MeasuringChild(self._staged)
            child = self._child
            if number not in child.open:
                order = {"variant": candidate.variant, "delegate": candidate.delegate, "threads": candidate.threads}
                opened = child.ask({"open": number, **order}, patience_s)
                if "failed" in opened:
                    measured.failed = str(opened["failed"])
                    return
                child.open.add(number)
                if not measured.ran:
                    measured.rss_bytes, measured.load_ms = int(opened["rss_bytes"]), float(opened["load_ms"])
                    measured.ran = str(opened["ran"])
            answer = child.ask({"run": number, "for_s": seconds}, seconds + patience_s)
        except ChildGoneError as gone:
            measured.failed = str(gone)
            self._renew()
            return
        if "failed" in answer:
            measured.failed = str(answer["failed"])
        elif seconds:
            measured.times_ns += answer["times_ns"]
