"""Float inputs that only choose rows of a table become int32: as int8 codes they would choose others.

Keras' `Embedding` behind an `Input` without a dtype is such a model: float32, cast to int32 at once.
"""

from __future__ import annotations

from edgeloop.graph import Graph


def take_whole_numbers(graph: Graph) -> tuple[int, ...]:
    """Inputs of the main subgraph (tensors) that were changed. Whole numbers give the same answers as before."""
    main = graph.main
    changed = []
    for index in main.inputs:
        tensor = main.tensors[index]
        readers = [op for op in main.ops if index in op.inputs]
        casts = [op for op in readers if op.name == "CAST" and main.tensors[op.outputs[0]].dtype == "int32"]
        results = {op.outputs[0] for op in casts}
        if tensor.dtype != "float32" or not casts or len(casts) < len(readers) or results & set(main.outputs):
            continue
        tensor.dtype = "int32"
        main.ops = [op for op in main.ops if op not in casts]
        for op in main.ops:
            op.inputs = [index if i in results else i for i in op.inputs]
        changed.append(index)
    return tuple(changed)
