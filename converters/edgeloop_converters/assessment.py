"""What an evaluation found, for people, for `--json` and for its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edgeloop.contract import Contract
from edgeloop.errors import EdgeloopError
from edgeloop.targets import Target, load_target
from edgeloop.version import VERSION
from edgeloop_converters.alarms import quality_alarms
from edgeloop_converters.analysis_summary import analysis_summary
from edgeloop_converters.cascades import CascadeTrade
from edgeloop_converters.check_data.finding import SEVERE, Finding
from edgeloop_converters.data import Dataset
from edgeloop_converters.evaluate import OpError, Quality, TensorRange
from edgeloop_converters.evaluate.summary import GUESSING
from edgeloop_converters.gate import Gate
from edgeloop_converters.goals import Goals
from edgeloop_converters.report import finite
from edgeloop_converters.subjects import FLOAT, Subject
from edgeloop_converters.versions import package_versions


@dataclass(frozen=True)
class AssessResult:
    """quality of the subject; per_op is empty without a float model to compare with.

    others: further shape buckets; gate is then of all, variant_gate of this one. left_out: samples that none holds.
    is_reference: the subject is the float model that it is compared with. cascade: with a light model before it.
    findings: on its contract and these data.
    """

    subject: Subject
    quality: Quality
    per_op: tuple[OpError, ...]
    gate: Gate
    contract: Contract
    goals: Goals
    dataset: Dataset
    samples: int
    float_bytes: int | None
    notes: tuple[str, ...]
    seconds: float
    stages: Mapping[str, float]
    ranges: tuple[TensorRange, ...] = ()
    others: tuple[AssessResult, ...] = ()
    variant_gate: Gate | None = None
    left_out: tuple[str, ...] = ()
    is_reference: bool = False
    cascade: CascadeTrade | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the numbers doubtful."""
        every = [
            text
            for one in (self, *self.others)
            for text in (
                one.quality.guessing,
                *quality_alarms(one.quality, one.goals, one.subject.scheme),
                *one._doubts,
            )
        ]
        return tuple(dict.fromkeys(text for text in (*every, *self.left_out) if text))

    @property
    def _doubts(self) -> tuple[str, ...]:
        """Severe findings; a model that guesses is pointed out by its quality."""
        return tuple(f"data: {f.text}" for f in self.findings if f.severity == SEVERE and GUESSING not in f.what)

    @property
    def is_alone(self) -> bool:
        """There is no other model beside it whose numbers would say anything of it."""
        return self.is_reference or (self.subject.scheme == FLOAT and self.float_bytes is None)

    @cached_property
    def ops_in_float(self) -> tuple[int, int]:
        """(ops that compute in float although the scheme does not, all)."""
        from edgeloop_converters.schemes.verify import ops_in_float

        return ops_in_float(self.subject.model, self.subject.scheme)

    def _variant(self) -> dict[str, Any]:
        return {
            "name": self.subject.name,
            "file": self.subject.file,
            "bytes": len(self.subject.model),
            "scheme": self.subject.scheme,
            "float_ops": self.ops_in_float[0],
            "ops": self.ops_in_float[1],
            "metrics": self.quality.to_dict(),
            "scores": None if self.quality.scores is None else self.quality.scores.to_dict(),
            "per_op": [error.to_dict() for error in self.per_op],
            "gate": (self.variant_gate or self.gate).to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """As `evaluate --json` prints it."""
        variant = self._variant()
        plain: dict[str, Any] = finite(
            {
                "name": self.subject.bundle_name or self.subject.name,
                "version": self.subject.version,
                "target": self.subject.target or None,
                "variants": [variant, *(one._variant() for one in self.others)],
                "per_op": variant["per_op"],
                "gate": self.gate.to_dict(),
                "notes": list(self.notes),
                "warnings": list(self.warnings),
                "seconds": self.seconds,
                "stages": dict(self.stages),
                **({} if self.cascade is None else {"cascade": self.cascade.to_dict()}),
            }
        )
        return plain

    @property
    def _target(self) -> Target | None:
        """None where it is not known, or a board of another machine's."""
        try:
            return load_target(self.subject.target) if self.subject.target else None
        except EdgeloopError:
            return None

    def report(self, command: str = "") -> dict[str, Any]:
        """For report.json and report.html."""
        quality = self.quality
        scores = {self.subject.name: quality.scores, FLOAT: quality.float_scores}
        labels = list(self.contract.output.labels)
        labelled = self.dataset.labels is not None
        return {
            **self.to_dict(),
            "schema": 1,
            "kind": "evaluate",
            "command": command,
            "goals": self.goals.to_dict(),
            "float": None if self.float_bytes is None else {"bytes": self.float_bytes},
            "scores": {name: s.to_dict() for name, s in scores.items() if s is not None},
            "agreement_kind": quality.agreement_kind,
            "confusion": None
            if quality.confusion is None
            else {"labels": labels, "matrix": quality.confusion.tolist()},
            "ranges": [one.to_dict() for one in self.ranges],
            "analysis": analysis_summary(self.subject.model, self._target),
            "contract": self.contract.to_dict(),
            "data": {"evaluation": {"source": self.dataset.source, "samples": self.samples, "labelled": labelled}},
            "provenance": {"edgeloop": VERSION, "versions": package_versions()},
        }
