"""Run exported files over a dataset with the kernels the target uses (XNNPACK), through the device's own preprocessing.

Every sample is read and decoded once for all models. One session per model and thread: invoke releases the GIL.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import dequantize
from edgeloop.contract import Contract
from edgeloop.errors import DataError, UsageError
from edgeloop.postprocess import Decoder, Result, Seen, compile_output, decoded_outputs, needs_inputs
from edgeloop.preprocess import SamplePreprocessor, compile_inputs
from edgeloop.progress import Progress, SilentProgress
from edgeloop.runtime import RanOn, Session, TensorInfo, open_session
from edgeloop_converters.data import Dataset
from edgeloop_converters.evaluate import pairing
from edgeloop_converters.evaluate.metrics import RELATIVE, TOP_1, agreement_kind, output_agreement, result_agreement
from edgeloop_converters.io_names import output_names

Indices = npt.NDArray[np.int64]

DELEGATE = "xnnpack"
THREADS = 2
_CHUNK = 16


@dataclass(frozen=True)
class Outcome:
    """One model over n samples.

    predictions: class ids int64 [n] and scores float32 [n], the model's output for them; None unless a classification.
    agreement: float32 [n] with the reference model (1 or 0 for top-1); None for the reference itself. others: of a
    model with several outputs, the mean agreement of each output beside the contract's one, by name. not_finite:
    samples that were answered by NaN or infinity.
    """

    ran_on: RanOn
    predictions: Indices | None = None
    scores: npt.NDArray[np.float32] | None = None
    agreement: npt.NDArray[np.float32] | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    not_finite: int = 0


@dataclass(frozen=True)
class Evaluation:
    """Models by name over the same samples. labels: int64 [n] or None. agreement_kind: see `metrics`.

    reordered: by model, that its outputs seem to stand in another order than the reference's, where they do.
    """

    indices: Indices
    labels: Indices | None
    agreement_kind: str
    outcomes: Mapping[str, Outcome]
    classes: int = 0
    reordered: Mapping[str, str] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()


@dataclass
class _Lane:
    """A model's session and compiled contract; one per thread. outputs: the model's, without exit heads."""

    name: str
    session: Session
    outputs: Sequence[TensorInfo]
    prepare: SamplePreprocessor
    decode: Decoder
    sees_inputs: bool = False

    def run(self, frame: Any) -> tuple[Result, bool]:
        """The decoded answer, and whether all of it was finite."""
        session = self.session
        arrays, raw = self.answers(frame)
        seen = Seen()
        if self.sees_inputs:
            seen = Seen(inputs=[dequantize(a, info.affine) for a, info in zip(arrays, session.inputs, strict=True)])
        return self.decode(raw, seen), all(a.dtype.kind != "f" or bool(np.isfinite(a).all()) for a in raw)

    def answers(self, frame: Any) -> tuple[Sequence[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
        """What goes in, and the outputs as the model has them."""
        arrays = self.prepare(frame)
        for i, array in enumerate(arrays):
            self.session.set_input(i, array)
        self.session.invoke()
        return arrays, [self.session.output(i) for i in range(len(self.outputs))]


def run_models(
    models: Mapping[str, bytes],
    contract: Contract,
    dataset: Dataset,
    indices: Sequence[int] | Indices | None = None,
    *,
    reference: str | None = None,
    same_shapes: bool = True,
    threads: int = THREADS,
    progress: Progress | None = None,
    label: str = "evaluating",
) -> Evaluation:
    """Run every model over the samples at `indices` (default: all).

    reference: the model the others are compared with; same_shapes: all of its outputs have to be of the same shapes.
    Raises DataError for samples that cannot be read or do not fit, ConfigError where contract and model do not fit,
    UsageError where outputs have other shapes than the reference's.
    """
    chosen = np.arange(len(dataset), dtype=np.int64) if indices is None else np.asarray(indices, np.int64)
    if len(chosen) == 0:
        raise DataError(f"data {dataset.source}: no samples to evaluate on")
    kind = agreement_kind(contract.output)
    with ExitStack() as stack:
        # Opened here and not in the threads: opening catches the runtime's noise on the process's one stderr.
        lanes = [
            [_open_lane(stack, name, model, contract) for name, model in models.items()]
            for _ in range(max(1, min(threads, -(-len(chosen) // _CHUNK))))
        ]
        if reference is not None and same_shapes:
            _check_alike(lanes[0], reference)
        index, others = contract.output.index, _other_outputs(*next(iter(models.items())), lanes[0], contract)
        results = {name: _Results(len(chosen), kind, others, is_reference=name == reference) for name in models}
        work = _Work(dataset, chosen, kind, index, reference, results)
        reordered = {} if reference is None else pairing.reordered(lanes[0], reference, models, dataset, chosen)
        reporter = progress or SilentProgress()
        with reporter.step(label, total=len(chosen)) as advance:
            work.run(lanes, advance)
        ran_on = {lane.name: lane.session.ran_on for lane in lanes[0]}
        classes = int(np.prod(lanes[0][0].outputs[index].shape)) if kind == TOP_1 else 0
    outcomes = {name: r.outcome(ran_on[name], compared=reference is not None) for name, r in results.items()}
    labels = None if dataset.labels is None else dataset.labels[chosen]
    return Evaluation(chosen, labels, kind, outcomes, classes, reordered, contract.output.labels)


def _open_lane(stack: ExitStack, name: str, model: bytes, contract: Contract) -> _Lane:
    session = stack.enter_context(open_session(model, delegate=DELEGATE))
    outputs = _without_heads(model, session.outputs)
    return _Lane(
        name,
        session,
        outputs,
        compile_inputs(contract.inputs, session.inputs),
        compile_output(contract.output.per_sample, outputs),
        needs_inputs(contract.output),
    )


def _without_heads(model: bytes, outputs: Sequence[TensorInfo]) -> Sequence[TensorInfo]:
    """Exit heads are further ways to say the same answer, which `cascades` and `dynamic` look at."""
    if len(outputs) < 2:
        return outputs
    from edgeloop.graph import Graph
    from edgeloop.graph.parts import exit_heads

    return outputs[: len(outputs) - len(exit_heads(Graph.read(model)))] or outputs


def _check_alike(lanes: Sequence[_Lane], reference: str) -> None:
    """Outputs are compared by place: the same number of them, of the same shape but for axes of length 1."""
    shapes = {lane.name: [list(output.shape) for output in lane.outputs] for lane in lanes}
    wanted = shapes[reference]
    for name, found in shapes.items():
        if [[n for n in shape if n != 1] for shape in found] != [[n for n in shape if n != 1] for shape in wanted]:
            raise UsageError(
                f"models with other outputs cannot be compared: '{name}' has {_listed(found)} and '{reference}' "
                f"{_listed(wanted)}",
                hint="give models of the same classes and outputs, in the same order",
            )


def _listed(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join(map(str, shapes))


def _other_outputs(name: str, model: bytes, lanes: Sequence[_Lane], contract: Contract) -> tuple[str, ...]:
    """Names of the outputs that the contract does not decode."""
    from edgeloop.graph import Graph

    outputs = next(lane.outputs for lane in lanes if lane.name == name)
    decoded = decoded_outputs(contract.output, outputs)
    names = output_names(Graph.read(model))[: len(outputs)]
    return tuple(n for i, n in enumerate(names) if i not in decoded)


class _Results:
    """Arrays that the threads fill, each at its own positions."""

    def __init__(self, n: int, kind: str, others: Sequence[str], *, is_reference: bool) -> None:
        self.predictions = np.zeros(n, np.int64) if kind == TOP_1 else None
        self.scores = np.zeros(n, np.float32) if kind == TOP_1 else None
        self.agreement = np.zeros(n, np.float32)
        self.others = {name: np.zeros(n, np.float32) for name in others}
        self.finite = np.ones(n, np.bool_)
        self.is_reference = is_reference

    def put(self, position: int, result: Result, finite: bool) -> None:
        self.finite[position] = finite
        if self.predictions is not None and self.scores is not None:
            best = result.top[0]
            self.predictions[position], self.scores[position] = best.class_id, best.score

    def outcome(self, ran_on: RanOn, *, compared: bool) -> Outcome:
        not_finite = int(np.count_nonzero(~self.finite))
        if not compared or self.is_reference:
            return Outcome(ran_on, self.predictions, self.scores, not_finite=not_finite)
        others = {name: float(values.mean(dtype=np.float64)) for name, values in self.others.items()}
        return Outcome(ran_on, self.predictions, self.scores, self.agreement, others, not_finite)


@dataclass
class _Work:
    """The loop over samples, shared by the threads."""

    dataset: Dataset
    chosen: Indices
    kind: str
    output: int
    reference: str | None
    results: Mapping[str, _Results]
    starts: itertools.count[int] = field(default_factory=lambda: itertools.count(0, _CHUNK))
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, lanes: Sequence[list[_Lane]], advance: Callable[[int], None]) -> None:
        if len(lanes) == 1:
            self._loop(lanes[0], advance)
            return
        lock = threading.Lock()

        def locked_advance(count: int) -> None:
            with lock:
                advance(count)

        with ThreadPoolExecutor(len(lanes), thread_name_prefix="evaluate") as pool:
            futures = [pool.submit(self._loop, lane, locked_advance) for lane in lanes]
            try:
                for future in futures:
                    future.result()
            finally:  # an error or Ctrl-C in one place ends the others after their sample
                self.stop.set()

    def _loop(self, lanes: Sequence[_Lane], advance: Callable[[int], None]) -> None:
        try:
            while not self.stop.is_set():
                start = next(self.starts)
                if start >= len(self.chosen):
                    return
                end = min(start + _CHUNK, len(self.chosen))
                for position in range(start, end):
                    if self.stop.is_set():
                        return
                    self._one(position, lanes)
                advance(end - start)
        except BaseException:
            self.stop.set()
            raise

    def _one(self, position: int, lanes: Sequence[_Lane]) -> None:
        index = int(self.chosen[position])
        frame = self.dataset.sample(index)
        found = {lane.name: pairing.named(self.dataset, index, lane.run, frame) for lane in lanes}
        for name, (result, finite) in found.items():
            into = self.results[name]
            into.put(position, result, finite)
            if self.reference is not None and name != self.reference:
                wanted, _ = found[self.reference]
                into.agreement[position] = self._agreement(wanted, result)
                for values, a, b in zip(into.others.values(), *map(self._others, (wanted, result)), strict=True):
                    values[position] = output_agreement(RELATIVE, [a], [b])

    def _agreement(self, reference: Result, other: Result) -> float:
        return result_agreement(self.kind, self.output, reference, other)

    def _others(self, result: Result) -> Sequence[npt.NDArray[np.float32]]:
        """The outputs that the contract does not decode."""
        if result.kind == "embedding":
            return result.values[1:]
        if result.kind != "raw":
            return result.values
        return [*result.values[: self.output], *result.values[self.output + 1 :]]
