"""What one delegate makes of a whole model: where it begins and ends, what crosses, what fits, what to change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeloop.analysis.borders import Borders, find_borders
from edgeloop.analysis.edgetpu_fit import Fit, fit
from edgeloop.analysis.edgetpu_program import ProgramSize
from edgeloop.analysis.rewrites import Rewrite, rewrites
from edgeloop.graph import Graph, Op, Subgraph
from edgeloop.graph.naming import printable
from edgeloop.targets import Target

_EDGETPU_SRAM_BYTES = 8 << 20
_FLAT_BYTES = 256 << 10
"""Above this, tensors of one row ([1, boxes, classes]) were left on the CPU in some logs, and mapped in others."""
_LSTM_INPUTS = 900
"""Features per step from which a published compilation failed."""


@dataclass(frozen=True)
class OpOff:
    """An op that a delegate does not take, and why."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True)
class Preflight:
    """Of one delegate. `first_off`: None where it takes all ops. `ends_at`: where an Edge TPU's one program ends first;
    ops off before that stand in front. `fit`: of parameters, for a chip with memory of its own.
    `disagreements`: predictions that what really ran did not confirm.
    """

    first_off: OpOff | None
    ends_at: OpOff | None
    borders: Borders
    rewrites: tuple[Rewrite, ...]
    fit: Fit | None = None
    warnings: tuple[str, ...] = ()
    disagreements: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As `edgeloop analyze --json` has it under the delegate's name."""
        borders = self.borders
        plain: dict[str, Any] = {
            "first_off": None if self.first_off is None else dict(vars(self.first_off)),
            "ends_at": None if self.ends_at is None else dict(vars(self.ends_at)),
            "borders": borders.conversions,
            "requantizations": borders.requantizations,
            "partitions": borders.partitions,
            "crossings": borders.crossings,
            "entering_bytes": borders.entering_bytes,
            "leaving_bytes": borders.leaving_bytes,
            "rewrites": [{"text": one.text, "ops": list(one.ops)} for one in self.rewrites],
            "warnings": list(self.warnings),
            "disagreements": list(self.disagreements),
        }
        if self.fit is not None:
            plain |= {
                "sram_bytes": self.fit.sram_bytes,
                "on_chip_bytes": self.fit.on_chip_bytes,
                "streamed_bytes": self.fit.streamed_bytes,
                "is_exact": self.fit.is_exact,
            }
        return plain


def preflight(
    graph: Graph,
    target: Target | None,
    delegate: str,
    reasons: Sequence[str],
    disagreements: Sequence[str] = (),
    size: ProgramSize | None = None,
) -> Preflight:
    """`reasons`: for each op of the main subgraph why the delegate does not take it, "" where it does. size: of its
    program, where one was made.
    """
    taken = frozenset(index for index, reason in enumerate(reasons) if not reason)
    suggested = rewrites(graph, delegate, reasons)
    borders = find_borders(graph.main, taken)
    computed = {tensor for index in taken for tensor in graph.main.ops[index].outputs}
    off = [OpOff(i, printable(graph.main.ops[i].name), reason) for i, reason in enumerate(reasons) if reason]
    first_off = next(iter(off), None)
    ends_at = next((one for one in off if not computed.isdisjoint(graph.main.ops[one.index].inputs)), None)
    if delegate != "edgetpu":
        return Preflight(first_off, None, borders, suggested, disagreements=tuple(disagreements))
    chip = target.accelerator.sram_bytes if target is not None and target.accelerator else _EDGETPU_SRAM_BYTES
    room = fit(graph, taken, chip, size)
    return Preflight(
        first_off, ends_at, borders, (*suggested, *_smaller(room)), room, _too_large(graph.main, taken, chip),
        tuple(disagreements),
    )  # fmt: skip


def _smaller(room: Fit) -> tuple[Rewrite, ...]:
    if room.streamed_bytes < 64 << 10:
        return ()
    share = room.streamed_bytes / (room.on_chip_bytes + room.streamed_bytes)
    return (
        Rewrite(
            f"parameters: {share:.0%} of them do not fit on the chip and are sent at every inference; a narrower model "
            "that keeps within it is faster",
            (),
        ),
    )


def _too_large(main: Subgraph, taken: frozenset[int], sram_bytes: int) -> tuple[str, ...]:
    """Ops on which the compiler may give up altogether, or that it may leave, which no rule can tell."""
    large: list[tuple[int, str]] = []
    flat: list[tuple[int, str]] = []
    for index in sorted(taken):
        op = main.ops[index]
        name = f"op {index} ({printable(op.name)})"
        size = _activation_bytes(op, main)
        if size > sram_bytes:
            large.append((size, f"{name} has {size / 2**20:.1f} MiB of activations: the compiler may give up"))
        elif op.name == "UNIDIRECTIONAL_SEQUENCE_LSTM" and main.tensors[op.inputs[0]].shape[-1] > _LSTM_INPUTS:
            large.append((size, f"{name} has more than {_LSTM_INPUTS} inputs a step: the compiler may give up"))
        flat += [
            (t.byte_count, f"{name} makes {list(t.shape)} in one row: the compiler may leave it, or give up")
            for t in main.output_tensors(op)
            if t.byte_count > _FLAT_BYTES and math.prod(t.shape[:-2]) == 1
        ]
    return tuple(max(found)[1] for found in (large, flat) if found)


def _activation_bytes(op: Op, main: Subgraph) -> int:
    tensors = [t for t in [*main.input_tensors(op), *main.output_tensors(op)] if t is not None and not t.is_constant]
    return sum(t.byte_count for t in tensors)
