"""Batches and acknowledgements as CBOR with integer keys, and reports (`report_codec`): the same bytes on every way.

Decoding is for bytes from a stranger: it raises DataError, and nothing else, for whatever is not well formed, too large
or out of range (`strict_cbor`). Encoding raises DataError for values the other side would refuse.
The tables of keys are in docs/telemetry.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from edgeloop.errors import DataError
from edgeloop.telemetry.clock import ReportsSentNow, SentAt
from edgeloop.telemetry.wire import strict_cbor
from edgeloop.telemetry.wire.report_codec import (
    MAX_REPORT_BYTES,
    SCHEMA_VERSION,
    decode_report,
    encode_report,
)
from edgeloop.telemetry.wire.values import (
    as_array,
    as_bytes,
    as_map,
    as_number,
    as_range,
    as_text,
    as_time_ms,
    boot_bytes,
    boot_text,
    check_version,
    milliseconds,
    tidy,
)

__all__ = [
    "MAX_ACK_BYTES",
    "MAX_ANSWERS",
    "MAX_BATCH",
    "MAX_BATCH_BYTES",
    "MAX_COMMANDS",
    "MAX_REPORT_BYTES",
    "SCHEMA_VERSION",
    "UNREADABLE_BOOT",
    "Ack",
    "Batch",
    "Rejected",
    "accepted_ranges",
    "decode_ack",
    "decode_batch",
    "decode_report",
    "encode_ack",
    "encode_batch",
    "encode_report",
]

MAX_BATCH = 200
MAX_BATCH_BYTES = 1024 * 1024
MAX_ACK_BYTES = 64 * 1024
MAX_COMMANDS = 16
MAX_ANSWERS = 16

UNREADABLE_BOOT = "0" * 16
"""Boot id in a rejection of a report whose key could not be read; `seq` is then the CRC-32 of the report's bytes."""


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
    """What a device sends at once, each part still encoded: reports, and its answers to commands. sent: its clocks at
    that moment, where it says so."""

    reports: tuple[bytes, ...]
    answers: tuple[bytes, ...] = ()
    sent: SentAt | None = None


# -- batches and acknowledgements


def encode_batch(reports: Sequence[bytes], answers: Sequence[bytes] = ()) -> bytes:
    """Encoded reports, and answers to commands, as one body; reports may be missing where there are answers.
    `ReportsSentNow` tell the time of sending, too.

    DataError for none of both, more than MAX_BATCH or MAX_ANSWERS, or more bytes than MAX_BATCH_BYTES.
    """
    _check_batch(reports, answers)
    body: dict[int, object] = {0: SCHEMA_VERSION, 1: list(reports)}
    if answers:
        body[2] = list(answers)
    if isinstance(reports, ReportsSentNow):
        sent = reports.sent
        body[3] = [boot_bytes(sent.boot), milliseconds(sent.time_s, "time"), milliseconds(sent.uptime_s, "uptime")]
    data = strict_cbor.dumps(body)
    if len(data) > MAX_BATCH_BYTES:
        raise DataError(f"batch of {len(data)} bytes is larger than {MAX_BATCH_BYTES}")
    return data


def decode_batch(data: bytes) -> Batch:
    """The parts of a batch, still encoded: one that is broken does not spoil the others. DataError."""
    body = as_map(strict_cbor.loads(data, what="batch", max_bytes=MAX_BATCH_BYTES, max_depth=3), "batch")
    check_version(body, "batch", SCHEMA_VERSION)
    reports = as_array(body.get(1), "batch's reports")
    answers = as_array(body.get(2, []), "batch's answers")
    _check_batch(reports, answers)
    return Batch(
        tuple(as_bytes(report, "report") for report in reports),
        tuple(as_bytes(answer, "answer") for answer in answers),
        _sent_at(body[3]) if 3 in body else None,
    )


def _sent_at(value: object) -> SentAt:
    boot, time_ms, uptime_ms = as_array(value, "time of sending", length=3)
    return SentAt(boot_text(boot), as_time_ms(time_ms, "time") / 1000, as_time_ms(uptime_ms, "uptime") / 1000)


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
    check_version(body, "acknowledgement", SCHEMA_VERSION)
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
