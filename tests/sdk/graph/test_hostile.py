"""Bytes that are no sound model are refused in one line, with work and memory bounded by their size."""

from __future__ import annotations

import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as s
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeloop.errors import EXIT_REFUSED, RefusedError, UsageError
from edgeloop.graph import Graph
from support.tiny_models import tiny_cnn
from support.whole_schema import while_loop, whole_schema

MODELS = [tiny_cnn(), while_loop(), whole_schema(outside=True)]
FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def read_or_refuse(data: bytes) -> Graph | None:
    """Anything but a Graph or a one-line refusal fails the test."""
    try:
        graph = Graph.read(data)
    except RefusedError as error:
        assert "\n" not in str(error) and error.exit_code == EXIT_REFUSED and error.hint
        return None
    try:
        graph.write()
    except UsageError as error:
        assert "cannot write back" in error.message or "name tensor" in error.message or "tensor" in error.message
    graph.numeric_kind()
    return graph


def pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@FUZZ
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    assert read_or_refuse(data) is None


@FUZZ
@given(st.binary(max_size=300))
def test_random_bytes_under_the_right_identifier(data: bytes) -> None:
    assert read_or_refuse(b"\x08\0\0\0TFL3" + data) is None


@FUZZ
@given(st.sampled_from(MODELS), st.floats(0, 1, exclude_max=True))
def test_truncated_model(model: bytes, share: float) -> None:
    read_or_refuse(model[: int(len(model) * share)])


def test_every_truncation_of_a_model_within_its_tables(digits_tflite: Path) -> None:
    data = digits_tflite.read_bytes()
    for length in [*range(200), len(data) // 2, len(data) - 4000, len(data) - 16]:
        assert read_or_refuse(data[:length]) is None


@FUZZ
@given(st.sampled_from(MODELS), st.data())
def test_changed_bytes(model: bytes, data: st.DataObject) -> None:
    damaged = bytearray(model)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(damaged))


@FUZZ
@given(st.sampled_from(MODELS), st.data())
def test_changed_offsets_and_lengths(model: bytes, data: st.DataObject) -> None:
    """Whole words: offsets, lengths and table positions take values that matter."""
    damaged = bytearray(model)
    words = st.sampled_from([0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, len(model), len(model) - 4])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(model) // 4 - 1)) * 4
        struct.pack_into("<I", damaged, place, data.draw(words | st.integers(0, 0xFFFFFFFF)))
    read_or_refuse(bytes(damaged))


def test_changed_bytes_of_the_digits_model(digits_tflite: Path) -> None:
    data = digits_tflite.read_bytes()
    chance = random.Random(7)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(3):  # what is not weights lies at the end of the file and in its first words
            place = chance.choice([chance.randrange(0, 64), chance.randrange(len(data) - 4000, len(data))])
            damaged[place] = chance.randrange(256)
        read_or_refuse(bytes(damaged))


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", "identifier"), (b"PK\x03\x04" + bytes(40), "identifier"), (b"\x08\0\0\0TFL3", "outside")],
)
def test_what_is_no_model_says_so(data: bytes, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        Graph.read(data)


def test_absent_file_is_wrong_use_not_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        Graph.read(tmp_path / "no.tflite")
    with pytest.raises(UsageError, match="directory"):
        Graph.read(tmp_path)


def refused_with_little_memory(data: bytes, says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError, match=says):
            Graph.read(data)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data) + (8 << 20)
    finally:
        tracemalloc.stop()


def test_vector_that_claims_billions_of_elements() -> None:
    model = bytearray(tiny_cnn())
    shape = np.array([1, 8, 8, 3], np.int32).tobytes()
    struct.pack_into("<I", model, model.find(shape) - 4, 0xFFFFFFF0)
    refused_with_little_memory(bytes(model), "outside")


class _Named:
    """Packs to one table that was written before."""

    def __init__(self, table: Any, offsets: dict[int, int]) -> None:
        self.table, self.offsets = table, offsets

    def Pack(self, builder: Any) -> int:
        if id(self.table) not in self.offsets:
            self.offsets[id(self.table)] = self.table.Pack(builder)
        return self.offsets[id(self.table)]


def repeated(table: Any, count: int) -> list[Any]:
    offsets: dict[int, int] = {}
    return [_Named(table, offsets) for _ in range(count)]


