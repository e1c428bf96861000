"""Reports, batches and acknowledgements as CBOR with integer keys; the same bytes on every transport and in the spool.

Decoding is for bytes from a stranger: it raises DataError, and nothing else, for whatever is not well formed, too large
or out of range (`strict_cbor`). Encoding raises DataError for values the other side would refuse.

Kept through decode and encode: unknown top-level keys (`Report.unknown`) and counters, stages and gauges with a code
this version has no name for (they are called `#CODE`). A breaking change raises SCHEMA_VERSION; new keys do not.
The tables of keys are in docs/telemetry.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import cbor2

from edgeloop.errors import DataError
from edgeloop.telemetry import strict_cbor
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import COUNTERS, GAUGES, MAX_EVENTS, STAGES, Event, Report
from edgeloop.telemetry.wire_values import (
    MAX_NUMBER,
    as_array,
    as_bytes,
    as_entries,
    as_flag,
    as_map,
    as_name,
    as_number,
    as_range,
    as_text,
    as_time_ms,
    boot_bytes,
    boot_text,
    check_entries,
    code_of,
    label_of,
    milliseconds,
    tidy,
)

SCHEMA_VERSION = 1
MAX_REPORT_BYTES = 64 * 1024
MAX_BATCH = 200
MAX_BATCH_BYTES = 1024 * 1024
MAX_ACK_BYTES = 64 * 1024
MAX_COMMANDS = 16
MAX_ANSWERS = 16

UNREADABLE_BOOT = "0" * 16
"""Boot id in a rejection of a report whose key could not be read; `seq` is then the CRC-32 of the report's bytes."""

_STAGE_CODES = {name: code for code, name in enumerate(STAGES)}
_COUNTER_CODES = {name: code for code, name in enumerate(COUNTERS)}
_GAUGE_CODES = {name: code for code, name in enumerate(GAUGES)}
# A gauge travels as a whole number of steps of numerator / denominator: sensors are not finer, the bytes are fewer.
_GAUGE_STEPS = {
    "temperature_c": (1, 10),
    "load_1m": (1, 100),
    "rss_bytes": (1024, 1),
    "memory_available_bytes": (1024, 1),
    "spool_bytes": (1024, 1),
    "fps": (1, 100),
}
_MAX_STEPS = 2**50  # exact as a float in every unit
_K_VERSION, _K_DEVICE, _K_BOOT, _K_SEQ, _K_TIME, _K_UPTIME, _K_PERIOD = 0, 1, 2, 3, 4, 5, 6
_K_BUNDLE, _K_BUNDLE_VERSION, _K_VARIANT, _K_ASKED, _K_RAN, _K_OPS, _K_RUNTIME, _K_UNSIGNED = (
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
)
_K_COUNTERS, _K_LATENCY, _K_GAUGES, _K_EVENTS = 15, 16, 17, 18
_KNOWN_KEYS = frozenset(range(19))
_TEXT_FIELDS = {
    _K_BUNDLE: "bundle",
    _K_VARIANT: "variant",
    _K_ASKED: "delegate_asked",
    _K_RAN: "delegate_ran",
    _K_RUNTIME: "runtime",
}


@dataclass(frozen=True)
class Rejected:
    """A report the collector will never take, however often it is sent."""

    boot: str
    seq: int
    reason: str

    @classmethod
    def unreadable(cls, body: bytes, reason: str) -> Rejected:
        """Rejection of bytes in which not even the key could be read: the device finds them by their checksum."""
        return cls(UNREADABLE_BOOT, zlib.crc32(body), reason)


@dataclass(frozen=True)
class Ack:
    """The collector's answer to a batch, given after its commit.

    accepted: (boot, first seq, last seq), both included; duplicates of what is stored are accepted. rejected: what to
    set aside. commands: each one encoded, for the device that sent the batch.
    """

    accepted: tuple[tuple[str, int, int], ...] = ()
    rejected: tuple[Rejected, ...] = ()
    commands: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Batch:
    """What a device sends at once, each part still encoded: reports, and its answers to commands."""

    reports: tuple[bytes, ...]
    answers: tuple[bytes, ...] = ()


# -- reports


