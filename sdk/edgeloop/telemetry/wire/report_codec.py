"""A report as CBOR with integer keys: what travels, what the spool keeps and what the store keeps.

Kept through decode and encode: unknown top-level keys (`Report.unknown`) and counters, stages and gauges with a code
this version has no name for (they are called `#CODE`). A breaking change raises SCHEMA_VERSION; new keys do not.
The tables of keys are in docs/telemetry.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from edgeloop.errors import DataError
from edgeloop.telemetry.histogram import Histogram
from edgeloop.telemetry.report import MAX_EVENTS, Report
from edgeloop.telemetry.wire import strict_cbor
from edgeloop.telemetry.wire.latency import WireLatency, wires_of
from edgeloop.telemetry.wire.report_parts import (
    COUNTER_CODES,
    GAUGE_CODES,
    STAGE_CODES,
    gauge_steps,
    read_counters,
    read_events,
    read_gauges,
    read_name,
    read_ops,
    read_wires,
    write_event,
)
from edgeloop.telemetry.wire.values import (
    MAX_NUMBER,
    as_flag,
    as_map,
    as_name,
    as_number,
    as_time_ms,
    boot_bytes,
    boot_text,
    check_entries,
    check_version,
    code_of,
    milliseconds,
)

SCHEMA_VERSION = 1
MAX_REPORT_BYTES = 64 * 1024

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
        body[_K_OPS] = read_ops([report.delegated_ops, report.total_ops])
    if report.unsigned:
        body[_K_UNSIGNED] = True
    if report.counters:
        check_entries(report.counters, "counters")
        body[_K_COUNTERS] = {
            code_of(name, COUNTER_CODES): as_number(count, name) for name, count in report.counters.items()
        }
    if report.latency:
        check_entries(report.latency, "stages")
        body[_K_LATENCY] = {code_of(name, STAGE_CODES): wire for name, wire in wires_of(report.latency).items()}
    gauges = {name: value for name, value in report.gauges.items() if isfinite(value)}
    if gauges:
        check_entries(gauges, "gauges")
        body[_K_GAUGES] = {code_of(name, GAUGE_CODES): gauge_steps(name, value) for name, value in gauges.items()}
    if report.events:
        if len(report.events) > MAX_EVENTS:
            raise DataError(f"report has more than {MAX_EVENTS} events")
        body[_K_EVENTS] = [write_event(event, time_ms) for event in report.events]
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
    return _report(_body(data), lambda wires: {stage: Histogram.from_wire(wire) for stage, wire in wires.items()})


def reread_report(data: bytes) -> Report:
    """`decode_report` of bytes that it accepted before: latency is decoded where it is read (`WireLatency`)."""
    return decode_unchecked(data)


def latency_wires(data: bytes) -> Mapping[str, bytes]:
    """Stage -> `Histogram.to_wire` of bytes that `decode_report` accepted before."""
    return read_wires(strict_cbor.reload(data).get(_K_LATENCY, {}))


def decode_unchecked(data: bytes) -> Report:
    """`decode_report`, but for the histograms, whose bytes nobody has looked at yet (`WireLatency`)."""
    return _report(_body(data), WireLatency)


# -- reading


def _body(data: bytes) -> Mapping[Any, Any]:
    body = as_map(strict_cbor.loads(data, what="report", max_bytes=MAX_REPORT_BYTES), "report")
    check_version(body, "report", SCHEMA_VERSION)
    if not body.keys() <= _KNOWN_KEYS and not all(isinstance(key, int) and 0 <= key <= MAX_NUMBER for key in body):
        raise DataError("report has a key that is not a number")
    return body


def _report(body: Mapping[Any, Any], read_latency: Callable[[Mapping[str, bytes]], Mapping[str, Histogram]]) -> Report:
    get = body.get
    time_ms = as_time_ms(get(_K_TIME), "time")
    unknown: dict[int, object] = {}
    if not body.keys() <= _KNOWN_KEYS:
        unknown = {key: value for key, value in body.items() if key not in _KNOWN_KEYS}
        check_entries(unknown, "unknown keys")
    device = read_name(get(_K_DEVICE), "device")
    if not device:
        raise DataError("report has no device")
    boot, seq = boot_text(get(_K_BOOT)), as_number(get(_K_SEQ), "seq", minimum=1)
    uptime_ms, period_ms = as_time_ms(get(_K_UPTIME, 0), "uptime"), as_time_ms(get(_K_PERIOD, 0), "period")
    version = as_number(get(_K_BUNDLE_VERSION, 0), "version")
    delegated_ops, total_ops = read_ops(get(_K_OPS, (0, 0)))
    return Report(
        device=device,
        boot=boot,
        seq=seq,
        time_s=time_ms / 1000,
        uptime_s=uptime_ms / 1000,
        period_s=period_ms / 1000,
        version=version,
        delegated_ops=delegated_ops,
        total_ops=total_ops,
        unsigned=as_flag(get(_K_UNSIGNED, False)),
        counters=read_counters(get(_K_COUNTERS, {})),
        latency=read_latency(read_wires(get(_K_LATENCY, {}))),
        gauges=read_gauges(get(_K_GAUGES, {})),
        events=read_events(get(_K_EVENTS, ()), time_ms),
        unknown=unknown,
        bundle=read_name(get(_K_BUNDLE, ""), "bundle"),
        variant=read_name(get(_K_VARIANT, ""), "variant"),
        delegate_asked=read_name(get(_K_ASKED, ""), "delegate_asked"),
        delegate_ran=read_name(get(_K_RAN, ""), "delegate_ran"),
        runtime=read_name(get(_K_RUNTIME, ""), "runtime"),
    )
