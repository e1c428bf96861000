"""What a device sends of a hard sample, in pieces, and what the collector answers. One CBOR map with integer keys each.

    piece   {0: 1, 1: device, 2: sha256, 3: bytes of the whole, 4: offset, 5: piece, 6: about}
    answer  {0: 1, 1: state, 2: next offset, 3: reason}

The SHA-256 of the whole names it: a device that was cut off begins again, and goes on where the collector stands. Both
are read as a stranger's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import cbor2

from edgeloop.errors import DataError
from edgeloop.telemetry.wire.values import MAX_NAME_CHARS, as_name

SAMPLES_PATH = "/v1/samples"
MAX_SAMPLE_BYTES = 8 << 20
PIECE_BYTES = 128 << 10
MAX_PIECE_BODY_BYTES = PIECE_BYTES + (8 << 10)
MAX_ANSWER_BYTES = 1024
MAX_RESULT_CHARS = 2000

KINDS = ("png", "npz")
REASONS = ("low_confidence", "audit_disagreement")
MORE, STORED, DUPLICATE, FULL, REFUSED = "more", "stored", "duplicate", "full", "refused"
STATES = (MORE, STORED, DUPLICATE, FULL, REFUSED)
"""more: go on at the next offset. stored, duplicate: the collector has it. full: the quota is used up, try tomorrow.
refused: it will never take this one."""

_VERSION = 1


@dataclass(frozen=True)
class About:
    """What is known of a sample: kind of file, why it was chosen, which model answered what (`Result.to_json` as text),
    confidence 0..1 or None, unix time."""

    kind: str
    reason: str
    bundle: str
    version: int
    variant: str
    time_s: float
    confidence: float | None
    answer: str


@dataclass(frozen=True)
class Piece:
    """`data` of the sample at `offset`."""

    device: str
    sha256: bytes
    size: int
    offset: int
    data: bytes
    about: About

    @property
    def is_last(self) -> bool:
        return self.offset + len(self.data) == self.size


@dataclass(frozen=True)
class Answer:
    state: str
    next_offset: int = 0
    reason: str = ""


def encode_piece(piece: Piece) -> bytes:
    about = piece.about
    values = [about.kind, about.reason, about.bundle, about.version, about.variant, about.time_s, about.confidence]
    return cbor2.dumps(
        {
            0: _VERSION, 1: piece.device, 2: piece.sha256, 3: piece.size, 4: piece.offset, 5: piece.data,
            6: [*values, about.answer[:MAX_RESULT_CHARS]],
        }
    )  # fmt: skip


def decode_piece(body: bytes) -> Piece:
    """Raises DataError for anything that is no piece."""
    found = _map(body, MAX_PIECE_BODY_BYTES)
    device = as_name(found.get(1), "device")
    sha256, size, offset, data, about = (found.get(key) for key in (2, 3, 4, 5, 6))
    if not device:
        raise DataError("a sample without a device")
    if not isinstance(sha256, bytes) or len(sha256) != 32:
        raise DataError("a sample without a SHA-256")
    if not _is_whole(size) or not 0 < size <= MAX_SAMPLE_BYTES:
        raise DataError(f"a sample has 1 to {MAX_SAMPLE_BYTES} bytes")
    if not isinstance(data, bytes) or not _is_whole(offset) or not 0 <= offset <= size - len(data):
        raise DataError("a piece that is not within its sample")
    return Piece(device, sha256, size, offset, data, _about(about))


def _about(values: object) -> About:
    if not isinstance(values, list) or len(values) < 8:
        raise DataError("a sample that says nothing of itself")
    kind, reason, bundle, version, variant, time_s, confidence, answer = values[:8]
    if kind not in KINDS or reason not in REASONS:
        raise DataError("a sample of an unknown kind or reason")
    if not _is_whole(version) or not 0 <= version < 2**63:
        raise DataError("version is out of range")
    if isinstance(time_s, bool) or not isinstance(time_s, int | float) or not 0 <= time_s < 253402300800:
        raise DataError("time is out of range")
    if confidence is not None and (not isinstance(confidence, float) or not 0 <= confidence <= 1):
        raise DataError("confidence is out of range")
    if not isinstance(answer, str) or len(answer) > MAX_RESULT_CHARS or not answer.isprintable():
        raise DataError("answer is no short text")
    names = as_name(bundle, "bundle"), as_name(variant, "variant")
    return About(kind, reason, names[0], version, names[1], float(time_s), confidence, answer)


def encode_answer(answer: Answer) -> bytes:
    return cbor2.dumps({0: _VERSION, 1: STATES.index(answer.state), 2: answer.next_offset, 3: answer.reason[:200]})


def decode_answer(body: bytes) -> Answer:
    """Raises DataError for anything that is no answer."""
    found = _map(body, MAX_ANSWER_BYTES)
    state, offset, reason = found.get(1), found.get(2), found.get(3)
    if not _is_whole(state) or not 0 <= state < len(STATES) or not _is_whole(offset) or not isinstance(reason, str):
        raise DataError("not an answer to a sample")
    if not 0 <= offset <= MAX_SAMPLE_BYTES:
        raise DataError("offset is out of range")
    return Answer(STATES[state], offset, "".join(c if c.isprintable() else "?" for c in reason[:200]))


def cut_about(about: About) -> About:
    """With names and an answer of lengths that travel."""
    answer = "".join(c if c.isprintable() else "?" for c in about.answer[:MAX_RESULT_CHARS])
    return replace(about, bundle=about.bundle[:MAX_NAME_CHARS], variant=about.variant[:MAX_NAME_CHARS], answer=answer)


def _map(body: bytes, limit: int) -> dict[Any, Any]:
    if len(body) > limit:
        raise DataError(f"{len(body)} bytes are more than {limit}")
    try:
        found = cbor2.loads(body)
    except Exception as error:  # cbor2 raises many kinds for broken input
        raise DataError("not CBOR") from error
    if not isinstance(found, dict) or found.get(0) != _VERSION:
        raise DataError("not a map of this version")
    return found


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
