"""One of the two: the model, what it is made of, and where its ops would run."""

from __future__ import annotations

import lzma
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edgeloop.analysis import Analysis, analyze
from edgeloop.bench import BenchResult
from edgeloop.graph import Graph
from edgeloop.targets import Target
from edgeloop_converters.subjects import Subject

_MAX_XZ_BYTES = 32 << 20


@dataclass(frozen=True)
class Side:
    """title: what people call it. accuracy: with labels. latency: None where it was not measured."""

    title: str
    subject: Subject
    analysis: Analysis
    on_target: Analysis | None = None
    accuracy: float | None = None
    latency: BenchResult | None = None

    @classmethod
    def of(cls, subject: Subject, target: Target | None) -> Side:
        graph = Graph.read(subject.model)
        name = f"{subject.bundle_name} {subject.version}, {subject.name}" if subject.bundle_name else subject.file
        analysis = analyze(graph, target)
        return cls(name, subject, analysis, None if target is None else analysis)

    @property
    def bytes(self) -> int:
        return len(self.subject.model)

    @cached_property
    def xz_bytes(self) -> int | None:
        """What it takes in a download; None above 32 MiB, where it takes long."""
        return len(lzma.compress(self.subject.model)) if self.bytes <= _MAX_XZ_BYTES else None

    @property
    def op_counts(self) -> Mapping[str, int]:
        return Counter(op.name for op in self.analysis.ops)

    @property
    def unmapped(self) -> int | None:
        """Ops that the target's first choice would not run; None without a target."""
        if self.on_target is None or not self.on_target.delegates:
            return None
        first = next(iter(self.on_target.delegates))
        return sum(op.placement != first for op in self.on_target.ops)

    def to_dict(self) -> dict[str, Any]:
        """As `compare --json` has it."""
        subject, on_target = self.subject, self.on_target
        plans = {} if on_target is None else on_target.to_dict()["delegates"]
        return {
            "name": subject.bundle_name or None,
            "version": subject.version,
            "file": subject.file,
            "variant": subject.name,
            "scheme": subject.scheme,
            "bytes": self.bytes,
            "xz_bytes": self.xz_bytes,
            "macs": self.analysis.macs,
            "parameters": self.analysis.parameters,
            "op_count": len(self.analysis.ops),
            "ops": dict(sorted(self.op_counts.items())),
            "unmapped": self.unmapped,
            "delegates": plans,
            "accuracy": self.accuracy,
            "latency": None if self.latency is None else latency_dict(self.latency),
        }


def latency_dict(result: BenchResult) -> dict[str, Any]:
    keys = ("device", "delegate", "threads", "n", "p50_ms", "p95_ms", "p99_ms", "throttled")
    return {key: getattr(result, key) for key in keys}


@dataclass(frozen=True)
class OpChange:
    """An op kind whose number differs, or ops whose placement does."""

    name: str
    a: int
    b: int

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Changes:
    """ops: kinds whose count differs. placement: delegate -> ops of A and B that it would run."""

    ops: tuple[OpChange, ...] = ()
    placement: Mapping[str, OpChange] = field(default_factory=dict)


def changes(a: Side, b: Side) -> Changes:
    """What differs between the two graphs, the largest change first."""
    first, second = a.op_counts, b.op_counts
    ops = [OpChange(name, first.get(name, 0), second.get(name, 0)) for name in {*first, *second}]
    differing = sorted((c for c in ops if c.a != c.b), key=lambda c: (-abs(c.b - c.a), c.name))
    placed = (Counter(op.placement for op in side.analysis.ops) for side in (a, b))
    on_a, on_b = placed
    names = sorted({*on_a, *on_b})
    return Changes(tuple(differing), {name: OpChange(name, on_a.get(name, 0), on_b.get(name, 0)) for name in names})
