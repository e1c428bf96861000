"""Readers of JSON values that nobody vouches for yet: each returns the checked value or raises RefusedError."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgeloop.bundle.limits import NAME_PATTERN
from edgeloop.errors import ConfigError, RefusedError


def printable(text: str) -> str:
    """On one line and without control characters: what is shown may come from a file that nobody vouches for."""
    return "".join(c if c.isprintable() else "?" for c in text)


def canonical_json(value: Any) -> bytes:
    """One spelling for a JSON value. Raises ConfigError for NaN, infinity and what is no JSON."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot be written as JSON: {error}") from error


def as_unicode(value: Any) -> Any:
    """The same JSON value; in texts a `?` for what is not Unicode, as in the name of a file that is not UTF-8."""
    if isinstance(value, Mapping):
        return {as_unicode(key): as_unicode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_unicode(item) for item in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def parse_canonical_json(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object whose bytes are the canonical ones of its content: no doubled keys, no second spelling.
    RefusedError.
    """
    data = parse_json(raw, what)
    try:
        is_canonical = canonical_json(data) == raw
    except ConfigError:
        is_canonical = False
    if not is_canonical:
        raise RefusedError(f"{what} is not in canonical form")
    return data


def parse_json(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object from hostile bytes. Raises RefusedError."""
    try:
        data = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{what} is not valid JSON") from error
    if not isinstance(data, dict):
        raise RefusedError(f"{what} is not a JSON object")
    return data


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def table_at(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    return dict(as_table(data.get(key, {}), f"'{key}'"))


def as_table(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RefusedError(f"manifest.json: {what} must be a table")
    return value


def list_at(data: Mapping[str, Any], key: str, longest: int) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list) or len(value) > longest:
        raise RefusedError(f"manifest.json: '{key}' must be a list of at most {longest}")
    return value


def name_at(data: Mapping[str, Any], key: str) -> str:
    value = text_at(data, key, 64)
    if not NAME_PATTERN.fullmatch(value):
        raise RefusedError(f"manifest.json: '{key}' {value!r}: letters, digits, '.', '_' and '-' only")
    return value


def text_at(data: Mapping[str, Any], key: str, longest: int) -> str:
    return as_text(data.get(key), f"'{key}'", longest)


def as_text(value: Any, what: str, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise RefusedError(f"manifest.json: {what} must be a text of at most {longest} characters")
    return value


def integer_at(data: Mapping[str, Any], key: str, lowest: int, highest: int) -> int:
    return as_integer(data.get(key), f"'{key}'", lowest, highest)


def as_integer(value: Any, what: str, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise RefusedError(f"manifest.json: {what} must be an integer from {lowest} to {highest}")
    return value


def number_at(data: Mapping[str, Any], key: str) -> float:
    return as_number(data.get(key), f"'{key}'")


def as_number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300:
        raise RefusedError(f"manifest.json: {what} must be a number")
    return float(value)
