"""`optimize_graph`: rules applied until nothing changes, each checked by running the model before and after."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import EdgeloopError
from edgeloop.graph import Graph
from edgeloop.progress import Progress, SilentProgress
from edgeloop.runtime import open_session
from edgeloop_converters.passes.figures import figures, output_error, outputs
from edgeloop_converters.passes.graph import chains, cleaning, parallel, replacing, scales, series, spatial, transposes
from edgeloop_converters.passes.graph.editing import Editor
from edgeloop_converters.passes.report import PassReport

Array = npt.NDArray[Any]
Rule = Callable[[Editor], int]

NAME = "optimize graph"

EXACT: Mapping[str, Rule] = {
    "dead ops removed": cleaning.sweep,
    "constants folded": cleaning.fold_constants,
    "duplicates merged": cleaning.merge_duplicates,
    "idle ops removed": cleaning.remove_idle,
    "transposes sunk": transposes.sink_transposes,
    "transposes cancelled": transposes.cancel_transposes,
    "transposes taken into dense layers": transposes.transpose_into_dense,
    "one-channel depthwise layers made convolutions": replacing.depthwise_of_one_channel,
    "PReLUs put together": replacing.prelu_from_parts,
    "PReLUs simplified": replacing.prelu_to_leaky,
    "bounds made activations": replacing.clip_to_relu,
    "paddings fused": series.fuse_padding,
    "scales and shifts folded": scales.fold_scales,
    "scales and shifts merged": scales.merge_scales,
    "chains merged": chains.merge_chains,
    "branches summed": parallel.sum_branches,
    "siblings joined": parallel.join_concatenated,
    "poolings merged": spatial.merge_pools,
    "strides moved": spatial.stride_instead_of_pool,
    "poolings taken into kernels": spatial.pool_into_kernel,
    "activations fused": series.fuse_activations,
}
"""Name of a rule -> it, in the order of a round. All leave the function as it is but for rounding."""

TOLERANCE = 1e-4
"""Largest difference of an output, relative to its largest value: sums in another order."""
MAX_ERROR = 0.05
"""Of a replacement by another function: mean square of the outputs' change, as a share of their variance."""
_ROUNDS = 20
_RANDOM_SAMPLES = 4


def optimize_graph(
    graph: Graph,
    *,
    samples: Sequence[Sequence[Array]] = (),
    replace: Sequence[str] = (),
    max_error: float = MAX_ERROR,
    static_shapes: bool = True,
    progress: Progress | None = None,
    seed: int = 0,
) -> tuple[Graph, PassReport]:
    """The same model with less to do; `graph` stays as it is.

    samples: what the check runs on; random numbers without. A rule whose result answers otherwise, or needs more work
    or memory, is not applied, and a note says so. replace: names of `replacing.REPLACEMENTS`, to be done although they
    save nothing here; those that are another function stay only where the outputs' error is at most `max_error`, as a
    share of their variance. static_shapes: a free batch is fixed at what the file plans for. Figures: macs, bytes,
    peak_memory_bytes, ops; with another function the error, too. Raises UsageError for an unknown replacement.
    """
    started = time.monotonic()
    shown = progress or SilentProgress()
    current, done = graph.copy(), dict[str, int]()
    if static_shapes and current.fix_shapes():
        done["shapes fixed"] = 1
    asked = replacing.replacements_named(replace)
    inputs = samples[:_RANDOM_SAMPLES] or random_inputs(current, seed)
    current, error = _replaced(current, asked, samples or inputs, max_error, done, shown)
    wanted = _run(current, inputs)
    refused = {name for replacement in asked.values() for name in replacement.undone_by}
    for _ in range(_ROUNDS):
        changed = False
        for name, rule in EXACT.items():
            if name in refused:
                continue
            trial = current.copy()
            count = rule(Editor(trial))
            if not count:
                continue
            cleaning.sweep(Editor(trial))
            why = _objection(current, trial, inputs, wanted)
            if why:
                refused.add(name)
                shown.note(f"{NAME}: {name}: not kept, {why}")
                continue
            current, changed = trial, True
            done[name] = done.get(name, 0) + count
        if not changed:
            break
    cleaning.sweep(Editor(current))
    current.ensure_unique_names()
    before, after = _figures(graph), _figures(current)
    if error is not None:
        before, after = {**before, "output_error": 0.0}, {**after, "output_error": error}
    detail = ", ".join(f"{count} {name}" for name, count in done.items()) or "nothing to do"
    return current, PassReport(NAME, detail, time.monotonic() - started, before, after)


