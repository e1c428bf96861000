"""Measuring the candidates within a time: a child process at a time, which may crash or hang."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeloop.runtime.child import child_command
from edgeloop_agent.autotune.halving import Candidate, Measured, better_half, slice_s, turns

_OPEN_TIMEOUT_S = 30.0
_CODE = "from edgeloop_agent.autotune.bench_child import main; sys.exit(main(sys.argv[1]))"


class _ChildGoneError(Exception):
    """It crashed or hung; the text says which."""


class _Child:
    """One measuring process and what it has open."""

    def __init__(self, staged: Path) -> None:
        self.open: set[int] = set()
        self._process = subprocess.Popen(
            child_command(_CODE, str(staged)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._rest = b""

    def ask(self, order: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Raises _ChildGoneError."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # its end is seen where its answer is missing
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line(timeout_s))
        return answer

    def _line(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        until_s = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, until_s - time.monotonic())):
                    self.end()
                    raise _ChildGoneError(f"hung: no answer within {timeout_s:.0f} s")
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                if not piece:
                    code = self._process.wait()
                    raise _ChildGoneError(f"crashed (signal {-code})" if code < 0 else f"ended with exit code {code}")
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Measurement:
    """All candidates of one bundle. `note` gets a line for people per round."""

    def __init__(self, staged: Path, candidates: Sequence[Candidate], note: Callable[[str], None]) -> None:
        self.measured = [Measured(candidate) for candidate in candidates]
        self._staged = staged
        self._note = note
        self._child: _Child | None = None

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
        patience_s = max(2.0, min(_OPEN_TIMEOUT_S, until_s - time.monotonic()))
        try:
            if self._child is None:
                self._child = _Child(self._staged)
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
        except _ChildGoneError as gone:
            measured.failed = str(gone)
            self._renew()
            return
        if "failed" in answer:
            measured.failed = str(answer["failed"])
        elif seconds:
            measured.times_ns += answer["times_ns"]
