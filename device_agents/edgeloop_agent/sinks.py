"""Where results go: `jsonl:FILE` or `jsonl:-` (stdout). What cannot be written is counted; the loop lives on."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from edgeloop.errors import UsageError

if TYPE_CHECKING:
    from edgeloop.postprocess import Result

STDOUT = "-"
MAX_VALUES = 1024
"""Raw outputs up to so many numbers are written; of larger ones only the shape."""
_FLUSH_LINES = 512


class Sink(Protocol):
    """`lines` counts those that were written, `lost` those that could not be; `problem` says why the last time ("" when
    all is well).

    `closed`: nobody will ever read what is written.
    """

    lines: int
    lost: int
    problem: str
    closed: bool

    def write(self, source: str, time_s: float, result: Result, latency_ms: float) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class JsonLines:
    """One line per inference: {"source", "time", "top": [{"class_id", "label", "score"}], "latency_ms"}.

    `time` is unix seconds, `latency_ms` from capture to the decoded result. Models that do not classify get "values"
    instead of "top", those with further outputs both. Appends to the file. Lines are kept until `flush`, or until 512
    have come together. "variant" is there where several take turns, "reused" where the result is an earlier frame's.
    One thread writes; any may flush.
    """

    def __init__(self, path: str, *, stdout_fd: int = 1) -> None:
        self.lines = self.lost = 0
        self.problem = ""
        self.closed = False
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._rest = b""  # what is left of a line that was cut when the disk was full
        if path == STDOUT:
            self._fd = os.dup(stdout_fd)
            return
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(f"sink jsonl:{path}: {error.strerror}") from error

    def write(self, source: str, time_s: float, result: Result, latency_ms: float) -> None:
        if result.top:
            body = f"{_top(result)}, {_values(result)}" if result.values else _top(result)
        else:
            body = _values(result)
        # Formatted by hand: json.dumps of the whole line costs four times as much, at every frame.
        if result.variant:
            body = f'"variant": {_quoted_label(result.variant)}, {body}'
        if result.reused:
            body = f'"reused": true, {body}'
        line = f'{{"source": {_quoted(source)}, "time": {time_s:.6f}, {body}, "latency_ms": {latency_ms:.4f}}}\n'
        self._lines.append(line)
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            # Taken from the front of the list, step by step atomic, while the other thread may append to its end.
            count = len(self._lines)
            taken = self._lines[:count]
            del self._lines[:count]
            if taken or self._rest:
                self._put(self._rest + "".join(taken).encode("ascii"))

    def _put(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:] if done else data)
            self._rest, self.problem = b"", ""
            self.lines += data.count(b"\n")
        except OSError as error:
            self.problem = error.strerror or type(error).__name__
            self.lines += data[:done].count(b"\n")
            self.closed = isinstance(error, BrokenPipeError)
            left = data[done:]
            # The line that was cut is finished first next time, so that the file stays JSON lines.
            torn = data[done - 1 : done] not in (b"", b"\n") or (not done and bool(self._rest))
            self._rest = left[: left.index(b"\n") + 1] if torn else b""
            self.lost += left[len(self._rest) :].count(b"\n")

    def close(self) -> None:
        self.flush()
        self.lost += self._rest.count(b"\n")
        os.close(self._fd)


SINKS: Mapping[str, type[JsonLines]] = {"jsonl": JsonLines}


def check_sink(text: str) -> tuple[str, str]:
    """`SCHEME:PATH` to its parts. Raises UsageError."""
    scheme, colon, path = text.partition(":")
    if not colon or scheme not in SINKS or not path:
        raise UsageError(f"sink {text!r} is not known", hint="jsonl:FILE or jsonl:- for stdout")
    return scheme, path


def open_sink(text: str, *, stdout_fd: int = 1) -> Sink:
    """Open a sink; `stdout_fd` is what `-` means. Raises UsageError."""
    scheme, path = check_sink(text)
    return SINKS[scheme](path, stdout_fd=stdout_fd)


def _top(result: Result) -> str:
    parts = [
        f'{{"class_id": {c.class_id}, "label": {_quoted_label(c.label)}, "score": {_number(c.score)}}}'
        for c in result.top
    ]
    return f'"top": [{", ".join(parts)}]'


def _number(x: float) -> str:
    return f"{x:.8g}" if x - x == 0 else "null"  # JSON has no NaN and no infinity


def _values(result: Result) -> str:
    if sum(v.size for v in result.values) <= MAX_VALUES:
        return f'"values": {json.dumps([[_finite(x) for x in v.reshape(-1).tolist()] for v in result.values])}'
    return f'"shapes": {json.dumps([list(v.shape) for v in result.values])}'


def _finite(x: float) -> float | None:
    return x if x - x == 0 else None  # JSON has no NaN and no infinity


_quoted = json.dumps
_quoted_label = lru_cache(maxsize=4096)(json.dumps)