def test_one_subgraph_named_many_times_over() -> None:
    """300 x 1000 tables of 12 bytes in a file of 6 kB: would be read as 300,000 tensors."""
    subgraph = s.SubGraphT(tensors=repeated(s.TensorT(name=b"t"), 1000), inputs=[], outputs=[], operators=[])
    model = s.ModelT(version=3, subgraphs=repeated(subgraph, 300), operatorCodes=[], buffers=[s.BufferT()])
    data = pack(model)
    assert len(data) < 10_000
    refused_with_little_memory(data, "more tables|overlap")


def test_one_long_name_used_by_many_tensors() -> None:
    """1 MB of name in each of 1000 tensors would be 1 GB."""
    tensor = s.TensorT(name=b"n" * (1 << 20))
    subgraph = s.SubGraphT(tensors=repeated(tensor, 1000), inputs=[], outputs=[], operators=[])
    data = pack(s.ModelT(version=3, subgraphs=[subgraph], operatorCodes=[], buffers=[s.BufferT()]))
    refused_with_little_memory(data, "overlap")


def test_huge_shape_costs_nothing() -> None:
    graph = Graph.read(tiny_cnn())
    graph.main.tensors[0].shape = (2**31 - 1,) * 6
    again = Graph.read(graph.write())
    assert again.main.tensors[0].byte_count == 4 * (2**31 - 1) ** 6


def model_with(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "version": 3,
        "operatorCodes": [s.OperatorCodeT()],
        "buffers": [s.BufferT()],
        "subgraphs": [
            s.SubGraphT(
                tensors=[s.TensorT(name=b"x", shape=[1])], inputs=[0], outputs=[0],
                operators=[s.OperatorT(inputs=[0, 0], outputs=[0])],
            )
        ],
    }  # fmt: skip
    return pack(s.ModelT(**{**fields, **changes}))


def subgraph_with(**changes: Any) -> list[Any]:
    tensors = [s.TensorT(name=b"x", shape=[1])]
    fields: dict[str, Any] = {"tensors": tensors, "inputs": [0], "outputs": [0], "operators": []}
    return [s.SubGraphT(**{**fields, **changes})]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (model_with(subgraphs=[]), "no subgraph"),
        (model_with(operatorCodes=[]), "code 0 of 0"),
        (model_with(subgraphs=subgraph_with(inputs=[1])), "tensor 1 of 1"),
        (model_with(subgraphs=subgraph_with(outputs=[-1])), "tensor -1 of 1"),
        (model_with(subgraphs=subgraph_with(operators=[s.OperatorT(inputs=[7], outputs=[0])])), "tensor 7 of 1"),
        (model_with(subgraphs=subgraph_with(tensors=[s.TensorT(name=b"x", buffer=9)])), "buffer 9 of 1"),
        (model_with(subgraphs=subgraph_with(tensors=[s.TensorT(name=b"x", type=99)])), "element type 99"),
        (model_with(metadata=[s.MetadataT(name=b"m", buffer=4)]), "buffer 4 of 1"),
        (model_with(signatureDefs=[s.SignatureDefT(signatureKey=b"k", subgraphIndex=3)]), "subgraph 3 of 1"),
        (
            model_with(signatureDefs=[s.SignatureDefT(signatureKey=b"k", inputs=[s.TensorMapT(b"a", 5)])]),
            "tensor 5 of 1",
        ),
        (
            model_with(signatureDefs=[s.SignatureDefT(signatureKey=b"k", inputs=[s.TensorMapT(b"a", 0)] * 2)]),
            "two arguments of one name",
        ),
        (model_with(buffers=[s.BufferT(), s.BufferT(offset=1 << 40, size=16)]), "outside"),
    ],
)
def test_numbers_that_name_nothing(data: bytes, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        Graph.read(data)


def test_field_of_a_newer_schema_can_be_read_but_not_silently_dropped() -> None:
    """A Model table with an eleventh field; the installed LiteRT knows ten."""
    data = model_with(metadataBuffer=np.array([0], np.int32))
    table = struct.unpack_from("<I", data, 0)[0]
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size, table_size = struct.unpack_from("<HH", data, vtable)
    known = struct.unpack_from(f"<{size // 2 - 2}H", data, vtable + 4)
    offsets = [*known, *[0] * (10 - len(known)), known[0]]
    place = len(data) + -len(data) % 4
    longer = struct.pack(f"<HH{len(offsets)}H", 4 + 2 * len(offsets), table_size, *offsets)
    newer = bytearray(data.ljust(place, b"\0") + longer)
    struct.pack_into("<i", newer, table, table - place)
    graph = Graph.read(bytes(newer))
    assert graph.not_carried == ("Model field 10",)
    with pytest.raises(UsageError, match="Model field 10"):
        graph.write()
