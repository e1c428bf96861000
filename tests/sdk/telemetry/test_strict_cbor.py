"""The quick door of the strict reader lets in what its gate lets in, and nothing else."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop.telemetry.wire import strict_cbor

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats(allow_nan=False) | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=9) | st.integers(0, 300), inner),
    max_leaves=20,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(cbor2.dumps(draw(PLAIN)))
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, max(len(data) - 1, 0)))
        byte = draw(
            st.sampled_from([0, 0x18, 0x1B, 0x58, 0x80, 0x98, 0xA1, 0xC1, 0xD8, 0xF4, 0xF6, 0xF9, 0xFB, 0x9F, 0xFF])
        )
        data[position : position + draw(st.integers(0, 1))] = bytes([byte]) if draw(st.booleans()) else b""
    return bytes(data)


def through_the_gate_alone(data: bytes) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_cbor, "_plain_items", lambda _data: 0)
        return strict_cbor.loads(data, what="report", max_bytes=10_000, max_items=200)


@settings(max_examples=500, deadline=None)
@given(damaged())
@example(bytes.fromhex("a2010201f6"))  # a key twice
@example(bytes.fromhex("a1f501"))  # true for a key
@example(bytes.fromhex("a1fb3ff000000000000001"))  # a float for a key
@example(bytes.fromhex("a1410101"))  # bytes for a key
@example(bytes.fromhex("fb7ff8000000000000"))  # NaN
@example(bytes.fromhex("8101" * 2))  # something behind it
@example(bytes.fromhex("1b00000000ffffffff"))  # not the shortest form
@example(b"\x81" * 90 + b"\x01")  # nested deep
@example(b"\x98\xc8" + b"\x01" * 200)  # too many items
def test_both_doors_give_the_same_verdict_value_and_reason(data: bytes) -> None:
    try:
        wanted = through_the_gate_alone(data)
    except DataError as refused:
        with pytest.raises(DataError) as caught:
            strict_cbor.loads(data, what="report", max_bytes=10_000, max_items=200)
        assert caught.value.message == refused.message
    else:
        found = strict_cbor.loads(data, what="report", max_bytes=10_000, max_items=200)
        assert repr(found) == repr(wanted)
