"""Models that use parts of the schema which converters rarely write, built with LiteRT's object API, not with Graph."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as s

from edgeloop.graph import Graph, Op, Subgraph, Tensor, make_options

_OUTSIDE = 0x01010101
"""Stands for an offset that is known only when the flatbuffer has been written."""


def _made(table: str, **fields: Any) -> Any:
    made = getattr(s, table + "T")()
    for name, value in fields.items():
        assert hasattr(made, name), (table, name)
        setattr(made, name, value)
    return made


def _ints(*values: int) -> Any:
    return np.array(values, np.int32)


def whole_schema(*, outside: bool) -> bytes:
    """Sparse, int4, string, variable, per-channel, blockwise and external tensors; custom and StableHLO ops; old and
    new metadata.

    It does not run. `outside`: one constant and the custom options lie behind the flatbuffer.
    """
    hidden = bytes(range(1, 65))
    sparsity = _made(
        "SparsityParameters", traversalOrder=_ints(0, 1), blockMap=_ints(0),
        dimMetadata=[
            _made("DimensionMetadata", denseSize=4),
            _made(
                "DimensionMetadata", format=1, arraySegmentsType=2, arrayIndicesType=3,
                arraySegments=_made("Uint16Vector", values=np.array([0, 2, 3], np.uint16)),
                arrayIndices=_made("Uint8Vector", values=np.array([1, 0, 2], np.uint8)),
            ),
        ],
    )  # fmt: skip
    per_channel = _made(
        "QuantizationParameters", scale=np.array([0.5, 0.25], np.float32), zeroPoint=np.array([0, 3], np.int64),
        min=np.array([-1, -2], np.float32), max=np.array([1, 2], np.float32), quantizedDimension=1,
    )  # fmt: skip
    blockwise = _made(
        "QuantizationParameters",
        detailsType=2,
        details=_made("BlockwiseQuantization", scales=3, zeroPoints=-1, blockSize=32),
    )
    custom_details = _made(
        "QuantizationParameters", detailsType=1, details=_made("CustomQuantization", custom=np.array([7, 8], np.uint8))
    )
    int8, int4 = s.TensorType.INT8, s.TensorType.INT4
    tensors = [
        _made("Tensor", name=b"x", shape=_ints(1, 4), shapeSignature=_ints(-1, 4), hasRank=True),
        _made("Tensor", name=b"sparse", shape=_ints(4, 4), buffer=1, sparsity=sparsity),
        _made("Tensor", name=b"int4", shape=_ints(3), type=int4, buffer=2),
        _made("Tensor", name=b"int4 again", shape=_ints(3), type=int4, buffer=2),
        _made("Tensor", name=b"text", shape=_ints(2), type=s.TensorType.STRING, buffer=3),
        _made("Tensor", name=b"state", shape=_ints(2), isVariable=True),
        _made("Tensor", name=b"per channel", shape=_ints(2, 2), type=int8, buffer=4, quantization=per_channel),
        _made("Tensor", name=b"blocks", shape=_ints(32), type=int4, quantization=blockwise),
        _made("Tensor", name=b"custom", shape=_ints(1), type=s.TensorType.UINT8, quantization=custom_details),
        _made("Tensor", name=b"elsewhere", shape=_ints(8), externalBuffer=5),
        _made(
            "Tensor", name=b"variant", type=s.TensorType.VARIANT,
            variantTensors=[_made("VariantSubType", shape=_ints(2), type=s.TensorType.INT32, hasRank=True)],
        ),
        _made("Tensor", name=b"hidden", shape=_ints(16), buffer=5),
        _made("Tensor", name=b"not utf-8 \xff\xfe", shape=_ints(), quantization=_made("QuantizationParameters")),
        _made("Tensor", name=b"no elements", shape=_ints(0), type=s.TensorType.INT32, buffer=6),
        _made("Tensor", name=b"does not fit", shape=_ints(100), buffer=7),
        _made("Tensor", name=b"bfloat16", shape=_ints(2), type=s.TensorType.BFLOAT16, buffer=8),
        _made("Tensor", name=b"bool", shape=_ints(3), type=s.TensorType.BOOL, buffer=9),
        _made("Tensor", name=b"int2", shape=_ints(5), type=s.TensorType.INT2, buffer=10),
    ]  # fmt: skip
    operators = [
        _made(
            "Operator", opcodeIndex=2, inputs=_ints(0, -1, 5), outputs=_ints(11), intermediates=_ints(6, -1),
            mutatingVariableInputs=np.array([False, False, True]), debugMetadataIndex=4, customOptionsFormat=0,
            **({"largeCustomOptionsOffset": _OUTSIDE, "largeCustomOptionsSize": 64} if outside
               else {"customOptions": np.frombuffer(hidden, np.uint8)}),
        ),
        _made(
            "Operator", opcodeIndex=1, inputs=_ints(0), outputs=_ints(12),
            builtinOptions2Type=s.BuiltinOptions2.StableHLOCompositeOptions, builtinOptions2=_made(
                "StableHLOCompositeOptions", name=b"odml.thing", decompositionSubgraphIndex=1, version=2,
                compositeAttributes=np.array([1, 2, 3], np.uint8),
            ),
        ),
        _made(
            "Operator", opcodeIndex=0, inputs=_ints(0), outputs=_ints(12),
            builtinOptionsType=s.BuiltinOptions.ReshapeOptions, builtinOptions=_made("ReshapeOptions", newShape=_ints(1,
            4)),
        ),
    ]  # fmt: skip
    datas = [
        None, np.array([1, 2, 3], np.float32).tobytes(), b"\x21\x0f", b"\x02\0\0\0\x0c\0\0\0\x0d\0\0\0\x0e\0\0\0ab",
        b"\x01\x02\x03\x04", hidden, b"", b"\x00\x00\x80\x3f", b"\x80\x3f\x00\x40", b"\x01\x00\x01", b"\xe4\x03",
        b"1.14.0", b"first", b"second", b"old style",
    ]  # fmt: skip
    buffers = [_made("Buffer", data=None if d is None else np.frombuffer(d, np.uint8)) for d in datas]
    if outside:
        buffers[5] = _made("Buffer", offset=_OUTSIDE, size=64)
    model = _made(
        "Model", version=3, description="Größe".encode(),
        operatorCodes=[
            _made("OperatorCode", deprecatedBuiltinCode=22, version=1),  # written before there were more than 127 codes
            _made("OperatorCode", deprecatedBuiltinCode=127, builtinCode=206, version=1),
            _made("OperatorCode", deprecatedBuiltinCode=32, builtinCode=32, customCode=b"my-op", version=3),
        ],
        subgraphs=[
            _made(
                "SubGraph", name=b"main", tensors=tensors, inputs=_ints(0), outputs=_ints(12, 12),
                operators=operators, debugMetadataIndex=2,
            ),
            _made(
                "SubGraph", tensors=[_made("Tensor", name=b"shares", shape=_ints(2, 2), type=int8, buffer=4)],
                inputs=_ints(), outputs=_ints(0), operators=[],
            ),
        ],
        buffers=buffers,
        metadata=[
            _made("Metadata", name=b"min_runtime_version", buffer=11),
            _made("Metadata", name=b"twice", buffer=12),
            _made("Metadata", name=b"twice", buffer=13),
            *([_made("Metadata", name=b"buffer_location", buffer=12)] if outside else []),
        ],
        metadataBuffer=_ints(14),
        signatureDefs=[
            _made(
                "SignatureDef", signatureKey=b"second", subgraphIndex=1, inputs=[],
                outputs=[_made("TensorMap", name=b"y", tensorIndex=0)],
            )
        ],
        externalBufferGroups=[_made("ExternalBufferGroup", name=b"weights.bin")],
        externalBuffers=[_made("ExternalBuffer", id=5, group=0, offset=128, length=32, packing=b"dense")],
    )  # fmt: skip
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    flat = bytes(builder.Output())
    place = _OUTSIDE.to_bytes(8, "little")
    assert flat.count(place) == (2 if outside else 0)
    return flat.replace(place, len(flat).to_bytes(8, "little")) + (hidden if outside else b"")


def while_loop() -> bytes:
    """x [1] is doubled while it is below 10: a WHILE op with two more subgraphs. 3 -> 12."""

    def x() -> Tensor:
        return Tensor("x", (1,))

    limit = Tensor("limit", (), data=np.array(10, np.float32))
    condition = Op("LESS", [0, 1], [2], make_options("LessOptions"))
    body = Op("ADD", [0, 0], [1], make_options("AddOptions"))
    loop = Op("WHILE", [0], [1], make_options("WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2))
    graph = Graph(
        [
            Subgraph("main", [x(), Tensor("y", (1,))], [0], [1], [loop]),
            Subgraph("condition", [x(), limit, Tensor("go on", (1,), "bool")], [0], [2], [condition]),
            Subgraph("body", [x(), Tensor("doubled", (1,))], [0], [1], [body]),
        ]
    )
    graph.ensure_signature()
    return graph.write()
