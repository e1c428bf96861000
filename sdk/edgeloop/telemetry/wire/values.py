"""Checks of single values on their way from and to the wire; each raises DataError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from edgeloop.errors import DataError
from edgeloop.telemetry.report import BOOT_PATTERN

MAX_NAME_CHARS = 120
MAX_DETAIL_CHARS = 240
MAX_ENTRIES = 64  # per map of counters, stages or gauges; unknown keys too
MAX_NUMBER = 2**63 - 1  # what a SQL integer holds
MAX_TIME_MS = 253_402_300_799_999  # the end of the year 9999


def as_map(value: object, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{what} is not a map")
    return value


def check_version(body: Mapping[Any, object], what: str, newest: int) -> None:
    """The version of a table, under key 0; newest: the last one that is read here."""
    version = body.get(0)
    if type(version) is not int or version < 1:
        raise DataError(f"{what} has no version")
    if version > newest:
        raise DataError(f"{what} has version {version}, this edgeloop reads up to {newest}")


def as_array(value: object, what: str, length: int | None = None) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)) or (length is not None and len(value) != length):
        raise DataError(f"{what} is not an array" + (f" of {length}" if length is not None else ""))
    return value


def as_bytes(value: object, what: str) -> bytes:
    if not isinstance(value, bytes):
        raise DataError(f"{what} is not a byte string")
    return value


def as_text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} is not text")
    return value


def as_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise DataError("unsigned is not true or false")
    return value


def as_name(value: object, what: str) -> str:
    text = as_text(value, what)
    if len(text) > MAX_NAME_CHARS:
        raise DataError(f"{what} is longer than {MAX_NAME_CHARS} characters")
    if not text.isprintable():  # control, bidirectional-override and line-separator characters, lone surrogates
        raise DataError(f"{what} has a character that cannot be printed")
    return text


def as_number(value: object, what: str, minimum: int = 0) -> int:
    if type(value) is not int or not minimum <= value <= MAX_NUMBER:
        raise DataError(f"{what} is not a whole number from {minimum} up")
    return value


def as_range(first: object, last: object) -> tuple[int, int]:
    low = as_number(first, "first seq")
    return low, as_number(last, "last seq", minimum=low)


def as_time_ms(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_TIME_MS:
        raise DataError(f"{what} is not a time in milliseconds")
    return value


def milliseconds(seconds: float, what: str) -> int:
    if not isfinite(seconds):
        raise DataError(f"{what} is not finite")
    return as_time_ms(round(seconds * 1000), what)


def boot_bytes(boot: str) -> bytes:
    if not isinstance(boot, str) or not BOOT_PATTERN.fullmatch(boot):
        raise DataError("boot is not 16 lowercase hexadecimal digits")
    return bytes.fromhex(boot)


def boot_text(value: object) -> str:
    boot = as_bytes(value, "boot")
    if len(boot) != 8:
        raise DataError("boot is not 8 bytes")
    return boot.hex()


def check_entries(entries: Mapping[Any, object], what: str) -> None:
    if len(entries) > MAX_ENTRIES:
        raise DataError(f"report has more than {MAX_ENTRIES} {what}")


def as_entries(value: object, what: str) -> Sequence[tuple[Any, Any]]:
    entries = as_map(value, what)
    check_entries(entries, what)
    return list(entries.items())


def code_of(name: str, codes: Mapping[str, int]) -> int | str:
    """Wire code of a name: its number, the number in `#NUMBER`, or the name itself."""
    if (code := codes.get(name)) is not None:
        return code
    if name.startswith("#"):
        if not (name[1:].isascii() and name[1:].isdigit()) or name != f"#{int(name[1:])}" or int(name[1:]) < len(codes):
            raise DataError(f"{name!r} is not a code for a name")
        return as_number(int(name[1:]), "code")
    if not name:
        raise DataError("a counter, stage or gauge has no name")
    return as_name(name, "name")


def label_of(code: object, names: Sequence[str]) -> str:
    if isinstance(code, str):
        if not code or code.startswith("#") or code in names:
            raise DataError(f"{code[:MAX_NAME_CHARS]!r} is not a name for a counter, stage or gauge")
        return as_name(code, "name")
    number = as_number(code, "code")
    return names[number] if number < len(names) else f"#{number}"


def tidy(text: str) -> str:
    """One printable line of at most MAX_DETAIL_CHARS for free text, whatever was in it."""
    if len(text) <= MAX_DETAIL_CHARS and text.isprintable():  # as nearly all are
        return " ".join(text.split())
    cut = text[: 2 * MAX_DETAIL_CHARS]
    return " ".join("".join(c if c.isprintable() else " " for c in cut).split())[:MAX_DETAIL_CHARS].rstrip()
