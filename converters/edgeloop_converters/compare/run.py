"""`edgeloop.compare`: what got better and worse from A to B, and whether it may."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeloop.bench import BenchRequest, BenchResult, bench_models
from edgeloop.errors import DataError, EdgeloopError, UsageError
from edgeloop.padding import LARGER_SHAPE
from edgeloop.progress import Progress, SilentProgress
from edgeloop.targets import Target, load_target
from edgeloop_converters.compare.fail_on import (
    DATA,
    LABELS,
    LATENCY,
    TARGET,
    XZ,
    Outcome,
    Pair,
    Term,
    check_terms,
    parse_fail_on,
)
from edgeloop_converters.compare.quality import A, Alike, B, How, alike
from edgeloop_converters.compare.sides import Changes, Side, changes
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.data import Dataset, open_data
from edgeloop_converters.report import finite
from edgeloop_converters.stages import Stages
from edgeloop_converters.subjects import Subject, open_subject

RUNS = 200


@dataclass(frozen=True)
class CompareResult:
    """B against A. quality: None without data. outcomes: of every term of `fail_on`."""

    a: Side
    b: Side
    changes: Changes
    quality: Alike | None
    target: Target | None
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """No term of `fail_on` holds."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(o.reason for o in self.outcomes if o.failed)

    @property
    def pairs(self) -> dict[str, Pair]:
        """The quantities that `fail_on` may name."""
        return measured_pairs(self.a, self.b, self.quality, with_xz=True)

    @property
    def drop(self) -> float | None:
        """Accuracy of A less that of B, as a fraction."""
        return self.pairs["drop"].step

    def to_dict(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        pairs, quality = self.pairs, self.quality
        plain: dict[str, Any] = finite(
            {
                "a": self.a.to_dict(),
                "b": self.b.to_dict(),
                "target": None if self.target is None else self.target.id,
                "size_ratio": pairs["size"].ratio,
                "xz_ratio": pairs["xz"].ratio,
                "latency_ratio": pairs["latency"].ratio,
                "op_changes": [change.to_dict() for change in self.changes.ops],
                "placement": {name: change.to_dict() for name, change in self.changes.placement.items()},
                "drop": self.drop,
                "agreement": None if quality is None else quality.agreement,
                "agreement_kind": None if quality is None else quality.kind,
                "samples": None if quality is None else quality.samples,
                "fail_on": [{"term": o.term.text, "measured": o.measured, "failed": o.failed} for o in self.outcomes],
                "passed": self.passed,
                "reasons": list(self.reasons),
                "notes": list(self.notes),
                "seconds": self.seconds,
            }
        )
        return plain


def compare(
    a: str | Path,
    b: str | Path,
    *,
    data: str | Path | None = None,
    target: str | None = None,
    fail_on: str | None = None,
    variants: tuple[str | None, str | None] = (None, None),
    contract: str | Path | None = None,
    hints: ContractFlags | None = None,
    ignore_labels: bool = False,
    samples: int | None = None,
    latency: bool = True,
    runs: int = RUNS,
    threads: int | None = None,
    allow_unsigned: bool = False,
    trust_code: bool = False,
    seed: int = 0,
    cache: bool = True,
    progress: Progress | None = None,
) -> CompareResult:
    """Compare model or bundle B with A. Agreement is that of their answers on `data`; latency is this host's.

        r = edgeloop.compare("v1.bundle", "v2.bundle", data="test/", fail_on="drop>0.5pt,latency>1.2x")
        if not r.passed: raise SystemExit(r.reasons)

    target: for placement (default: that of a bundle, if both agree). variants: of A and B, where they are bundles.
    runs: of either for latency, in turns. Raises UsageError and its kinds, also where `fail_on` needs what is not
    given; RefusedError for a bundle that is not to be trusted. What fails is in `result.reasons`.
    """
    stages, reporter = Stages(), progress or SilentProgress()
    terms = () if fail_on is None else parse_fail_on(fail_on)
    dataset = None if data is None else open_data(data)
    if dataset is not None and ignore_labels:
        dataset = dataset.unlabelled()
    subjects = [
        open_subject(Path(p), v, allow_unsigned=allow_unsigned, trust_code=trust_code, progress=reporter)
        for p, v in zip((a, b), variants, strict=True)
    ]
    chosen = _target(target, [s.target for s in subjects])
    check_possible(terms, dataset, chosen, with_latency=latency)
    first, second = (Side.of(subject, chosen) for subject in subjects)
    notes: list[str] = _buckets_left_out(subjects)
    quality = None
    if dataset is not None:
        how = How(contract, hints, samples, seed, threads, cache)
        try:
            quality = alike(subjects[0], subjects[1], dataset, how, reporter)
        except DataError as error:
            larger = _larger_buckets(subjects)
            if error.hint == LARGER_SHAPE and larger:
                raise DataError(error.message, hint=f"compare the variants that hold it: {larger}") from error
            raise
        first, second = replace(first, accuracy=quality.a), replace(second, accuracy=quality.b)
        notes += quality.notes
    if latency:
        results, why = _latencies(first, second, runs, reporter)
        notes += why
        first, second = replace(first, latency=results.get(A)), replace(second, latency=results.get(B))
    for note in notes:
        reporter.note(note)
    measured = measured_pairs(first, second, quality, with_xz=any(XZ in term.needs for term in terms))
    outcomes = check_terms(terms, measured)
    return CompareResult(
        first, second, changes(first, second), quality, chosen, outcomes, tuple(notes), stages.total
    )  # fmt: skip


def _buckets_left_out(subjects: Sequence[Subject]) -> list[str]:
    """Only one variant of each is compared, though a device would pick by the size of the sample."""
    notes = []
    for side, subject in zip((A, B), subjects, strict=True):
        others = ", ".join(name for name in subject.buckets if name != subject.name)
        if others:
            notes.append(
                f"{side.upper()} has variants for other shapes, not compared here: {others} (--variant-{side} NAME)"
            )
    return notes


def _larger_buckets(subjects: Sequence[Subject]) -> str:
    """The flags that choose the largest variant of each, where another one was; "" where there is none larger."""
    flags = []
    for side, subject in zip((A, B), subjects, strict=True):
        largest = max(
            subject.buckets, key=lambda name: sum(map(math.prod, subject.buckets[name])), default=subject.name
        )
        flags += [f"--variant-{side} {largest}"] * (largest != subject.name)
    return " ".join(flags)


def check_possible(
    terms: tuple[Term, ...], dataset: Dataset | None, target: Target | None, *, with_latency: bool
) -> None:
    """Before any work: raises UsageError for a term that needs what was not given."""
    missing = {
        DATA: ("--data", dataset is None),
        LABELS: ("labelled --data", dataset is not None and dataset.labels is None),
        TARGET: ("--target", target is None),
        LATENCY: ("latency, which --no-latency leaves out", not with_latency),
    }
    for term in terms:
        for need in term.needs:
            what, is_missing = missing.get(need, ("", False))
            if is_missing:
                raise UsageError(f"--fail-on {term.text} needs {what}")


def measured_pairs(a: Side, b: Side, quality: Alike | None, *, with_xz: bool) -> dict[str, Pair]:
    """Name of a quantity -> its value in A and B, None where it was not measured."""
    drop = agreement = None
    if quality is not None:
        agreement = quality.agreement
        drop = None if quality.a is None or quality.b is None else quality.a - quality.b
    p50 = [None if side.latency is None else side.latency.p50_ms for side in (a, b)]
    return {
        "size": Pair(a.bytes, b.bytes),
        "xz": Pair(a.xz_bytes, b.xz_bytes) if with_xz else Pair(),
        "ops": Pair(len(a.analysis.ops), len(b.analysis.ops)),
        "unmapped": Pair(a.unmapped, b.unmapped),
        "latency": Pair(*p50),
        "drop": Pair(step=drop),
        "agreement": Pair(step=agreement),
    }


def _target(given: str | None, own: list[str]) -> Target | None:
    """What was asked for, else the one target that the bundles name."""
    if given is not None:
        return load_target(given)
    named = {target for target in own if target}
    if len(named) != 1:
        return None
    try:
        return load_target(named.pop())
    except EdgeloopError:  # a target of another machine's
        return None


def _latencies(a: Side, b: Side, runs: int, progress: Progress) -> tuple[dict[str, BenchResult], list[str]]:
    """Both on XNNPACK, one thread, in turns; and why not, where a model does not run on this host."""
    try:
        with progress.step("measuring latency"):
            report = bench_models({A: a.subject.model, B: b.subject.model}, BenchRequest(n=runs))
    except EdgeloopError as error:
        return {}, [f"latency is not known: {error.message}"]
    found = {result.model: result for result in report.results}
    if len(found) < 2:
        return {}, [f"latency is not known: {failure.reason}" for failure in report.failures]
    return found, []
