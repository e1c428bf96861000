"""What the options of a source or sink may be: functions from the text after `=` to the value. ValueError says what it
must be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from edgeloop.errors import UsageError

Option = Callable[[str], Any]


def number(low: float, high: float) -> Option:
    """A number, low <= x <= high."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return read


def whole(low: int, high: int) -> Option:
    """A whole number, low <= n <= high."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def size(text: str) -> tuple[int, int]:
    """`640x480` to (width, height), as cameras say it."""
    width, x, height = text.lower().partition("x")
    if not (x and width.isascii() and height.isascii() and width.isdigit() and height.isdigit()):
        raise ValueError("WIDTHxHEIGHT, for example 640x480")
    if not (1 <= int(width) <= 16384 and 1 <= int(height) <= 16384):
        raise ValueError("WIDTHxHEIGHT of at most 16384 pixels")
    return int(width), int(height)


def one_of(*words: str) -> Option:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(" or ".join(words))
        return text

    return read


def switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def names(text: str) -> tuple[str, ...]:
    """`a,b,c`."""
    found = tuple(text.split(","))
    if not all(found):
        raise ValueError("names with commas between them")
    return found


def words(text: str) -> str:
    if not text:
        raise ValueError("some text")
    return text


def nearest_scheme(scheme: str, known: Iterable[str]) -> str | None:
    """The known one that was meant."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(scheme.lower(), list(known), 1)), None)


def without_secrets(text: str) -> str:
    """Of what may be a URL: without user and password, for messages."""
    return re.sub(r"//[^/@]*@", "//", text)


def read_options(query: str, known: Mapping[str, Option], where: str, example: str) -> dict[str, Any]:
    """`key=value&...` to values. where: what the error says first. Raises UsageError."""
    found: dict[str, Any] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in known:
            options = f"options: {', '.join(known)}" if known else "it has no options"
            raise UsageError(f"{where}: {key!r} is not an option", hint=options)
        try:
            found[key] = known[key](text)
        except ValueError as error:
            raise UsageError(f"{where}: {key} must be {error}, got {text!r}", hint=f"for example {example}") from None
    return found
