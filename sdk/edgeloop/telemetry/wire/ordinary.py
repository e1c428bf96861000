"""Reports as our own encoder writes them, read by one regular expression: C code runs it, where the gate
(`strict_cbor`) takes a step of Python for every item.

A quick door, never a second opinion: what it takes, the gate and `report_codec` take and read alike; of everything else
(other orders of keys, rare forms, keys of newer versions, whatever is wrong) it says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import cbor2

from edgeloop.errors import DataError
from edgeloop.telemetry.report import Report
from edgeloop.telemetry.wire.latency import WireLatency
from edgeloop.telemetry.wire.report_parts import (
    COUNTER_NAMES,
    GAUGE_UNITS,
    STAGE_NAMES,
    read_counters,
    read_events,
    read_gauges,
    read_wires,
)
from edgeloop.telemetry.wire.values import as_name, as_time_ms

_MAX_TEXT, _MAX_KEY, _MAX_WIRE = 63, 40, 160  # bytes; longer ones are rare
_MAX_STAGES, _MAX_PAIRS, _MAX_EVENTS = 8, 23, 4
_T = TypeVar("_T")
_REFUSED = (DataError, cbor2.CBORDecodeError, ValueError)  # UnicodeDecodeError is one of them


def read(data: bytes) -> Report | None:
    """What `report_codec.decode_unchecked` makes of an ordinary report, None for any other."""
    found = _expression().match(data)
    if found is None:
        return None
    head, *always, ops, done, total, unsigned, counters, wires, gauges, events = groups = found.groups()
    device, boot, seq, time, uptime, period, version, bundle, variant, asked, ran, runtime = always
    inside = 0 if ops is None else 2
    if head[0] & 0x1F != len(groups) - groups.count(None) - inside:  # key 0 has no group, but the head is one
        return None
    try:
        time_ms, delegated_ops, total_ops = _number(time), _number(done), _number(total)
        fields: dict[str, object] = {
            "device": _name(device),
            "boot": boot.hex(),
            "seq": _number(seq),
            "time_s": as_time_ms(time_ms, "time") / 1000,
            "uptime_s": as_time_ms(_number(uptime), "uptime") / 1000,
            "period_s": as_time_ms(_number(period), "period") / 1000,
            "version": _number(version),
            "bundle": _name(bundle),
            "variant": _name(variant),
            "delegate_asked": _name(asked),
            "delegate_ran": _name(ran),
            "delegated_ops": delegated_ops,
            "total_ops": total_ops,
            "runtime": _name(runtime),
            "unsigned": unsigned is not None,
            "counters": _named(counters, COUNTER_NAMES, read_counters),
            "latency": WireLatency(_named(wires, STAGE_NAMES, read_wires)),
            "gauges": _gauges(gauges),
            "events": () if events is None else read_events(cbor2.loads(events), time_ms),
            "unknown": {},
        }
    except _REFUSED:
        return None
    if not (fields["device"] and fields["seq"] and delegated_ops <= total_ops):
        return None
    return Report.of_fields(fields)


def _named(entries: bytes | None, names: Mapping[int, str], read: Callable[[object], dict[str, _T]]) -> dict[str, _T]:
    if entries is None:
        return {}
    value = _unique(entries)
    try:
        return {names[code]: item for code, item in value.items()}
    except KeyError:
        return read(value)


def _gauges(entries: bytes | None) -> dict[str, float]:
    if entries is None:
        return {}
    value, gauges = _unique(entries), {}
    try:
        for code, steps in value.items():
            name, numerator, denominator = GAUGE_UNITS[code]
            gauges[name] = steps * numerator / denominator
    except KeyError:
        return read_gauges(value)
    return gauges


def _unique(entries: bytes) -> dict[Any, Any]:
    """The map. DataError where a key came twice."""
    value: dict[Any, Any] = cbor2.loads(entries)
    if len(value) != entries[0] & 0x1F:
        raise DataError("a key twice")
    return value


def _number(item: bytes | None) -> int:
    if item is None:
        return 0
    return item[0] if len(item) == 1 else int.from_bytes(item[1:], "big")


@lru_cache(maxsize=4096)
def _name(item: bytes | None) -> str:
    if item is None:
        return ""
    return as_name(item[2 if item[0] == 0x78 else 1 :].decode(), "name")


def _byte(value: int) -> bytes:
    return b"\\x%02x" % value


@lru_cache(maxsize=1)
def _expression() -> re.Pattern[bytes]:
    """Groups: head, device, boot, seq, time, uptime, period, version of the bundle; then what may be missing, None."""

    def sized(major: int, most: int) -> bytes:
        """A string of up to `most` bytes: the length in its head, in its shortest form."""
        short = b"|".join(_byte(major + size) + b".{%d}" % size for size in range(min(most, 23) + 1))
        long = b"|".join(_byte(size) + b".{%d}" % size for size in range(24, most + 1))
        return b"(?:%s|%s(?:%s))" % (short, _byte(major + 24), long)

    def repeated(major: int, part: bytes, most: int) -> bytes:
        return b"(?:%s)" % b"|".join(_byte(major + n) + b"(?:%s){%d}" % (part, n) for n in range(most + 1))

    def entry(key: int, value: bytes) -> bytes:
        return b"(?:%s(%s))?" % (_byte(key), value)

    number = rb"(?:[\x00-\x17]|\x18[\x18-\xff]|\x19[\x01-\xff].|\x1a(?!\0\0).{4}|\x1b(?!\0{4})[\x00-\x7f].{7})"
    step = rb"(?:[\x00-\x17\x20-\x37]|[\x18\x38][\x18-\xff]|[\x19\x39][\x01-\xff].|[\x1a\x3a](?!\0\0).{4})"
    float64 = rb"\xfb(?![\x7f\xff][\xf0-\xff]).{8}"
    text, word = sized(0x60, _MAX_TEXT), sized(0x60, _MAX_KEY)
    code = b"(?:[\\x00-\\x17]|%s)" % word
    counters = repeated(0xA0, code + number, _MAX_PAIRS)
    latency = repeated(0xA0, code + sized(0x40, _MAX_WIRE), _MAX_STAGES)
    gauges = repeated(0xA0, b"(?:[\\x00-\\x17]%s|%s(?:%s|%s))" % (step, word, step, float64), _MAX_PAIRS)
    events = repeated(0x80, rb"\x83" + text + step + text, _MAX_EVENTS)
    ops = rb"\x82(%s)(%s)" % (number, number)
    always = rb"([\xa8-\xb3])\x00\x01\x01(%s)\x02\x48(.{8})\x03(%s)\x04(%s)\x05(%s)\x06(%s)\x08(%s)"
    names = b"".join(entry(key, text) for key in (7, 9, 10, 11, 13))
    rest = entry(12, ops) + entry(14, rb"\xf5") + entry(15, counters) + entry(16, latency)
    whole = always % (text, *[number] * 5) + names + rest + entry(17, gauges) + entry(18, events) + rb"\Z"
    return re.compile(whole, re.DOTALL)
