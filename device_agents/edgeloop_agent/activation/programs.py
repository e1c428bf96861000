"""What a bundle offers the governor: its variants as programs with what they cost here, and a cascade of two."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.errors import ConfigError
from edgeloop.postprocess.confidence import KINDS as CONFIDENT_KINDS
from edgeloop_agent.activation.cache import WarmModels
from edgeloop_agent.activation.cascade import FIRST_SHARE
from edgeloop_agent.activation.levels import Program
from edgeloop_agent.activation.proposals import exit_metric, read_report
from edgeloop_agent.activation.second_step import Cost, in_two_steps
from edgeloop_agent.activation.settings import ActivationSettings, CascadeSettings
from edgeloop_agent.activation.steering import Activation
from edgeloop_agent.worker.board_watch import Board, BoardWatch

if TYPE_CHECKING:
    from edgeloop.bundle import Variant
    from edgeloop.bundle.manifest import Manifest
    from edgeloop_agent.worker.pipeline import Pipeline

_COST_RUNS = 3
_MODEL_COPIES = 2  # the file, and its weights as the kernels want them
_MODEL_BYTES = 1 << 20  # an interpreter beside its weights


def open_activation(
    settings: ActivationSettings,
    manifest: Manifest,
    base: Variant,
    opened: Pipeline,
    open_one: Callable[[Variant], Pipeline],
    *,
    is_bucketed: bool,
    period_s: float,
    report: Path | None = None,
    board: Board | None = None,
) -> Activation:
    """For a bundle: `opened` is its variant `base` (or all its shape buckets together), open_one opens others. report:
    the bundle's, which may know what a cascade of two is worth.

    Raises ConfigError where settings and bundle do not fit.
    """
    if settings.gate is not None and opened.wanted.others:
        raise ConfigError(
            "the gate compares one picture or array; this model has several inputs", hint="leave out gate"
        )
    if settings.cascade is not None and manifest.contract.output.kind not in CONFIDENT_KINDS:
        raise ConfigError(
            f"cascade: an output of kind {manifest.contract.output.kind} does not say how sure it is",
            hint=f"it is for {' and '.join(CONFIDENT_KINDS)}; leave out cascade",
        )
    variants = {v.name: v for v in manifest.variants if v.name == base.name or (not is_bucketed and not v.input_shapes)}
    bytes_of = {v.name: _MODEL_COPIES * v.bytes + _MODEL_BYTES for v in variants.values()}
    exits = settings.exit_head
    costs = {base.name: _cost(opened)}

    def open_measured(name: str) -> Pipeline:
        pipeline = open_one(variants[name])
        costs[name] = _cost(pipeline)
        return pipeline

    models = WarmModels(open_measured, bytes_of, settings.warm_bytes)
    models.put(base.name, opened)
    is_measured = settings.law is not None or bool(settings.record)
    several = is_measured or settings.cascade is not None
    for variant in variants.values():
        if variant.name == base.name or not several:
            continue
        if models.fits(variant.name):
            models.open_quietly(variant.name)
        else:  # a guess until it is opened
            costs[variant.name] = Cost(costs[base.name].whole_ms * _relative_cost(variant, base))
    programs = [_program(variants[name], cost) for name, cost in costs.items()]
    if exits is not None and settings.law is not None and settings.law.accuracy_floor is not None:
        metric = exit_metric(exits, base.name, read_report(report))
        if metric is None:
            raise ConfigError(
                f"accuracy_floor: what {base.name} is worth with exit head '{exits.output}' was not measured",
                hint="make the bundle with: edgeloop convert ... --exits SHARE --eval DATA",
            )
        programs[0] = replace(programs[0], metric=metric)
    if opened.second is not None:
        programs[0] = in_two_steps(programs[0], costs[base.name], opened.second.share)
    parts: dict[str, tuple[str, ...]] = {p.name: (p.name,) for p in programs}
    if settings.cascade is not None:
        light = _light_of(settings.cascade, programs)
        metric = _cascade_metric(light, programs[0], settings.cascade.threshold, report)
        if metric is None and settings.law is not None and settings.law.accuracy_floor is not None:
            raise ConfigError(
                f"accuracy_floor: what {light.name} before {programs[0].name} is worth was not measured",
                hint="make the bundle with: edgeloop bundle create ... --eval DATA",
            )
        programs[0] = _cascade(light, programs[0], metric)
        parts[programs[0].name] = (light.name, base.name)
    if board is None and is_measured:
        board = BoardWatch()
    return Activation(settings, models, programs, parts, costs, period_s=period_s, board=board)


def _program(variant: Variant, cost: Cost) -> Program:
    metrics = variant.metrics
    metric = None if metrics is None else metrics.agreement if metrics.this is None else metrics.this
    return Program(variant.name, cost.whole_ms, cost.whole_ms, metric)


def _light_of(settings: CascadeSettings, programs: Sequence[Program]) -> Program:
    """The variant that is asked before `programs[0]`. Raises ConfigError."""
    heavy = programs[0]
    others = {p.name: p for p in programs[1:]}
    if settings.variant and settings.variant not in others:
        raise ConfigError(
            f"cascade: the bundle has no usable variant '{settings.variant}' beside {heavy.name}",
            hint="it has: " + (", ".join(others) or "no other"),
        )
    candidates = [others[settings.variant]] if settings.variant else sorted(others.values(), key=lambda p: p.work_ms)
    if not candidates or candidates[0].work_ms >= heavy.work_ms:
        raise ConfigError(
            f"cascade: no variant of the bundle is lighter than {heavy.name}",
            hint="a cascade needs a light variant to ask first",
        )
    return candidates[0]


def _cascade_metric(light: Program, heavy: Program, threshold: float, report: Path | None) -> float | None:
    """What was measured at the next lower threshold, None where nothing was."""
    try:
        known = json.loads(report.read_bytes())["cascade"] if report is not None else {}
        if (known["light"], known["heavy"]) == (light.name, heavy.name):
            lower = [p for p in known["points"] if p["threshold"] is not None and p["threshold"] <= threshold]
            at = max(lower, key=lambda p: float(p["threshold"]))
            return float(at["agreement"] if at["accuracy"] is None else at["accuracy"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass  # a bundle without such a report, or with one of a later version
    return None


def _cascade(light: Program, heavy: Program, metric: float | None) -> Program:
    plain = Program(f"{light.name}+{heavy.name}", 0.0, 0.0, metric)
    return in_two_steps(plain, Cost(light.latency_ms, heavy.latency_ms), FIRST_SHARE)


def _cost(pipeline: Pipeline) -> Cost:
    """On whatever its inputs hold; of a model that may stop early both parts, because whether it would stop on that
    says nothing."""
    if pipeline.second is None:
        return Cost(_best_ms(pipeline.invoke))
    from edgeloop.runtime.joined import JoinedSession

    joined = pipeline.session
    assert isinstance(joined, JoinedSession)
    return Cost(_best_ms(joined.invoke_first), _best_ms(joined.invoke_second))


def _best_ms(run: Callable[[], None]) -> float:
    """Of a few runs."""
    best = float("inf")
    for _ in range(_COST_RUNS):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best * 1e3


def _relative_cost(variant: Variant, base: Variant) -> float:
    """By what was measured when the bundle was made, else by size."""
    if variant.profile is not None and base.profile is not None and base.profile.p50_ms > 0:
        return variant.profile.p50_ms / base.profile.p50_ms
    return variant.bytes / max(1, base.bytes)
