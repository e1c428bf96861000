"""Rules that leave every number as it is: dead and duplicate ops, constants computed ahead, ops that do nothing."""

from __future__ import annotations

import numpy as np

from edgeloop.graph import Graph, Op
from edgeloop.graph.parts import extract, needed_ops
from edgeloop.runtime import open_session
from edgeloop_converters.passes.graph.editing import Editor, is_linear, key_of

_STATEFUL = ("RANDOM", "MULTINOMIAL", "VAR", "ASSIGN", "READ_VARIABLE", "HASHTABLE", "CALL", "WHILE", "IF", "STABLEHLO")
_MOST_FOLDED_VALUES = 1 << 20
_NOT_FOLDED = frozenset({"DEQUANTIZE", "DENSIFY"})
"""These keep the file small on purpose."""


def is_pure(editor: Editor, op: Op) -> bool:
    """Whether it computes the same each time and does nothing else."""
    if op.custom or op.name.startswith(_STATEFUL) or not op.outputs:
        return False
    return not any(i >= 0 and editor.main.tensors[i].is_variable for i in (*op.inputs, *op.intermediates))


def sweep(editor: Editor) -> int:
    """Ops and tensors that lead to no output go. Returns how many ops."""
    main = editor.main
    wanted = list(main.outputs)
    for op in main.ops:
        if not is_pure(editor, op):
            wanted.extend((*op.inputs, *op.outputs))
    needed = {id(op) for op in needed_ops(main.ops, wanted)}
    ops = [op for op in main.ops if id(op) in needed or not is_pure(editor, op)]
    gone = len(main.ops) - len(ops)
    main.ops = ops
    _compact(editor.graph)
    return gone


def _compact(graph: Graph) -> None:
    main = graph.main
    used = {i for op in main.ops for i in (*op.inputs, *op.outputs, *op.intermediates)}
    used.update((*main.inputs, *main.outputs))
    for signature in graph.signatures:
        if signature.subgraph == 0:
            used.update((*signature.inputs.values(), *signature.outputs.values()))
    kept = [i for i, tensor in enumerate(main.tensors) if i in used or tensor.is_variable]
    places = {-1: -1, **{old: new for new, old in enumerate(kept)}}
    main.tensors = [main.tensors[i] for i in kept]
    main.inputs, main.outputs = [places[i] for i in main.inputs], [places[i] for i in main.outputs]
    for op in main.ops:
        op.inputs, op.outputs = [places[i] for i in op.inputs], [places[i] for i in op.outputs]
        op.intermediates = [places[i] for i in op.intermediates]
    for signature in graph.signatures:
        if signature.subgraph == 0:
            signature.inputs = {name: places[i] for name, i in signature.inputs.items()}
            signature.outputs = {name: places[i] for name, i in signature.outputs.items()}


def fold_constants(editor: Editor) -> int:
    """Ops that read constants only are run once, here; the shape of what has a fixed one is known, too."""
    count = 0
    for op in list(editor.main.ops):
        if op.name == "SHAPE" and _shape_is_known(editor, op):
            known = editor.main.tensors[op.outputs[0]]
            known.data = np.array(editor.shape(op.inputs[0]), known.dtype)
            known.shape, known.shape_signature = known.data.shape, None
            editor.remove(op)
            count += 1
            continue
        read = [editor.main.tensors[i] for i in op.inputs if i >= 0]
        made = [editor.main.tensors[i] for i in op.outputs]
        if not read or not all(t.is_constant and not t.raw for t in read) or not is_pure(editor, op):
            continue
        if op.name in _NOT_FOLDED or any(i in editor.main.outputs for i in op.outputs):
            continue
        if sum(t.element_count for t in made) > _MOST_FOLDED_VALUES or any(min(t.shape, default=1) < 1 for t in made):
            continue
        part, _ = extract(editor.graph, [op], [], op.outputs)
        with open_session(part.write(), delegate="cpu") as session:
            session.invoke()
            values = [session.output(i) for i in range(len(made))]
        for tensor, value in zip(made, values, strict=True):
            tensor.data, tensor.shape, tensor.shape_signature = value, value.shape, None
        editor.remove(op)
        count += 1
    return count


def _shape_is_known(editor: Editor, op: Op) -> bool:
    signature = editor.main.tensors[op.inputs[0]].shape_signature
    return op.outputs[0] not in editor.main.outputs and (signature is None or min(signature, default=1) >= 0)


def merge_duplicates(editor: Editor) -> int:
    """Equal constants become one, then ops that do the same to the same."""
    known: dict[tuple[object, ...], int] = {}
    same: dict[int, int] = {}
    for i, tensor in enumerate(editor.main.tensors):
        if tensor.data is None or tensor.raw or tensor.is_variable or tensor.sparsity is not None:
            continue
        if tensor.quantization is not None and tensor.is_quantized:
            continue
        same[i] = known.setdefault((tensor.dtype, tensor.shape, tensor.data.tobytes()), i)
    count = 0
    seen: dict[tuple[object, ...], Op] = {}
    for op in list(editor.main.ops):
        op.inputs = [same.get(i, i) for i in op.inputs]
        if not is_pure(editor, op):
            continue
        twin = seen.setdefault(key_of(op), op)
        if twin is op or any(i in editor.main.outputs for i in op.outputs):
            continue
        moved = dict(zip(op.outputs, twin.outputs, strict=True))
        editor.remove(op)
        for other in editor.main.ops:
            other.inputs = [moved.get(i, i) for i in other.inputs]
        count += 1
    return count


def remove_idle(editor: Editor) -> int:
    """Ops that hand on what they got, and reshapes of reshapes."""
    count = 0
    for op in list(editor.main.ops):
        if op.custom or not op.outputs or not op.inputs:
            continue
        if op.name == "RESHAPE":
            before = editor.maker(op.inputs[0])
            if before is not None and before.name == "RESHAPE":
                op.inputs[0] = before.inputs[0]
                count += 1
        source = _handed_on(editor, op)
        if source is not None and _alike(editor, source, op.outputs[0]) and editor.bypass(op, source):
            count += 1
    return count


def _alike(editor: Editor, source: int, out: int) -> bool:
    a, b = editor.main.tensors[source], editor.main.tensors[out]
    return a.shape == b.shape and a.dtype == b.dtype and a.affine == b.affine and not a.is_constant


def _handed_on(editor: Editor, op: Op) -> int | None:
    source = op.inputs[0]
    how = editor.data(op.inputs[1]) if len(op.inputs) > 1 else None
    if op.name == "RESHAPE" or (op.name == "CONCATENATION" and len(op.inputs) == 1 and is_linear(op)):
        return source
    if op.name == "TRANSPOSE" and how is not None:
        return source if np.asarray(how).tolist() == list(range(np.asarray(how).size)) else None
    if op.name in ("PAD", "MIRROR_PAD", "PADV2") and how is not None:
        return None if np.asarray(how).any() else source
    if op.name in ("MAX_POOL_2D", "AVERAGE_POOL_2D") and is_linear(op):
        ones = all(op.option(n) == 1 for n in ("filterHeight", "filterWidth", "strideH", "strideW"))
        return source if ones else None
    if op.name in ("MUL", "ADD", "SUB", "DIV") and is_linear(op):
        neutral = 0.0 if op.name in ("ADD", "SUB") else 1.0
        for at in (1, 0) if op.name in ("ADD", "MUL") else (1,):
            values = editor.floats(op, at)
            if values is not None and bool((values == neutral).all()):
                return op.inputs[1 - at]
    return None
