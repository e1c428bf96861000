"""Whole residual branches and layers taken out, where the rest of the model can answer for them.

A branch is what only leads to one addend of an ADD; without it the other addend is the sum. A layer can go where its
output has its input's shape. What each costs is measured: taken out, everything behind it refitted, output compared.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgeloop.errors import GoalNotMetError, UsageError
from edgeloop.graph import Graph, Op
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.passes.figures import Cost, figures, macs, output_error, outputs
from edgeloop_converters.passes.graph.cleaning import sweep
from edgeloop_converters.passes.graph.editing import Editor, activation
from edgeloop_converters.passes.pruning.refit import ROWS, refit
from edgeloop_converters.passes.pruning.seen import Samples
from edgeloop_converters.passes.report import PassReport
from edgeloop_converters.passes.samples import Given, as_samples

NAME = "prune blocks"
_LAYERS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_RECTIFIERS = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"}
_JUDGES, _TRIAL_ROWS = 256, 8000


@dataclass(frozen=True)
class Block:
    """name: of the tensor that stays behind (the sum, or the layer's output). instead: of the tensor it becomes.

    branch: of the addend that goes; the layer's own output for a layer. kind: "branch" or "layer".
    """

    name: str
    instead: str
    branch: str
    kind: str


def find_blocks(graph: Graph, *, layers: bool = False) -> tuple[Block, ...]:
    """What could be taken out of the main subgraph, in its order. layers: single layers, too."""
    editor = Editor(graph)
    main = graph.main
    names = [tensor.name for tensor in main.tensors]
    found = []
    for op in main.ops:
        out = op.outputs[0] if op.outputs else -1
        if op.name == "ADD" and activation(op) in (0, *_RECTIFIERS):
            computed = [i for i in op.inputs if editor.data(i) is None and editor.shape(i) == editor.shape(out)]
            for branch, rest in (computed, computed[::-1]) if len(set(computed)) == 2 else ():
                inside = _only_leading_to(editor, op, branch, rest)
                if any(o.name in _LAYERS for o in inside):
                    found.append(Block(names[out], names[rest], names[branch], "branch"))
        elif layers and op.name in _LAYERS and activation(op) in (0, *_RECTIFIERS):
            source = op.inputs[0]
            if editor.shape(source) == editor.shape(out) and source not in main.inputs and out not in main.outputs:
                found.append(Block(names[out], names[source], names[out], "layer"))
    return tuple(found)


def _only_leading_to(editor: Editor, add: Op, branch: int, rest: int) -> list[Op]:
    """Ops whose results nothing but this addend needs; the other one, `rest`, stays."""
    inside: list[Op] = []
    waiting = [branch]
    while waiting:
        index = waiting.pop()
        maker = editor.maker(index)
        if maker is None or index == rest or index in editor.main.outputs or any(o is maker for o in inside):
            continue
        readers = [op for op in editor.main.ops if any(i in op.inputs for i in maker.outputs)]
        if all(op is add or any(op is o for o in inside) for op in readers):
            inside.append(maker)
            waiting.extend(i for i in maker.inputs if i >= 0)
    return inside


def without_block(graph: Graph, block: Block) -> Graph:
    """A graph of its own; weights as they were. Raises UsageError for a block that is not there."""
    fresh = graph.copy()
    editor, main = Editor(fresh), fresh.main
    op = next((o for o in main.ops if o.outputs and main.tensors[o.outputs[0]].name == block.name), None)
    if op is None or block.instead not in {t.name for t in main.tensors}:
        raise UsageError(f"the model has no {block.kind} '{block.name[:120]}' to take out")
    source = main.index_of(block.instead)
    maker = editor.maker(source)
    code = activation(op)
    rectified = maker is not None and (activation(maker) == code or maker.name == _RECTIFIERS.get(code))
    if code == 0 or rectified:
        if not editor.bypass(op, source):
            raise UsageError(f"'{block.name[:120]}' is an output that its input would become")
    else:
        at = next(i for i, other in enumerate(main.ops) if other is op)
        main.ops[at] = Op(_RECTIFIERS[code], [source], list(op.outputs))
    sweep(editor)
    return fresh


def prune_blocks(
    graph: Graph,
    *,
    samples: Given,
    count: int | None = None,
    goal: float | None = None,
    names: Sequence[str] | None = None,
    layers: bool = False,
    cost: Cost = macs,
    rows: int = ROWS,
    progress: Progress | None = None,
    seed: int = 0,
    threads: int = 1,
) -> tuple[Graph, PassReport]:
    """Take out whole branches (and layers): so many, until `cost` is at most `goal` of what it was, or those named.

    One after the other, each time the one that loses least per cost saved; then all that is left is refitted on
    `samples`. names: of `Block.branch`. Raises UsageError, and GoalNotMetError where too little can be taken out.
    """
    started = time.monotonic()
    if sum(v is not None for v in (count, goal, names)) != 1:
        raise UsageError("taking out blocks needs exactly one of count, goal and names")
    samples = as_samples(graph, samples)
    if not samples:
        raise UsageError("taking out blocks needs samples: what each costs is measured")
    judges = samples[-_JUDGES:]
    wanted = outputs(graph, judges, threads)

    def fitted(narrow: Graph, on: Samples, wide: int, pairs: bool = False) -> Graph:
        return refit(graph, narrow, {}, on, rows=wide, seed=seed, threads=threads, pairs=pairs)[0]

    current, gone = graph.copy(), list[Block]()
    whole = cost(graph)
    with (progress or SilentProgress()).step(NAME) as advance:
        while not _enough(len(gone), cost(current) / whole, count, goal, names):
            choices = [b for b in find_blocks(current, layers=layers) if names is None or b.branch in names]
            best: tuple[float, Graph, Block] | None = None
            for block in choices:
                trial = without_block(current, block)
                saved = cost(current) - cost(trial)
                if saved <= 0:
                    continue
                error = output_error(wanted, outputs(fitted(trial, samples[:_JUDGES], _TRIAL_ROWS), judges, threads))
                if best is None or error / saved < best[0]:
                    best = (error / saved, trial, block)
                advance(1)
            if best is None:
                raise GoalNotMetError(
                    f"no further block can be taken out: {len(gone)} gone, cost at {cost(current) / whole:.2f}",
                    hint="prune channels as well, or ask for less",
                )
            current, gone = best[1], [*gone, best[2]]
    result = fitted(current, samples, rows, pairs=True)
    before, after = {**figures(graph), "output_error": 0.0}, figures(result)
    after["output_error"] = output_error(wanted, outputs(result, judges, threads))
    told = ", ".join(f"{b.kind} {b.branch[-40:]}" for b in gone) or "nothing"
    return result, PassReport(NAME, f"taken out: {told}", time.monotonic() - started, before, after)


def _enough(gone: int, share: float, count: int | None, goal: float | None, names: Sequence[str] | None) -> bool:
    if goal is not None:
        return share <= goal
    return gone >= (len(names) if names is not None else count or 0)
