"""A result as one line of JSON: the one form in which files, serial lines and brokers get it."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeloop.postprocess import Result


def result_line(source: str, time_s: float, result: Result, latency_ms: float) -> str:
    """{"source", "time", ..., "latency_ms"} in ASCII, without an end of line; in between the keys of `Result.to_json`.

    time: unix seconds of the capture; latency_ms: from there to the decoded result.
    """
    # The most frequent kind is formatted by hand: json.dumps of the whole line costs four times as much.
    if result.kind == "classification" and not result.values:
        body = _top(result)
        if result.variant:
            body = f'"variant": {_quoted_label(result.variant)}, {body}'
        if result.reused:
            body = f'"reused": true, {body}'
    else:
        body = json.dumps(result.to_json())[1:-1]
    comma = ", " if body else ""
    return f'{{"source": {_quoted(source)}, "time": {time_s:.6f}, {body}{comma}"latency_ms": {latency_ms:.4f}}}'


def _top(result: Result) -> str:
    parts = [
        f'{{"class_id": {c.class_id}, "label": {_quoted_label(c.label)}, "score": {_number(c.score)}}}'
        for c in result.top
    ]
    return f'"top": [{", ".join(parts)}]'


def _number(x: float) -> str:
    return f"{x:.8g}" if x - x == 0 else "null"  # JSON has no NaN and no infinity


_quoted = json.dumps
_quoted_label = lru_cache(maxsize=4096)(json.dumps)
