"""Commands and answers on the wire: they come back as they were, and hostile bytes are a DataError and nothing else."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop.telemetry.commands.codec import (
    MAX_ANSWER_BYTES,
    MAX_COMMAND_BYTES,
    decode_answer,
    decode_envelope,
    encode_answer,
    encode_content,
    encode_envelope,
)
from edgeloop.telemetry.commands.signing import unsigned
from edgeloop.telemetry.commands.values import Answer, Command, new_command_id

ID, BOOT = "00112233445566aa", "0123456789abcdef"
FULL = Command("bench", ID, {"bundle": "ic", "n": 50, "variants": ["int8"]}, "pi-1", BOOT, 7, 12.5)

_text = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=20)
_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=8,
)


def test_a_command_comes_back_as_it_was() -> None:
    envelope = decode_envelope(encode_envelope(encode_content(FULL), "ab" * 12, b"s" * 64))
    assert (envelope.command, envelope.key_id, envelope.signature) == (FULL, "ab" * 12, b"s" * 64)
    assert decode_envelope(unsigned(Command("ping", ID))).command == Command("ping", ID)


@given(st.dictionaries(_text, st.integers() | _text | st.lists(_text, max_size=3), max_size=4), _text)
def test_what_can_be_encoded_can_be_decoded(arguments: dict[str, object], kind: str) -> None:
    command = Command(kind, ID, arguments)  # type: ignore[arg-type]
    try:
        data = unsigned(command)
    except (DataError, OverflowError):
        return
    assert decode_envelope(data).command == command


@given(st.dictionaries(_text, _plain, max_size=4))
def test_an_answer_comes_back_as_it_was(body: dict[str, object]) -> None:
    answer = Answer(ID, body)  # type: ignore[arg-type]
    try:
        data = encode_answer(answer)
    except DataError:
        return
    assert decode_answer(data) == answer


def test_an_error_is_one_printable_line() -> None:
    assert decode_answer(encode_answer(Answer(ID, error="no\x1b[31m such\nbundle"))).error == "no [31m such bundle"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_data_error(data: bytes) -> None:
    for decode in (decode_envelope, decode_answer):
        with pytest.raises(DataError):
            decode(data)


@given(st.data())
def test_changed_bytes_are_another_command_or_a_data_error(data: st.DataObject) -> None:
    good = encode_envelope(encode_content(FULL), "ab" * 12, b"s" * 64)
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_envelope(bytes(changed))
    except DataError:
        return


@pytest.mark.parametrize(
    "body",
    [
        {0: 2, 1: b""},
        {0: 1},
        {0: 1, 1: "text"},
        {0: 1, 1: b"", 2: b"k" * 12},
        {0: 1, 1: b"", 2: b"k", 3: b"s" * 64},
        {0: True, 1: b""},
        [1, 2],
    ],
)
def test_an_envelope_that_is_none_is_refused(body: object) -> None:
    with pytest.raises(DataError):
        decode_envelope(cbor2.dumps(body))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (0, 9),
        (1, "ping\n"),
        (1, ""),
        (1, "x" * 200),
        (2, b"short"),
        (3, "\u202epi"),
        (4, b"boot"),
        (5, -1),
        (5, 2**63),
        (6, -1),
        (6, 1.5),
        (7, {"n": b"bytes"}),
        (7, {"a": {"b": {"c": {}}}}),
        (7, {1: 2}),
        (7, {"text": "a\x00b"}),
        (7, [1]),
    ],
)
def test_a_field_out_of_range_is_refused(key: int, value: object) -> None:
    with pytest.raises(DataError):
        decode_envelope(encode_envelope(cbor2.dumps({0: 1, 1: "ping", 2: bytes(8), key: value})))


def test_sizes_are_bounded() -> None:
    with pytest.raises(DataError, match="larger"):
        decode_envelope(b"x" * (MAX_COMMAND_BYTES + 1))
    with pytest.raises(DataError, match="larger"):
        encode_envelope(b"x" * MAX_COMMAND_BYTES)
    with pytest.raises(DataError, match="larger"):
        encode_answer(Answer(ID, {"text": "x" * MAX_ANSWER_BYTES}))
    for bad in ("", "xyz", ID.upper(), ID + "00"):
        with pytest.raises(DataError, match="id"):
            unsigned(Command("ping", bad))
    assert new_command_id() != new_command_id()