def _replaced(
    graph: Graph,
    asked: Mapping[str, replacing.Replacement],
    samples: Sequence[Sequence[Array]],
    most: float,
    done: dict[str, int],
    shown: Progress,
) -> tuple[Graph, float | None]:
    """What was asked for is done, as far as the outputs bear it; and their error, where it is another function."""
    current, error = graph, None
    for name, replacement in asked.items():
        trial = current.copy()
        if not (count := replacement.rule(Editor(trial))):
            shown.note(f"{NAME}: {name}: nothing of this kind is in the model")
            continue
        if not replacement.exact:
            worse = output_error(outputs(graph, samples), outputs(trial, samples))
            if not worse <= most:
                shown.note(
                    f"{NAME}: {name}: not kept, the outputs' error is {worse:.1%} of their variance, above {most:.1%}"
                )
                continue
            error = worse
        elif why := _differs(trial, samples[:_RANDOM_SAMPLES], _run(current, samples[:_RANDOM_SAMPLES])):
            shown.note(f"{NAME}: {name}: not kept, {why}")
            continue
        current = trial
        done[f"{name} replaced"] = count
    return current, error


def _figures(graph: Graph) -> dict[str, float]:
    return {**figures(graph), "ops": float(len(graph.main.ops))}


def _objection(before: Graph, after: Graph, inputs: Sequence[Sequence[Array]], wanted: Sequence[Array]) -> str:
    """Why the change is not to be kept; empty where nothing speaks against it."""
    old, new = figures(before), figures(after)
    if new["macs"] > old["macs"]:
        return f"it needs more work ({old['macs']:,.0f} -> {new['macs']:,.0f} MACs)"
    if new["peak_memory_bytes"] > old["peak_memory_bytes"] and new["macs"] == old["macs"]:
        return f"it needs more memory ({old['peak_memory_bytes']:,.0f} -> {new['peak_memory_bytes']:,.0f} bytes)"
    return _differs(after, inputs, wanted)


def _differs(after: Graph, inputs: Sequence[Sequence[Array]], wanted: Sequence[Array]) -> str:
    try:
        got = _run(after, inputs)
    except EdgeloopError as error:
        return f"the result does not run ({error.message})"
    worst = max((difference(a, b) for a, b in zip(wanted, got, strict=True)), default=0.0)
    return f"the answers differ by {worst:.2g}" if not worst <= TOLERANCE else ""


def difference(wanted: Array, got: Array) -> float:
    """Largest absolute difference by the largest magnitude of `wanted`; infinite for other shapes."""
    if wanted.shape != got.shape:
        return float("inf")
    if not wanted.size:
        return 0.0
    a, b = wanted.astype(np.float64), got.astype(np.float64)
    if not np.isfinite(a).all():
        return 0.0 if np.array_equal(a, b, equal_nan=True) else float("inf")
    return float(np.abs(a - b).max() / max(float(np.abs(a).max()), 1e-6))


def random_inputs(graph: Graph, seed: int) -> list[list[Array]]:
    """Numbers of any sign for float inputs, small whole ones (they may choose rows of a table) for others."""
    random = np.random.default_rng(seed)
    return [
        [
            random.standard_normal(t.shape).astype(np.float32)
            if t.dtype == "float32"
            else random.integers(0, 2, t.shape).astype(t.dtype)
            for t in graph.inputs
        ]
        for _ in range(_RANDOM_SAMPLES)
    ]


def _run(graph: Graph, inputs: Sequence[Sequence[Array]]) -> list[Array]:
    """Every output, stacked over the samples, on the reference kernels."""
    rows = []
    with open_session(graph.write(), delegate="cpu") as session:
        for sample in inputs:
            for i, array in enumerate(sample):
                session.set_input(i, np.asarray(array))
            session.invoke()
            rows.append([session.output(i) for i in range(len(session.outputs))])
    return [np.stack(column) for column in zip(*rows, strict=True)]
