"""Evaluate what is there already: a bundle's variant or a model file, on any data, against its float model."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeloop.bundle import Bundle
from edgeloop.contract import Contract
from edgeloop.errors import UsageError
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.assessment import AssessResult
from edgeloop_converters.assistant import Assistant
from edgeloop_converters.buckets import held_by
from edgeloop_converters.cascades import measure_cascade, measure_exit
from edgeloop_converters.check_data.contract import contract_findings
from edgeloop_converters.contracts import ContractFlags, detect_contract, fit_data
from edgeloop_converters.data import IMAGE, Dataset, for_inputs, open_data, pick_stratified
from edgeloop_converters.data.cache import DecodedCache
from edgeloop_converters.data.unreadable import all_unreadable_named
from edgeloop_converters.evaluate import (
    Comparison,
    Scorer,
    compare_tensors,
    run_models,
    summarize,
)
from edgeloop_converters.evaluate.per_op import SAMPLES as PER_OP_SAMPLES
from edgeloop_converters.gate import Measurement, check_goals_fit, joined, judge
from edgeloop_converters.goals import Goals
from edgeloop_converters.stages import Stages
from edgeloop_converters.subjects import Subject, float_reference, open_subject, twin_of

_REFERENCE = "float model"  # no variant can be called so


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    reference: str | Path | None = None,
    variant: str | None = None,
    contract: str | Path | None = None,
    hints: ContractFlags | None = None,
    goals: Goals | None = None,
    ignore_labels: bool = False,
    samples: int | None = None,
    cascade: str | None = None,
    exit_head: str | None = None,
    allow_unsigned: bool = False,
    trust_code: bool = False,
    threads: int | None = None,
    seed: int = 0,
    cache: bool = True,
    progress: Progress | None = None,
) -> AssessResult:
    """Run a bundle's variant (default: the first), or a model file, over data; compare with its float model.

    Of shape buckets, without `variant`, each runs the samples that a device would run on it; the first is the result
    and has the `others`. The float model: `reference` (any format `convert` reads), else the one of this bundle in
    the host's cache, else none, and agreement is None. cascade: a lighter variant, or a .tflite file, to ask first;
    exit_head: an output of the model to stop at (see `cascades`). Raises UsageError and its kinds, RefusedError for a
    bundle that is not to be trusted.
    """
    reporter = progress or SilentProgress()
    wanted = goals or Goals()
    path = Path(model)
    subject = open_subject(path, variant, allow_unsigned=allow_unsigned, trust_code=trust_code, progress=reporter)
    dataset = open_data(data)
    if ignore_labels:
        dataset = dataset.unlabelled()
    check_goals_fit(
        wanted,
        has_labels=dataset.labels is not None,
        why_not="--ignore-labels leaves them out" if ignore_labels else "",
    )

    def run(subject: Subject, dataset: Dataset, samples: int | None, notes: tuple[str, ...] = ()) -> AssessResult:
        return _evaluate(
            subject, dataset, reference=reference, contract=contract, hints=hints, wanted=wanted, samples=samples,
            trust_code=trust_code, threads=threads, seed=seed, cache=cache, reporter=reporter, said=notes,
        )  # fmt: skip

    if variant is not None or not subject.buckets or subject.contract is None:
        alone = run(subject, dataset, samples)
        if cascade is None and exit_head is None:
            return alone
        used, whole = alone.dataset, (subject.name, subject.model)
        indices = np.arange(len(used)) if samples is None else pick_stratified(used, samples, seed)
        if exit_head is not None:
            measured = measure_exit(exit_head, whole, alone.contract, used, indices, progress=reporter)
        else:
            bundle = Bundle.open(path, allow_unsigned=allow_unsigned) if subject.bundle_name else None
            measured = measure_cascade(
                str(cascade), whole, alone.contract, used, indices, bundle=bundle, progress=reporter
            )
        return replace(alone, cascade=measured)
    if cascade is not None or exit_head is not None:
        raise UsageError("a cascade of shape buckets is not possible", hint="--variant NAME evaluates one of them")
    dataset = for_inputs(dataset, [spec.name for spec in subject.contract.inputs])
    chosen = np.arange(len(dataset), dtype=np.int64) if samples is None else pick_stratified(dataset, samples, seed)
    held, notes, warnings = held_by(subject.contract.inputs, dataset, chosen, subject.buckets)
    results: list[AssessResult] = []
    for note in notes:
        reporter.note(note)
    for name, indices in held.items():
        one = open_subject(path, name, allow_unsigned=allow_unsigned, trust_code=trust_code, progress=reporter)
        told = results[-1].notes if results else notes
        results.append(run(one, dataset.subset(indices), None, told))
    first, *others = results
    gate = joined({result.subject.name: result.gate for result in results})
    return replace(
        first, gate=gate, variant_gate=first.gate, others=tuple(others), left_out=warnings,
        seconds=round(sum(result.seconds for result in results), 3),
    )  # fmt: skip


def _evaluate(
    subject: Subject,
    dataset: Dataset,
    *,
    reference: str | Path | None,
    contract: str | Path | None,
    hints: ContractFlags | None,
    wanted: Goals,
    samples: int | None,
    trust_code: bool,
    threads: int | None,
    seed: int,
    cache: bool,
    reporter: Progress,
    said: tuple[str, ...],
) -> AssessResult:
    stages = Stages()
    raw = dataset
    chosen = np.arange(len(raw), dtype=np.int64) if samples is None else pick_stratified(raw, samples, seed)
    with (
        all_unreadable_named([(raw, chosen)], reporter),
        Assistant() if raw.labels is not None else nullcontext() as assistant,
    ):
        scorer = None if assistant is None else Scorer(assistant)
        with stages("load reference"):
            float_model, notes = float_reference(subject, reference, trust_code, reporter)
        with stages("contract"):
            settled, dataset, found = _settle(subject, float_model, dataset, contract, hints, seed)
        fresh = tuple(note for note in (*notes, *found) if note not in said)
        for note in fresh:
            reporter.note(note)
        notes = (*said, *fresh)
        indices = (
            np.arange(len(dataset), dtype=np.int64) if samples is None else pick_stratified(dataset, samples, seed)
        )
        with stages("other contracts"):
            doubts, _ = contract_findings(float_model or subject.model, settled, dataset, seed=seed)
        models = {subject.name: subject.model}
        used = None if float_model is None else subject.name
        if float_model is not None and float_model != subject.model:
            used = _REFERENCE
            models = {_REFERENCE: float_model, **models}
        with stages("evaluate"), DecodedCache() if cache else nullcontext() as decoded:
            spec = settled.inputs[0]
            if decoded is not None and spec.kind == IMAGE and spec.size is not None:
                dataset = decoded.attach(dataset, spec.size, spec.resize)
            evaluation = run_models(
                models, settled, dataset, indices, reference=used, threads=threads or min(4, os.cpu_count() or 1),
                progress=reporter,
            )  # fmt: skip
            quality = summarize(evaluation, subject.name, reference=used, scorer=scorer)
    comparison = Comparison()
    with stages("error per layer"):
        twin, missing = twin_of(subject, float_model)
        notes += missing
        if twin is not None and twin != subject.model:
            chosen = indices[:: max(1, len(indices) // PER_OP_SAMPLES)][:PER_OP_SAMPLES]
            comparison = compare_tensors(twin, subject.model, settled, dataset, chosen, progress=reporter)
    metrics = quality.metrics
    gate = judge(
        wanted,
        Measurement(
            metrics.metric, metrics.float_, metrics.this, metrics.agreement, metrics.n, len(subject.model),
            guesses=bool(quality.guessing),
        ),
    )  # fmt: skip
    return AssessResult(
        subject, quality, comparison.errors, gate, settled, wanted, dataset, len(indices),
        None if float_model is None else len(float_model), tuple(notes), stages.total, stages.seconds,
        comparison.ranges, is_reference=float_model == subject.model, findings=tuple(doubts),
    )  # fmt: skip


def _settle(
    subject: Subject,
    float_model: bytes | None,
    dataset: Dataset,
    file: str | Path | None,
    hints: ContractFlags | None,
    seed: int,
) -> tuple[Contract, Dataset, tuple[str, ...]]:
    model = float_model or subject.model
    if subject.contract is not None:
        if file is not None or (hints is not None and hints != ContractFlags()):
            raise UsageError(
                "a bundle brings its own contract; flags cannot change it", hint="evaluate the .tflite instead"
            )
        ready = fit_data(subject.contract, model, dataset)
        return subject.contract, ready, ready.notes
    found = detect_contract(model, dataset, file=Path(file) if file else None, flags=hints, seed=seed)
    return found.contract, found.data, (*found.warnings, *found.notes, *found.data.notes)
