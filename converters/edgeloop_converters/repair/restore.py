"""Ops of a quantized model back in float, in the file itself: float kernels between DEQUANTIZE and QUANTIZE.

The other ops keep their codes, scales and refined constants, and a candidate costs milliseconds instead of the packer's
half second. Tensors between two restored ops stay float; the border is only where codes go on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from edgeloop.graph import NO_TENSOR, Graph, Op, Subgraph, Tensor, make_options

BORDERS = frozenset({"QUANTIZE", "DEQUANTIZE"})
_CODES = frozenset({"int8", "uint8", "int16"})


def find_twins(float_graph: Graph, graph: Graph) -> dict[int, Op]:
    """Index of a quantized op in the main subgraph -> the float op it came from.

    By the name of the first output; only ops of the same kind whose output holds codes.
    """
    by_output = {float_graph.main.tensors[op.outputs[0]].name: op for op in float_graph.main.ops if op.outputs}
    found: dict[int, Op] = {}
    for index, op in enumerate(graph.main.ops):
        if op.name in BORDERS or op.custom or not op.outputs:
            continue
        twin = by_output.get(graph.main.tensors[op.outputs[0]].name)
        if twin is None or (twin.name, len(twin.inputs), len(twin.outputs)) != (
            op.name,
            len(op.inputs),
            len(op.outputs),
        ):
            continue
        if graph.main.tensors[op.outputs[0]].dtype in _CODES:
            found[index] = twin
    return found


def restore(
    graph: Graph,
    float_graph: Graph,
    ops: Collection[int],
    *,
    keep_weights: bool = False,
    keep_io: bool = False,
) -> Graph:
    """A new graph in which `ops` (indices of `graph`'s main subgraph, all of them in `find_twins`) compute in float.

    A restored op's output takes its plain name in float; codes made of it for other ops are called NAME_int8.
    keep_weights: weights stay int8 and are unpacked when the model is loaded: no more bytes, but their error stays.
    keep_io: an output of the model keeps its codes; else it becomes float where its op is restored.
    """
    result = graph.copy()
    return _Restorer(result, float_graph, find_twins(float_graph, graph), frozenset(ops), keep_weights, keep_io).run()


class _Restorer:
    def __init__(
        self,
        graph: Graph,
        float_graph: Graph,
        twins: Mapping[int, Op],
        ops: frozenset[int],
        keep_weights: bool,
        keep_io: bool,
    ) -> None:
        self._graph, self._main, self._floats = graph, graph.main, float_graph.main
        self._twins, self._chosen = twins, ops
        self._keep_weights, self._keep_io = keep_weights, keep_io
        self._producers = graph.main.producers()
        self._readers = graph.main.consumers()
        self._float_of: dict[int, int] = {}
        self._constants: dict[tuple[int, int], int] = {}
        self._ops: list[Op] = []
        self._names = {t.name for t in graph.main.tensors}

    def run(self) -> Graph:
        for index, op in enumerate(self._main.ops):
            if index in self._chosen:
                self._restore(index, op)
            elif not self._is_undone(op):
                self._ops.append(op)
        read = {*self._main.outputs, *(i for op in self._ops for i in op.inputs)}
        self._main.ops = [op for op in self._ops if op.name not in BORDERS or read & set(op.outputs)]
        drop_unused_tensors(self._graph)
        return self._graph

    def _restore(self, index: int, op: Op) -> None:
        twin = self._twins[index]
        inputs = [self._operand(op, position, source) for position, source in enumerate(twin.inputs)]
        outputs = [self._as_float_output(codes) for codes in op.outputs]
        self._ops.append(replace(twin, inputs=inputs, outputs=outputs))
        for codes in op.outputs:
            if self._needs_codes(codes):
                self._ops.append(_border("QUANTIZE", self._float_of[codes], codes, self._main))

    def _operand(self, op: Op, position: int, source: int) -> int:
        """The float tensor at an input of a restored op. source: what the float op reads there."""
        if source == NO_TENSOR:
            return NO_TENSOR
        constant = self._floats.tensors[source]
        if not constant.is_constant:
            return self._float(op.inputs[position])
        codes = op.inputs[position]
        packed = self._main.tensors[codes]
        if self._keep_weights and packed.is_constant and packed.dtype == "int8" and packed.is_quantized:
            return self._unpacked(codes)
        key = (-1, source)
        if key not in self._constants:
            if packed.dtype == constant.dtype:  # shapes and axes are the same in both
                self._constants[key] = codes
            else:
                self._constants[key] = self._add(replace(constant, name=f"{constant.name}_float"))
        return self._constants[key]

    def _unpacked(self, codes: int) -> int:
        key = (codes, -1)
        if key not in self._constants:
            packed = self._main.tensors[codes]
            self._constants[key] = self._add(Tensor(f"{packed.name}_float", packed.shape))
            self._ops.append(_border("DEQUANTIZE", codes, self._constants[key], self._main))
        return self._constants[key]

    def _float(self, index: int) -> int:
        """The float form of an activation: its own, what it was quantized from, or a DEQUANTIZE before this op."""
        tensor = self._main.tensors[index]
        if tensor.dtype not in _CODES or not tensor.is_quantized:
            return index
        if index not in self._float_of:
            before = self._producers.get(index)
            quantize = None if before is None else self._main.ops[before]
            if quantize is not None and quantize.name == "QUANTIZE":
                source = self._main.tensors[quantize.inputs[0]]
                if source.dtype == "float32":
                    return quantize.inputs[0]
            self._float_of[index] = self._add(Tensor(f"{tensor.name}_float", tensor.shape))
            self._ops.append(_border("DEQUANTIZE", index, self._float_of[index], self._main))
        return self._float_of[index]

    def _as_float_output(self, codes: int) -> int:
        tensor = self._main.tensors[codes]
        plain = tensor.name
        tensor.name = self._free(f"{plain}_{tensor.dtype}")
        made = self._main.add_tensor(Tensor(plain, tensor.shape, shape_signature=tensor.shape_signature))
        self._float_of[codes] = made
        for reader in self._readers.get(codes, []):
            op = self._main.ops[reader]
            if op.name == "DEQUANTIZE" and self._main.tensors[op.outputs[0]].dtype == "float32":
                self._replace(op.outputs[0], made)
        if codes in self._main.outputs and not self._keep_io:
            self._as_output(codes, made)
        return made

    def _is_undone(self, op: Op) -> bool:
        """A DEQUANTIZE whose result a restored op gives itself."""
        return op.name == "DEQUANTIZE" and op.inputs[0] in self._float_of and op.outputs[0] in self._float_of

    def _needs_codes(self, codes: int) -> bool:
        if codes in self._main.outputs:
            return True
        readers = [r for r in self._readers.get(codes, []) if r not in self._chosen]
        return any(not self._is_undone(self._main.ops[r]) for r in readers)

    def _replace(self, old: int, new: int) -> None:
        """Readers of the float tensor `old`, which a DEQUANTIZE made, read `new`."""
        self._float_of[old] = new
        for op in self._main.ops:
            op.inputs = [new if i == old else i for i in op.inputs]
        self._as_output(old, new)

    def _as_output(self, old: int, new: int) -> None:
        self._main.outputs = [new if i == old else i for i in self._main.outputs]
        for signature in self._graph.signatures:
            if signature.subgraph == 0:
                signature.outputs = {k: new if v == old else v for k, v in signature.outputs.items()}

    def _add(self, tensor: Tensor) -> int:
        tensor.name = self._free(tensor.name)
        return self._main.add_tensor(tensor)

    def _free(self, name: str) -> str:
        candidate, number = name, 0
        while candidate in self._names:
            number += 1
            candidate = f"{name}_{number}"
        self._names.add(candidate)
        return candidate


def drop_unused_tensors(graph: Graph) -> None:
    """Remove tensors of the main subgraph that nothing reads or writes, in place."""
    main = graph.main
    used = {*main.inputs, *main.outputs}
    for op in main.ops:
        used.update(op.inputs, op.outputs, op.intermediates)
    for signature in graph.signatures:
        if signature.subgraph == 0:
            used.update(signature.inputs.values(), signature.outputs.values())
    kept = [i for i in range(len(main.tensors)) if i in used]
    new = {old: place for place, old in enumerate(kept)} | {NO_TENSOR: NO_TENSOR}
    main.tensors = [main.tensors[i] for i in kept]
    main.inputs = [new[i] for i in main.inputs]
    main.outputs = [new[i] for i in main.outputs]
    for op in main.ops:
        op.inputs = [new[i] for i in op.inputs]
        op.outputs = [new[i] for i in op.outputs]
        op.intermediates = [new[i] for i in op.intermediates]
    for signature in graph.signatures:
        if signature.subgraph == 0:
            signature.inputs = {k: new[i] for k, i in signature.inputs.items()}
            signature.outputs = {k: new[i] for k, i in signature.outputs.items()}


def _border(name: str, source: int, result: int, main: Subgraph) -> Op:
    version = 2 if name == "DEQUANTIZE" and main.tensors[source].dtype == "int8" else 1
    options = make_options("QuantizeOptions" if name == "QUANTIZE" else "DequantizeOptions")
    return Op(name, [source], [result], options, version=version)