def encode_report(report: Report) -> bytes:
    """CBOR of a report. Times are cut to ms and gauges to their step; gauges that are not finite are left out.

    DataError when a name, number or the size is outside what `decode_report` takes.
    """
    boot = boot_bytes(report.boot)
    time_ms = milliseconds(report.time_s, "time_s")
    body: dict[int, Any] = {
        _K_VERSION: SCHEMA_VERSION,
        _K_DEVICE: as_name(report.device, "device"),
        _K_BOOT: boot,
        _K_SEQ: as_number(report.seq, "seq", minimum=1),
        _K_TIME: time_ms,
        _K_UPTIME: milliseconds(report.uptime_s, "uptime_s"),
        _K_PERIOD: milliseconds(report.period_s, "period_s"),
        _K_BUNDLE_VERSION: as_number(report.version, "version"),
    }
    if not report.device:
        raise DataError("report has no device")
    for key, field in _TEXT_FIELDS.items():
        if text := as_name(getattr(report, field), field):
            body[key] = text
    if report.total_ops or report.delegated_ops:
        body[_K_OPS] = _ops([report.delegated_ops, report.total_ops])
    if report.unsigned:
        body[_K_UNSIGNED] = True
    if report.counters:
        check_entries(report.counters, "counters")
        body[_K_COUNTERS] = {
            code_of(name, _COUNTER_CODES): as_number(count, name) for name, count in report.counters.items()
        }
    if report.latency:
        check_entries(report.latency, "stages")
        body[_K_LATENCY] = {code_of(name, _STAGE_CODES): part.to_wire() for name, part in report.latency.items()}
    gauges = {name: value for name, value in report.gauges.items() if isfinite(value)}
    if gauges:
        check_entries(gauges, "gauges")
        body[_K_GAUGES] = {code_of(name, _GAUGE_CODES): _steps(name, value) for name, value in gauges.items()}
    if report.events:
        if len(report.events) > MAX_EVENTS:
            raise DataError(f"report has more than {MAX_EVENTS} events")
        body[_K_EVENTS] = [_event(event, time_ms) for event in report.events]
    for code, value in report.unknown.items():
        if code in _KNOWN_KEYS:
            raise DataError(f"report's unknown key {code} is a known one")
        body[as_number(code, "unknown key")] = value
    check_entries(report.unknown, "unknown keys")
    data = strict_cbor.dumps(body)
    if report.unknown:  # values from elsewhere
        strict_cbor.loads(data, what="report", max_bytes=MAX_REPORT_BYTES)
    if len(data) > MAX_REPORT_BYTES:
        raise DataError(f"report of {len(data)} bytes is larger than {MAX_REPORT_BYTES}")
    return data


def decode_report(data: bytes) -> Report:
    """The report in `data`, which may be a stranger's. DataError, with the reason, for anything but a valid report."""
    body = as_map(strict_cbor.loads(data, what="report", max_bytes=MAX_REPORT_BYTES), "report")
    _check_version(body, "report")
    if not all(isinstance(key, int) and 0 <= key <= MAX_NUMBER for key in body):
        raise DataError("report has a key that is not a number")
    time_ms = as_time_ms(body.get(_K_TIME), "time")
    ops = body.get(_K_OPS, [0, 0])
    unknown = {key: value for key, value in body.items() if key not in _KNOWN_KEYS}
    check_entries(unknown, "unknown keys")
    device = as_name(body.get(_K_DEVICE), "device")
    if not device:
        raise DataError("report has no device")
    return Report(
        device=device,
        boot=boot_text(body.get(_K_BOOT)),
        seq=as_number(body.get(_K_SEQ), "seq", minimum=1),
        time_s=time_ms / 1000,
        uptime_s=as_time_ms(body.get(_K_UPTIME, 0), "uptime") / 1000,
        period_s=as_time_ms(body.get(_K_PERIOD, 0), "period") / 1000,
        version=as_number(body.get(_K_BUNDLE_VERSION, 0), "version"),
        delegated_ops=_ops(ops)[0],
        total_ops=_ops(ops)[1],
        unsigned=as_flag(body.get(_K_UNSIGNED, False)),
        counters={
            label_of(code, COUNTERS): as_number(count, "counter")
            for code, count in as_entries(body.get(_K_COUNTERS, {}), "counters")
        },
        latency={
            label_of(code, STAGES): Histogram.from_wire(as_bytes(wire, "histogram"))
            for code, wire in as_entries(body.get(_K_LATENCY, {}), "stages")
        },
        gauges={
            (name := label_of(code, GAUGES)): _gauge(name, value)
            for code, value in as_entries(body.get(_K_GAUGES, {}), "gauges")
        },
        events=_events(body.get(_K_EVENTS, []), time_ms),
        unknown=unknown,
        **{field: as_name(body.get(key, ""), field) for key, field in _TEXT_FIELDS.items()},
    )


def latency_wires(data: bytes) -> dict[str, bytes]:
    """Stage -> `Histogram.to_wire` of bytes that `decode_report` accepted, as it came: to store it as it is."""
    body: dict[int, Any] = cbor2.loads(data)
    return {label_of(code, STAGES): wire for code, wire in body.get(_K_LATENCY, {}).items()}


# -- batches and acknowledgements


def encode_batch(reports: Sequence[bytes], answers: Sequence[bytes] = ()) -> bytes:
    """Encoded reports, and answers to commands, as one body; reports may be missing where there are answers.

    DataError for none of both, more than MAX_BATCH or MAX_ANSWERS, or more bytes than MAX_BATCH_BYTES.
    """
    _check_batch(reports, answers)
    body: dict[int, object] = {0: SCHEMA_VERSION, 1: list(reports)}
    if answers:
        body[2] = list(answers)
    data = strict_cbor.dumps(body)
    if len(data) > MAX_BATCH_BYTES:
        raise DataError(f"batch of {len(data)} bytes is larger than {MAX_BATCH_BYTES}")
    return data


