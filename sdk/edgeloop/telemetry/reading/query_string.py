"""A question as an address carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from edgeloop.errors import DataError
from edgeloop.telemetry.reading import Question
from edgeloop.telemetry.store.selection import Selection

_NUMBERS = {"version": int, "since_s": float, "until_s": float}
_SELECTION = tuple(field.name for field in fields(Selection))


def parse_question(query: Mapping[str, str], *more: str) -> Question:
    """Of an address's query. more: names that others read. DataError for unknown names and numbers that are none."""
    known = {*_SELECTION, "group", "tag", *more}
    if unknown := set(query) - known:
        raise DataError(f"unknown parameter {min(unknown)!r}", hint=f"known: {', '.join(sorted(known))}")
    values: dict[str, Any] = {name: query[name] for name in _SELECTION if name in query}
    for name, kind in _NUMBERS.items():
        if name in values:
            values[name] = _number(name, values[name], kind)
    return Question(Selection(**values), query.get("group"), query.get("tag"))


def parse_count(query: Mapping[str, str], name: str, default: int, highest: int) -> int:
    """A whole number from 0 to `highest`. DataError."""
    value = int(_number(name, query.get(name, str(default)), int))
    if not 0 <= value <= highest:
        raise DataError(f"{name} is 0 to {highest}")
    return value


def _number(name: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        raise DataError(f"{name} is no number: {text[:40]!r}") from None
    if not abs(value) < 2**63:  # also NaN
        raise DataError(f"{name} is out of range")
    return value
