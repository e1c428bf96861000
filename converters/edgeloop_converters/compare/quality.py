"""Two models over the same samples: accuracy of each, and how often they answer alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeloop.contract import Contract
from edgeloop.errors import DataError, UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop_converters.contracts import ContractFlags, detect_contract, fit_data
from edgeloop_converters.data import IMAGE, Dataset, pick
from edgeloop_converters.data.cache import DecodedCache
from edgeloop_converters.data.unreadable import all_unreadable_named
from edgeloop_converters.evaluate import Evaluation, run_models, summarize
from edgeloop_converters.evaluate.metrics import TOP_1
from edgeloop_converters.subjects import FLOAT, Subject

A, B = "a", "b"


@dataclass(frozen=True)
class Alike:
    """a, b: accuracy, None without labels. agreement: of B with A, 0..1, of that kind (see `evaluate`)."""

    a: float | None
    b: float | None
    agreement: float | None
    kind: str
    samples: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class How:
    """contract, hints: for models that bring none of their own. samples: at most so many, None: all."""

    contract: str | Path | None = None
    hints: ContractFlags | None = None
    samples: int | None = None
    seed: int = 0
    threads: int | None = None
    cache: bool = True

    @property
    def says_contract(self) -> bool:
        return self.contract is not None or self.hints not in (None, ContractFlags())


def alike(a: Subject, b: Subject, dataset: Dataset, how: How, progress: Progress) -> Alike:
    """Raises UsageError and its kinds where data, contracts and models do not fit each other."""
    indices = np.arange(len(dataset), dtype=np.int64)
    if how.samples is not None:
        indices = pick(dataset, how.samples, how.seed)
    own = [s.contract for s in (a, b) if s.contract is not None]
    if own and how.says_contract:
        raise UsageError("a bundle brings its own contract; flags cannot change it", hint="compare the .tflite files")
    with all_unreadable_named([(dataset, indices)], progress):
        if len(own) == 2 and own[0] != own[1]:
            return _apart(a, b, own, dataset, indices, how, progress)
        _check_inputs(a, b)
        contract, ready, notes = _contract(a, b, own, dataset, how)
        evaluation = _run({A: a.model, B: b.model}, contract, ready, indices, how, progress)
    quality = summarize(evaluation, B, reference=A)
    has_labels = quality.scores is not None
    metrics = quality.metrics
    return Alike(
        metrics.float_ if has_labels else None,
        metrics.this if has_labels else None,
        metrics.agreement, quality.agreement_kind, metrics.n,
        (*notes, *((quality.reordered,) if quality.reordered else ())),
    )  # fmt: skip


def _check_inputs(a: Subject, b: Subject) -> None:
    """Raises UsageError for models that cannot eat the same: one contract feeds both."""
    shapes = [[info.shape[1:] for info in Graph.read(subject.model).inputs] for subject in (a, b)]
    if all(len(one) == len(other) for one, other in zip(*shapes, strict=False)) and len(shapes[0]) == len(shapes[1]):
        pairs = [pair for one, other in zip(*shapes, strict=True) for pair in zip(one, other, strict=True)]
        if all(n == m or -1 in (n, m) for n, m in pairs):
            return
    said = [" and ".join(str(list(shape)) for shape in one) for one in shapes]
    raise UsageError(
        f"the two models take other inputs: A {said[0]}, B {said[1]}",
        hint="compare models of one task, or two bundles, which bring a contract each",
    )


def _contract(
    a: Subject, b: Subject, own: Sequence[Contract], dataset: Dataset, how: How
) -> tuple[Contract, Dataset, tuple[str, ...]]:
    """One for both: a bundle's own, the file's, or what is detected (with the float one of the two, if any)."""
    model = next((s.model for s in (a, b) if s.scheme == FLOAT), a.model)
    if own:
        ready = fit_data(own[0], model, dataset)
        return own[0], ready, ready.notes
    file = Path(how.contract) if how.contract is not None else None
    found = detect_contract(model, dataset, file=file, flags=how.hints, seed=how.seed)
    return found.contract, found.data, (*found.warnings, *found.notes, *found.data.notes)


def _apart(
    a: Subject,
    b: Subject,
    contracts: Sequence[Contract],
    dataset: Dataset,
    indices: np.ndarray[tuple[int], np.dtype[np.int64]],
    how: How,
    progress: Progress,
) -> Alike:
    """Each under its own contract. Classes are the same where their labels are, without labels where their ids are."""
    accuracies, answers, classes = [], [], []
    for side, subject, contract in zip("AB", (a, b), contracts, strict=True):
        try:
            ready = fit_data(contract, subject.model, dataset)
        except DataError as error:
            raise DataError(
                f"{side} ({subject.bundle_name or subject.file}): {error.message}", hint=error.hint
            ) from error
        evaluation = _run({A: subject.model}, contract, ready, indices, how, progress)
        predictions = evaluation.outcomes[A].predictions
        if evaluation.agreement_kind != TOP_1 or predictions is None:
            raise UsageError("the contracts of the two bundles differ: only classifications can be compared then")
        labels = contract.output.labels
        answers.append([labels[i] if labels else str(i) for i in predictions.tolist()])
        classes.append(evaluation.classes)
        quality = summarize(evaluation, A, reference=None)
        accuracies.append(None if quality.scores is None else quality.scores.accuracy)
    if classes[0] != classes[1] and not all(contract.output.labels for contract in contracts):
        raise UsageError(
            f"the two bundles have {classes[0]} and {classes[1]} classes: they can be compared only by class name",
            hint="convert both with --labels FILE",
        )
    same = float(np.mean([x == y for x, y in zip(*answers, strict=True)]))
    note = "the two bundles have different contracts: each was fed by its own"
    return Alike(accuracies[0], accuracies[1], same, TOP_1, len(indices), (note,))


def _run(
    models: dict[str, bytes],
    contract: Contract,
    dataset: Dataset,
    indices: np.ndarray[tuple[int], np.dtype[np.int64]],
    how: How,
    progress: Progress,
) -> Evaluation:
    threads = how.threads or min(4, os.cpu_count() or 1)
    with DecodedCache() if how.cache else nullcontext() as decoded:
        spec = contract.inputs[0]
        if decoded is not None and spec.kind == IMAGE and spec.size is not None and len(contract.inputs) == 1:
            dataset = decoded.attach(dataset, spec.size, spec.resize)
        reference = A if B in models else None
        return run_models(
            models, contract, dataset, indices, reference=reference, threads=threads, progress=progress,
            label="comparing",
        )  # fmt: skip
