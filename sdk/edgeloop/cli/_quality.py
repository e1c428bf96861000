"""Numbers of a conversion or an evaluation as a table for people."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._words import counted
from edgeloop.latency_text import milliseconds

if TYPE_CHECKING:
    from edgeloop.bundle import Profile
    from edgeloop_converters.assessment import AssessResult
    from edgeloop_converters.evaluate import Quality
    from edgeloop_converters.result import ConvertResult

_LABEL_WIDTH = 12
_FEW = 100
"""Samples below which the summary says what one of them weighs."""


def conversion_text(result: ConvertResult, report: Path) -> str:
    """What `convert` ends with: float against exported, the verdict, and what to type next."""
    variant, provenance = result.variants[0], result.report
    float_bytes = provenance["float"]["bytes"]
    lines = [f"{result.name} for {result.recipe.target}", ""]
    if len(result.variants) > 1:
        lines += [variant.name]
    lines += quality_lines(
        variant.quality, variant.scheme, len(variant.model), float_bytes, _in_float(*variant.ops_in_float),
        alone=variant.scheme == "float",
    )  # fmt: skip
    lines += _latency_lines(variant.profile)
    for other in result.variants[1:]:
        remark, alone = _in_float(*other.ops_in_float), other.scheme == "float"
        lines += ["", other.name]
        lines += quality_lines(other.quality, other.scheme, len(other.model), float_bytes, remark, alone=alone)
        lines += _latency_lines(other.profile)
    for one in result.compiled:
        ops = f"{one.log.mapped_ops} of {one.log.total_ops or one.log.mapped_ops} ops on the chip"
        lines.append(_line(one.name, f"{ops}, compiled by edgetpu_compiler {one.log.version}; not measured here"))
    lines += [_line("repaired", f"{one.name}: {one.detail}") for one in variant.repairs if one.accepted]
    if provenance.get("dynamic"):
        from edgeloop_converters.dynamic.trade import trade_lines

        lines += ["", *trade_lines(provenance["dynamic"])]
    lines += gate_lines(result.gate.to_dict(), bool(result.recipe.goals.to_dict()), _doubts(result))
    saved = result.bundle
    lines.append("")
    if saved.path is not None:
        signed = f"signed by {saved.signed_by}" if saved.signed_by else "NOT signed: devices refuse it"
        lines.append(_line("bundle", f"{saved.path} (version {saved.version}, {signed})"))
    else:
        lines.append(_line("bundle", "not written, because a goal was missed (--keep-failed writes it)"))
    lines.append(_line("report", str(report)))
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.stages.items() if seconds >= 0.05)
    lines.append(_line("seconds", f"{result.seconds:.1f} ({stages})"))
    if saved.path is not None:
        lines += _compile_lines(result, saved.path)
        source, bundle = _source(result), shlex.quote(str(saved.path))
        unsigned = "" if saved.signed_by else " --allow-unsigned"
        lines += [
            "",
            "next:",
            f"  edgeloop run ssh://pi@raspberrypi.local {bundle} --source {source}{unsigned}",
            f"  edgeloop-agent run --bundle {bundle} --source {source}{unsigned} --sink jsonl:-",
        ]
    elif result.next_steps:
        lines += ["", "next, one of:", *(f"  {step}" for step in result.next_steps)]
    return "\n".join(lines)


def _latency_lines(profile: Profile | None) -> list[str]:
    if profile is None:
        return []
    p50, p95 = milliseconds(profile.p50_ms, profile.p95_ms)
    how = f"{profile.delegate}, {counted(profile.threads, 'thread')}, n = {profile.n}"
    return [_line("p50 / p95", f"{p50.removesuffix(' ms')} / {p95} on {profile.device}, {how}")]


def _doubts(result: ConvertResult) -> tuple[str, ...]:
    """What makes good numbers worthless: data or a contract that are wrong or guessed, and what was lost against the
    float model in any variant. Each thing once."""
    from edgeloop_converters.alarms import quality_alarms
    from edgeloop_converters.check_data.finding import SEVERE
    from edgeloop_converters.check_data.run import SAY

    goals = result.recipe.goals
    judged = [v for v in result.variants if not v.is_step]
    every = [t for v in judged for t in (v.quality.guessing, *quality_alarms(v.quality, goals, v.scheme))]
    severe = [finding.text for finding in result.findings if finding.severity == SEVERE]
    guessed = [warning for warning in result.warnings if SAY in warning]
    return tuple(dict.fromkeys(text for text in (*severe, *guessed, *every) if text))


def _compile_lines(result: ConvertResult, bundle: Path) -> list[str]:
    """Where the target has an Edge TPU that the bundle has no program for: how to make one."""
    from edgeloop.targets import load_target
    from edgeloop_converters.coral import NOT_COMPILED, compile_steps

    variant = result.variants[0]
    if result.compiled or variant.scheme == "float" or not load_target(result.recipe.target).has_edgetpu:
        return []
    steps = compile_steps(bundle, result.name, variant.name)
    return ["", f"{NOT_COMPILED}. On x86-64 Linux with Google's compiler:", *(f"  {step}" for step in steps)]


def assessment_text(result: AssessResult) -> str:
    """What `evaluate` prints."""
    subject = result.subject
    title = f"{subject.bundle_name} {subject.version}, {subject.name}" if subject.bundle_name else subject.file
    lines = [title, ""]
    lines += quality_lines(
        result.quality, subject.scheme, len(subject.model), result.float_bytes, _in_float(*result.ops_in_float),
        alone=result.is_alone,
    )  # fmt: skip
    scores = result.quality.scores
    if scores is not None:
        lines.append(
            _line("macro", f"precision {scores.precision:.2%}, recall {scores.recall:.2%}, F1 {scores.f1:.2%}")
        )
    for other in result.others:
        lines += ["", other.subject.name]
        remark, model = _in_float(*other.ops_in_float), other.subject.model
        lines += quality_lines(
            other.quality, other.subject.scheme, len(model), other.float_bytes, remark, alone=other.is_alone
        )
    lines += gate_lines(result.gate.to_dict(), bool(result.goals.to_dict()), result.warnings)
    if result.cascade is not None:
        from edgeloop_converters.cascades import cascade_lines

        lines += ["", *cascade_lines(result.cascade.to_dict())]
    worst = sorted(result.per_op, key=lambda e: e.snr_db)[:5]
    if worst:
        lines += [
            "",
            "ops whose outputs differ most from the float model's: signal-to-noise ratio (below 10 dB is poor) and the",
            "largest difference of a single value, in the output's own unit; errors of earlier ops are contained",
        ]
        lines += [f"  {e.index:>4} {e.name:<24} {e.snr_db:6.1f} dB  largest difference {e.max_abs:.3g}" for e in worst]
    return "\n".join(lines)


def quality_lines(
    quality: Quality, scheme: str, size: int, float_size: int | None, remark: str = "", *, alone: bool = False
) -> list[str]:
    """The table float | exported. remark: on the scheme. alone: the model is the float model itself, or a float one
    without any to compare it with.
    """
    metrics = quality.metrics
    has_float = not alone and (metrics.float_ is not None or float_size is not None)
    rows: list[Sequence[str]] = [
        ("", ("reference" if scheme == "float" else "float") if has_float else "", scheme, remark)
    ]
    samples = f"{metrics.n} samples"
    if metrics.n < _FEW and (metrics.metric != "agreement" or quality.agreement_kind == "top-1"):
        samples += f": one sample is {100 / metrics.n:.3g} points"
    if metrics.metric != "agreement":
        rows.append((metrics.metric, _percent(metrics.float_) if has_float else "", _percent(metrics.this), samples))
    elif quality.agreement_kind == "top-1":
        rows.append(("accuracy", "-" if has_float else "", "-", "not known without labels"))
    if not alone:
        kind = samples if metrics.metric == "agreement" else ""
        rows.append(("agreement", "", _percent(metrics.agreement), f"{quality.agreement_kind} {kind}".strip()))
    for name, agreement in quality.others.items():
        rows.append(("other output", "", _percent(agreement), f"{name}: 1 - relative error, judged by no goal"))
    rows.append(("size", "" if alone or float_size is None else _size(float_size), _size(size), ""))
    return [f"{a:<{_LABEL_WIDTH}}{b:>10}{c:>16}   {d}".rstrip() for a, b, c, d in rows]


def gate_lines(gate: Mapping[str, Any], has_goals: bool, warnings: Sequence[str] = ()) -> list[str]:
    """The verdict, what makes it doubtful, and every reason."""
    doubt = [f"  ! WARNING: {warning}" for warning in warnings]
    if not has_goals:
        return [_line("goals", "none were set (--max-drop 0.5pt, --min-agreement 0.96)"), *doubt]
    lines = [_line("goals", gate["verdict"]), *doubt]
    lines += [f"  - {reason}" for reason in gate["reasons"]]
    lines += [f"  ? {goal}" for goal in gate["unverified"]]
    return lines


def _source(result: ConvertResult) -> str:
    """The evaluation data as the agent's `--source`, quoted; made-up frames where it cannot read them."""
    data = result.recipe.evaluation or result.recipe.data or ""
    if Path(data).is_dir():
        return shlex.quote(f"folder:{data}")
    if Path(data).is_file() and data.lower().endswith(".npz"):
        return shlex.quote(f"npz:{data}")
    return "synthetic:"


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL_WIDTH}}{text}"


def _in_float(count: int, total: int) -> str:
    """For a model that is not what its scheme is called throughout."""
    return f"{count} of {total} ops in float" if count else ""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.2f} %"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count / 1000:.1f} kB"