def decode_batch(data: bytes) -> Batch:
    """The parts of a batch, still encoded: one that is broken does not spoil the others. DataError."""
    body = as_map(strict_cbor.loads(data, what="batch", max_bytes=MAX_BATCH_BYTES, max_depth=3), "batch")
    _check_version(body, "batch")
    reports = as_array(body.get(1), "batch's reports")
    answers = as_array(body.get(2, []), "batch's answers")
    _check_batch(reports, answers)
    return Batch(
        tuple(as_bytes(report, "report") for report in reports), tuple(as_bytes(answer, "answer") for answer in answers)
    )


def _check_batch(reports: Sequence[object], answers: Sequence[object]) -> None:
    if len(reports) > MAX_BATCH or not (reports or answers):
        raise DataError(f"a batch holds 1 to {MAX_BATCH} reports, not {len(reports)}")
    if len(answers) > MAX_ANSWERS:
        raise DataError(f"a batch holds up to {MAX_ANSWERS} answers, not {len(answers)}")


def encode_ack(ack: Ack) -> bytes:
    """CBOR of an acknowledgement. Reasons are cut to MAX_DETAIL_CHARS. DataError for values out of range."""
    body: dict[int, object] = {
        0: SCHEMA_VERSION,
        1: [[boot_bytes(boot), *as_range(first, last)] for boot, first, last in ack.accepted],
    }
    if ack.rejected:
        body[2] = [[boot_bytes(each.boot), as_number(each.seq, "seq"), tidy(each.reason)] for each in ack.rejected]
    if ack.commands:
        body[3] = [as_bytes(command, "command") for command in ack.commands]
    data = strict_cbor.dumps(body)
    if len(data) > MAX_ACK_BYTES:
        raise DataError(f"acknowledgement of {len(data)} bytes is larger than {MAX_ACK_BYTES}")
    return data


def decode_ack(data: bytes) -> Ack:
    """The acknowledgement in `data`, which may be a stranger's. DataError."""
    body = as_map(strict_cbor.loads(data, what="acknowledgement", max_bytes=MAX_ACK_BYTES), "acknowledgement")
    _check_version(body, "acknowledgement")
    accepted = []
    for entry in as_array(body.get(1, []), "accepted ranges"):
        boot, first, last = as_array(entry, "accepted range", length=3)
        accepted.append((boot_text(boot), *as_range(first, last)))
    rejected = []
    for entry in as_array(body.get(2, []), "rejections"):
        boot, seq, reason = as_array(entry, "rejection", length=3)
        rejected.append(Rejected(boot_text(boot), as_number(seq, "seq"), tidy(as_text(reason, "reason"))))
    commands = as_array(body.get(3, []), "commands")
    if max(len(accepted), len(rejected)) > MAX_BATCH or len(commands) > MAX_COMMANDS:
        raise DataError("acknowledgement has too many entries")
    return Ack(tuple(accepted), tuple(rejected), tuple(as_bytes(command, "command") for command in commands))


def accepted_ranges(keys: Sequence[tuple[str, int]]) -> tuple[tuple[str, int, int], ...]:
    """(boot, seq) pairs as the fewest (boot, first, last) ranges, for `Ack.accepted`."""
    ranges: list[tuple[str, int, int]] = []
    for boot, seq in sorted(set(keys)):
        if ranges and ranges[-1][0] == boot and ranges[-1][2] == seq - 1:
            ranges[-1] = (boot, ranges[-1][1], seq)
        else:
            ranges.append((boot, seq, seq))
    return tuple(ranges)


# -- parts of a report


def _check_version(body: Mapping[Any, object], what: str) -> None:
    version = body.get(0)
    if type(version) is not int or version < 1:
        raise DataError(f"{what} has no version")
    if version > SCHEMA_VERSION:
        raise DataError(f"{what} has version {version}, this edgeloop reads up to {SCHEMA_VERSION}")


def _ops(value: object) -> list[int]:
    done, total = (as_number(part, "op count") for part in as_array(value, "op counts", length=2))
    if done > total:
        raise DataError(f"{done} of {total} ops delegated is not possible")
    return [done, total]


def _steps(name: str, value: float) -> int | float:
    numerator, denominator = _GAUGE_STEPS.get(name, (1, 1))
    if name in _GAUGE_CODES or float(value).is_integer():
        steps = round(value * denominator / numerator)
        if name in _GAUGE_CODES and abs(steps) > _MAX_STEPS:
            raise DataError(f"gauge {name} is out of range")
        if abs(steps) <= MAX_NUMBER:
            return steps
    return float(value)


def _gauge(name: str, value: object) -> float:
    if type(value) is not int and type(value) is not float:
        raise DataError("gauge is not a number")
    if name in _GAUGE_CODES and (type(value) is not int or abs(value) > _MAX_STEPS):
        raise DataError(f"gauge {name} is not a whole number of steps within range")
    numerator, denominator = _GAUGE_STEPS.get(name, (1, 1))
    return float(value * numerator / denominator)


def _event(event: Event, time_ms: int) -> list[object]:
    kind = as_name(event.kind, "event's kind")
    return [kind, time_ms - milliseconds(event.time_s, "event's time"), tidy(event.detail)]


def _events(value: object, time_ms: int) -> tuple[Event, ...]:
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
