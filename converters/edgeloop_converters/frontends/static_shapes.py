"""A .tflite whose sizes are free, made static: inputs get the shapes asked for, and what follows from them is fixed.

The model runs once, on zeros, with its new input shapes; every tensor then has its true shape, and what was computed
from shapes alone (SHAPE, and the arithmetic behind it) has the value that it will always have: it becomes a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeloop.errors import DataError, EdgeloopError, UsageError
from edgeloop.graph import Graph, Subgraph
from edgeloop.runtime import Session, open_session
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.io_names import input_names

_COMPUTED_FROM_SHAPES = ("int32", "int64", "bool")
Sizes = Mapping[int, tuple[int, ...]]


def settle_free_sizes(graph: Graph, given: GivenShape, batch: int, source: Path) -> tuple[str, ...]:
    """Fix what `given` says of the inputs, in place. Returns notes; inputs that stay free are left as they are.

    Raises UsageError for a shape that the model does not have or cannot run with.
    """
    names = input_names(graph)
    sizes: dict[int, tuple[int, ...]] = {}
    is_free = False
    for name, index in zip(names, graph.main.inputs, strict=True):
        tensor = graph.main.tensors[index]
        declared = tensor.shape_signature if tensor.shape_signature is not None else tensor.shape
        dims = [None if d < 0 else int(d) for d in declared]
        settled = given.settle(name, dims, batch)
        if None not in settled:
            sizes[index] = tuple(int(d) for d in settled if d is not None)
            is_free = is_free or (None in dims and sizes[index] != tensor.shape)
    given.check_used(names)
    if not is_free or len(sizes) < len(names):
        return ()
    if len(graph.subgraphs) > 1:
        raise UsageError(
            f"{source}: its sizes are free and it holds control flow", hint="export it with a fixed input shape"
        )
    folded = _make_static(graph, sizes, source)
    shown = ", ".join(f"{name} {'x'.join(map(str, sizes[i][1:]))}" for name, i in zip(names, sizes, strict=True))
    computed = f"; {folded} ops that computed shapes are constants now" if folded else ""
    return (f"free sizes are fixed: {shown}{computed}",)


def _make_static(graph: Graph, sizes: Sizes, source: Path) -> int:
    """How many ops became constants."""
    main = graph.main
    for index, shape in sizes.items():
        main.tensors[index].shape, main.tensors[index].shape_signature = shape, None
    try:
        with open_session(graph.write(), delegate="cpu", keep_tensors=True) as session:
            session.run(*(np.zeros(info.shape, info.dtype) for info in session.inputs))
            folded = _fold(main, session)
            for info in session.tensors():
                if info.index < len(main.tensors) and not main.tensors[info.index].is_constant:
                    main.tensors[info.index].shape = info.shape
                    main.tensors[info.index].shape_signature = None
    except EdgeloopError as error:
        shown = ", ".join("x".join(map(str, shape[1:])) for shape in sizes.values())
        raise UsageError(f"{source}: cannot run with --shape {shown}: {error.message}", hint=error.hint) from error
    return folded


def _fold(main: Subgraph, session: Session) -> int:
    """Ops whose outputs depend on nothing but shapes are taken out; what others read of them becomes constant."""
    known: set[int] = set()
    kept = []
    for op in main.ops:
        inputs = [i for i in op.inputs if i >= 0]
        from_shapes = op.name == "SHAPE" or (
            any(i in known for i in inputs) and all(i in known or main.tensors[i].is_constant for i in inputs)
        )
        is_number = all(main.tensors[o].dtype in _COMPUTED_FROM_SHAPES for o in op.outputs)
        is_output = any(o in main.outputs for o in op.outputs)
        if from_shapes and is_number and not is_output:
            known.update(op.outputs)
        else:
            kept.append(op)
    for index in {i for op in kept for i in op.inputs if i in known}:
        try:
            value = session.tensor(index)
        except DataError as error:
            raise UsageError(f"tensor '{main.tensors[index].name}' has no value that could be kept") from error
        main.tensors[index].data, main.tensors[index].shape = value, tuple(value.shape)
        main.tensors[index].shape_signature = None
    folded = len(main.ops) - len(kept)
    main.ops = kept
    return folded
