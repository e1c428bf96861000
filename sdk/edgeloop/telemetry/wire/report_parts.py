"""The parts of a report that have values of their own, on their way to and from the wire. Each raises DataError."""

from __future__ import annotations

from functools import lru_cache

from edgeloop.errors import DataError
from edgeloop.telemetry.report import COUNTERS, GAUGES, MAX_EVENTS, STAGES, Event
from edgeloop.telemetry.wire.values import (
    MAX_NUMBER,
    as_array,
    as_bytes,
    as_entries,
    as_name,
    as_number,
    as_text,
    as_time_ms,
    label_of,
    milliseconds,
    tidy,
)

STAGE_CODES = {name: code for code, name in enumerate(STAGES)}
COUNTER_CODES = {name: code for code, name in enumerate(COUNTERS)}
GAUGE_CODES = {name: code for code, name in enumerate(GAUGES)}
STAGE_NAMES, COUNTER_NAMES = dict(enumerate(STAGES)), dict(enumerate(COUNTERS))
# A gauge travels as a whole number of steps of numerator / denominator: sensors are not finer, the bytes are fewer.
_GAUGE_STEPS = {
    "temperature_c": (1, 10),
    "load_1m": (1, 100),
    "rss_bytes": (1024, 1),
    "memory_available_bytes": (1024, 1),
    "spool_bytes": (1024, 1),
    "fps": (1, 100),
    "profile_p50_ms": (1, 1000),
    "profile_p95_ms": (1, 1000),
}
GAUGE_UNITS = {code: (name, *_GAUGE_STEPS.get(name, (1, 1))) for code, name in enumerate(GAUGES)}
_MAX_STEPS = 2**50  # exact as a float in every unit

_known_name = lru_cache(maxsize=4096)(as_name)  # the same few names come with every report


def read_name(value: object, what: str) -> str:
    return _known_name(value, what) if type(value) is str else as_name(value, what)


def read_counters(value: object) -> dict[str, int]:
    counters = {}
    for code, count in as_entries(value, "counters"):
        if type(count) is not int or not 0 <= count <= MAX_NUMBER:
            label_of(code, COUNTERS)  # whose fault comes first
            as_number(count, "counter")
        counters[COUNTER_NAMES.get(code) or label_of(code, COUNTERS)] = count
    return counters


def read_wires(value: object) -> dict[str, bytes]:
    entries = as_entries(value, "stages")
    return {STAGE_NAMES.get(code) or label_of(code, STAGES): as_bytes(wire, "histogram") for code, wire in entries}


def read_gauges(value: object) -> dict[str, float]:
    gauges = {}
    for code, steps in as_entries(value, "gauges"):
        unit = GAUGE_UNITS.get(code)
        if unit is not None and type(steps) is int and -_MAX_STEPS <= steps <= _MAX_STEPS:  # as nearly all are
            name, numerator, denominator = unit
            gauges[name] = steps * numerator / denominator
        else:
            name = label_of(code, GAUGES)
            gauges[name] = _gauge(name, steps)
    return gauges


def read_ops(value: object) -> list[int]:
    done, total = (as_number(part, "op count") for part in as_array(value, "op counts", length=2))
    if done > total:
        raise DataError(f"{done} of {total} ops delegated is not possible")
    return [done, total]


def gauge_steps(name: str, value: float) -> int | float:
    numerator, denominator = _GAUGE_STEPS.get(name, (1, 1))
    if name in GAUGE_CODES or float(value).is_integer():
        steps = round(value * denominator / numerator)
        if name in GAUGE_CODES and abs(steps) > _MAX_STEPS:
            raise DataError(f"gauge {name} is out of range")
        if abs(steps) <= MAX_NUMBER:
            return steps
    return float(value)


def _gauge(name: str, value: object) -> float:
    if type(value) is not int and type(value) is not float:
        raise DataError("gauge is not a number")
    if name in GAUGE_CODES and (type(value) is not int or abs(value) > _MAX_STEPS):
        raise DataError(f"gauge {name} is not a whole number of steps within range")
    numerator, denominator = _GAUGE_STEPS.get(name, (1, 1))
    return float(value * numerator / denominator)


def write_event(event: Event, time_ms: int) -> list[object]:
    kind = as_name(event.kind, "event's kind")
    return [kind, time_ms - milliseconds(event.time_s, "event's time"), tidy(event.detail)]


def read_events(value: object, time_ms: int) -> tuple[Event, ...]:
    entries = as_array(value, "events")
    if len(entries) > MAX_EVENTS:
        raise DataError(f"report has more than {MAX_EVENTS} events")
    events = []
    for entry in entries:
        kind, age_ms, detail = as_array(entry, "event", length=3)
        if type(age_ms) is not int:
            raise DataError("event's time is not a whole number")
        time_s = as_time_ms(time_ms - age_ms, "event's time") / 1000
        events.append(Event(as_name(kind, "event's kind"), time_s, tidy(as_text(detail, "event's detail"))))
    return tuple(events)
