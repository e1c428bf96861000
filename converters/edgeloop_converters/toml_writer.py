"""Plain values to TOML that `edgeloop.tomlfile.parse_toml` reads back unchanged (the standard library only reads)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def to_toml(data: Mapping[str, Any]) -> str:
    """Mappings become tables, lists of mappings arrays of tables, None values are left out.

    Raises ValueError for what TOML cannot say: NaN, infinity, other types.
    """
    return "\n".join(_table(data, ())) + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    nested: list[str] = []
    for key, value in data.items():
        here = (*path, _key(key))
        if value is None:
            continue
        if isinstance(value, Mapping):
            nested += ["", f"[{'.'.join(here)}]", *_table(value, here)]
        elif isinstance(value, (list, tuple)) and value and all(isinstance(v, Mapping) for v in value):
            for item in value:
                nested += ["", f"[[{'.'.join(here)}]]", *_table(item, here)]
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    return lines + nested


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be written")
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    raise ValueError(f"a {type(value).__name__} cannot be written")


def _string(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()  # a file name that is not UTF-8 holds lone surrogates
    escaped = (_ESCAPES.get(c) or (c if ord(c) >= 0x20 and ord(c) != 0x7F else f"\\u{ord(c):04x}") for c in text)
    return '"' + "".join(escaped) + '"'
