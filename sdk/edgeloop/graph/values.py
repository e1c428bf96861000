"""A model as editable values: tensors, operators, subgraphs, signatures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine
from edgeloop.graph.dtypes import Array, byte_count, element_count

NO_TENSOR = -1
"""In `Op.inputs`: an optional input that is not given."""


def _floats() -> npt.NDArray[np.float32]:
    return np.zeros(0, np.float32)


def _integers() -> npt.NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass
class Quantization:
    """real = scale * (code - zero_point). One scale: per tensor; more: one per index of axis `dimension`.

    `scale` float32 [n], `zero_point` int64 [n], `minimum` and `maximum` float32 [n] (ranges some converters leave;
    kernels ignore them). `details`: LiteRT's object for blockwise, multi-axis or custom quantization.
    """

    scale: npt.NDArray[np.float32] = field(default_factory=_floats)
    zero_point: npt.NDArray[np.int64] = field(default_factory=_integers)
    dimension: int = 0
    minimum: npt.NDArray[np.float32] = field(default_factory=_floats)
    maximum: npt.NDArray[np.float32] = field(default_factory=_floats)
    details: object | None = None

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int = 0) -> Quantization:
        return cls(np.array([scale], np.float32), np.array([zero_point], np.int64))


@dataclass
class Tensor:
    """One tensor. `shape` is what memory is planned for; `shape_signature`, where given, has -1 for what may vary.

    `dtype` is a name of `edgeloop.graph.dtypes.ELEMENT_TYPES`. `data` makes it a constant: an array of `shape`,
    read-only where it came from a file (replace it, never write into it: other tensors and graphs may share it). `raw`
    says that `data` are the buffer's bytes as they are, uint8 [n]: strings, sparse tensors, and what does not fit its
    shape.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: Array | None = None
    quantization: Quantization | None = None
    shape_signature: tuple[int, ...] | None = None
    is_variable: bool = False
    raw: bool = False
    has_rank: bool = False
    sparsity: object | None = None
    variant_tensors: list[object] | None = None
    external_buffer: int = 0

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def is_quantized(self) -> bool:
        """Whether codes stand for real values; an empty quantization table does not count."""
        q = self.quantization
        return q is not None and (q.scale.size > 0 or q.details is not None)

    @property
    def is_per_channel(self) -> bool:
        return self.quantization is not None and self.quantization.scale.size > 1

    @property
    def affine(self) -> Affine:
        """Per-tensor scale and zero point; `Affine()` where there are none or one per channel."""
        q = self.quantization
        if q is None or q.scale.size != 1:
            return Affine()
        return Affine(float(q.scale[0]), int(q.zero_point[0]) if q.zero_point.size else 0)

    @property
    def element_count(self) -> int:
        return element_count(self.shape)

    @property
    def byte_count(self) -> int:
        """Bytes of the dense tensor, in memory and in the file."""
        return byte_count(self.dtype, self.shape)

    @property
    def is_static(self) -> bool:
        return min(self.shape_signature or (), default=0) >= 0 and min(self.shape, default=0) >= 0


@dataclass
class Op:
    """One operator. `name` is the builtin's name ("CONV_2D"), or with `custom` the custom operator's code.

    `inputs` and `outputs` index the subgraph's tensors; -1 in `inputs` is an optional input not given. `options` is
    LiteRT's own object (`Conv2DOptionsT`), see `make_options`.
    """

    name: str
    inputs: list[int]
    outputs: list[int]
    options: Any = None
    version: int = 1
    custom: bool = False
    custom_options: bytes | None = None
    custom_options_format: int = 0
    intermediates: list[int] = field(default_factory=list)
    mutating_variable_inputs: list[bool] = field(default_factory=list)
    debug_metadata_index: int = -1

    def option(self, name: str, default: int = 0) -> int:
        """An integer field of the options by LiteRT's name ("strideH"); `default` without options."""
        value = getattr(self.options, name, default)
        return int(value) if isinstance(value, int) else default


@dataclass
class Signature:
    """A named entry point. `inputs` and `outputs`: argument name -> index of a tensor of `subgraph`, in order."""

    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass
class Subgraph:
    """Tensors and the operators over them, in the order in which they run."""

    name: str
    tensors: list[Tensor]
    inputs: list[int]
    outputs: list[int]
    ops: list[Op]
    debug_metadata_index: int = -1

    def tensor_by_name(self, name: str) -> Tensor:
        """The first tensor of that name. KeyError where there is none."""
        return self.tensors[self.index_of(name)]

    def index_of(self, name: str) -> int:
        """Index of the first tensor of that name. KeyError where there is none."""
        for index, tensor in enumerate(self.tensors):
            if tensor.name == name:
                return index
        raise KeyError(name)

    def producers(self) -> dict[int, int]:
        """Tensor index -> index of the op that writes it. Inputs, constants and variables are not in it."""
        return {tensor: index for index, op in enumerate(self.ops) for tensor in op.outputs}

    def consumers(self) -> dict[int, list[int]]:
        """Tensor index -> indices of the ops that read it, in order; each op once."""
        readers: dict[int, list[int]] = {}
        for index, op in enumerate(self.ops):
            for tensor in dict.fromkeys(op.inputs):
                if tensor != NO_TENSOR:
                    readers.setdefault(tensor, []).append(index)
        return readers

    def constant(self, index: int) -> Array | None:
        """Data of tensor `index`; None for -1 and for tensors that are computed."""
        return None if index == NO_TENSOR else self.tensors[index].data

    def input_tensors(self, op: Op) -> list[Tensor | None]:
        """The op's inputs as tensors; None for an optional one not given."""
        return [None if i == NO_TENSOR else self.tensors[i] for i in op.inputs]

    def output_tensors(self, op: Op) -> list[Tensor]:
        return [self.tensors[i] for i in op.outputs if i != NO_TENSOR]

    def add_tensor(self, tensor: Tensor) -> int:
        """Append and return the index to use in `Op.inputs`."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1
