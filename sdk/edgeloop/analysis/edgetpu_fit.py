"""How much of a model lies on an Edge TPU, and how much is sent to it at every inference.

The chip has 8 MB for the program, activations and parameters; the compiler caches what fits of the parameters there
and streams the rest. A compiled file says both itself; for others this is an estimate:

- parameters: FULLY_CONNECTED weights lie in groups of 64 rows, each row in steps of 4 and with 8 bytes of its own (a
  published layout; 256 x 256 gives the compiler's 66 KiB). Convolutions were fitted to the compiled models at hand:
  output channels in steps of 32 with 8 bytes each, depthwise weights 6 times: 0.97 to 1.06 of what the compiler made;
- room for them: 1 MB less than the chip has. Logs of the compiler leave 6.1 to 7.9 MB, 7.0 in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from edgeloop.analysis.edgetpu_program import ProgramSize, program_size
from edgeloop.graph import Graph, Op, Subgraph

_RESERVED_BYTES = 1 << 20
_CHANNEL_BYTES = 8
_DENSE_ROWS, _DENSE_COLUMNS, _CONVOLUTION_STEP = 64, 4, 32
_DEPTHWISE_FACTOR = 6


@dataclass(frozen=True)
class Fit:
    """Bytes of parameters. `on_chip_bytes` stay on the chip, `streamed_bytes` go there at every inference.

    is_exact: read from a compiled file rather than estimated.
    """

    sram_bytes: int
    on_chip_bytes: int
    streamed_bytes: int
    is_exact: bool = False


def fit(graph: Graph, taken: Collection[int], sram_bytes: int, size: ProgramSize | None = None) -> Fit:
    """`taken`: the ops of the main subgraph that are mapped. size: what they came to when they were compiled."""
    size = size or program_size(graph)
    if size is not None:
        return Fit(sram_bytes, size.cached_bytes, size.streamed_bytes, is_exact=True)
    needed = sum(_parameter_bytes(graph.main.ops[index], graph.main) for index in taken)
    streamed = max(0, needed - max(0, sram_bytes - _RESERVED_BYTES))
    return Fit(sram_bytes, needed - streamed, streamed)


def _parameter_bytes(op: Op, subgraph: Subgraph) -> int:
    constants = [t for t in subgraph.input_tensors(op) if t is not None and t.is_constant and t.is_quantized]
    if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"):
        return sum(t.byte_count for t in constants)
    weights = next((t for t in constants if len(t.shape) > 1), None)
    if weights is None:
        return 0
    is_depthwise = op.name == "DEPTHWISE_CONV_2D"
    channels = max(1, weights.shape[-1 if is_depthwise else 0])
    each = math.prod(weights.shape) // channels
    if is_depthwise:
        return channels * (each * _DEPTHWISE_FACTOR + _CHANNEL_BYTES)
    if op.name == "FULLY_CONNECTED":
        return _up(channels, _DENSE_ROWS) * (_up(each, _DENSE_COLUMNS) + _CHANNEL_BYTES)
    return _up(channels, _CONVOLUTION_STEP) * each + channels * _CHANNEL_BYTES


def _up(count: int, step: int) -> int:
    return -(-count // step) * step
