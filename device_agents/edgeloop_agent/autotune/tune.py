"""`edgeloop-agent autotune` as a function: what may be tried, measuring it, keeping the result."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeloop.bundle import StagedBundle, Variant
from edgeloop.bundle.manifest import HOST_DELEGATES, Manifest
from edgeloop.errors import DelegateError, EdgeloopError, UsageError
from edgeloop.runtime.delegates import parse_delegate
from edgeloop_agent.autotune.halving import Candidate, Measured, best, candidates, thread_counts
from edgeloop_agent.autotune.measure import Measurement
from edgeloop_agent.autotune.tuned import Key, Tuned, find, is_open, save
from edgeloop_agent.config import AgentConfig
from edgeloop_agent.worker.pipeline import FALLBACK_ORDER

AT_START_S = 60.0
SHORTEST_BUDGET_S, LONGEST_BUDGET_S = 1.0, 3600.0


@dataclass(frozen=True)
class Tuning:
    """What was measured. `default`: what runs without tuning."""

    key: Key
    tuned: Tuned
    default: Measured
    measured: tuple[Measured, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """`autotune --json`."""
        rows = [_row(m) for m in self.measured]
        return {
            "key": asdict(self.key),
            "best": asdict(self.tuned),
            "default": _row(self.default),
            "candidates": rows,
            "seconds": round(self.seconds, 2),
        }


def tune(
    staged: StagedBundle,
    state: Path,
    *,
    objective: str,
    budget_s: float,
    note: Callable[[str], None],
    delegates: Sequence[str] = (),
    accuracy_floor: float | None = None,
) -> Tuning:
    """Measure for about `budget_s` seconds and keep the best in the folder `state`, which this process has locked.

    delegates: only these. accuracy_floor: variants that measured at least this metric may win; without it none that
    is less accurate than the bundle's first. Raises DelegateError where nothing runs, UsageError, DeviceError.
    """
    if not SHORTEST_BUDGET_S <= budget_s <= LONGEST_BUDGET_S:
        raise UsageError(f"time budget must be {SHORTEST_BUDGET_S:g} to {LONGEST_BUDGET_S:g} seconds, got {budget_s:g}")
    began = time.monotonic()
    tried = _candidates(staged.manifest, delegates, accuracy_floor)
    measurement = Measurement(staged.path, tried, note)
    measurement.run(objective, budget_s)
    winner = best(measurement.measured, objective)
    default = next((m for m in measurement.measured if not m.failed and m.candidate.threads == 1), winner)
    if winner is None or default is None:
        reasons = dict.fromkeys(f"{m.candidate}: {m.failed or 'not measured'}" for m in measurement.measured)
        raise DelegateError("; ".join(reasons), hint="edgeloop-agent doctor checks the delegates")
    chosen = winner.candidate
    # The memory objective leaves times alone; so does a time that was over after the first look.
    times = [0.0 if not m.times_ns else m.p50_ms for m in (winner, default)]
    p50_ms, default_p50_ms = (round(ms, 5) for ms in times)
    made_s = round(time.time(), 1)
    tuned = Tuned(objective, chosen.variant, chosen.delegate, chosen.threads, p50_ms, default_p50_ms, made_s)
    key = Key.here(staged.path)
    save(state, key, tuned)
    return Tuning(key, tuned, default, tuple(measurement.measured), time.monotonic() - began)


def tune_if_new(config: AgentConfig, staged: StagedBundle, note: Callable[[str], None]) -> None:
    """Measure where a config asks for it and nothing is known for this bundle, board and runtime. What goes wrong is
    told, and the agent starts without."""
    if config.autotune is None or not is_open(config) or find(config.state, Key.here(staged.path))[0] is not None:
        return
    note(f"autotune: measuring for {config.autotune}, {AT_START_S:.0f} s at most")
    try:
        tune(staged, config.state, objective=config.autotune, budget_s=AT_START_S, note=lambda _text: None)
    except EdgeloopError as error:
        note(f"autotune: {error.message}")


def _candidates(manifest: Manifest, delegates: Sequence[str], accuracy_floor: float | None) -> tuple[Candidate, ...]:
    wanted = [str(parse_delegate(text)) for text in delegates]
    variants = [(v.name, wanted or v.delegates or FALLBACK_ORDER) for v in _eligible(manifest, accuracy_floor)]
    is_host = {d for _, each in variants for d in each if parse_delegate(d).name in HOST_DELEGATES}
    return candidates(variants, thread_counts(os.cpu_count() or 1), is_host)


def _eligible(manifest: Manifest, accuracy_floor: float | None) -> list[Variant]:
    """The bundle's first variant, the one behind it where its accelerator is missing, and those accurate enough."""
    first = manifest.variants[0]
    floor = _metric(first) if accuracy_floor is None else accuracy_floor
    found = [first, manifest.variant_for("cpu")]
    if not manifest.buckets():
        metrics = ((v, _metric(v)) for v in manifest.variants if not v.input_shapes)
        found += [v for v, metric in metrics if metric is not None and floor is not None and metric >= floor]
    return list({v.name: v for v in found}.values())


def _metric(variant: Variant) -> float | None:
    metrics = variant.metrics
    if metrics is None:
        return None
    return metrics.agreement if metrics.this is None else metrics.this


def _row(m: Measured) -> dict[str, Any]:
    c = m.candidate
    return {
        "variant": c.variant,
        "delegate": c.delegate,
        "threads": c.threads,
        "ran": m.ran,
        "n": len(m.times_ns),
        "p50_ms": round(m.p50_ms, 5) if m.times_ns else None,
        "mean_ms": round(m.mean_ms, 5) if m.times_ns else None,
        "load_ms": m.load_ms,
        "rss_bytes": m.rss_bytes or None,
        "failed": m.failed,
    }


def _rank(row: dict[str, Any]) -> tuple[bool, float, int]:
    return row["failed"] != "", row["p50_ms"] or math.inf, row["rss_bytes"] or 0


def tuning_text(tuning: Tuning) -> str:
    """A table, best first, and what was chosen."""
    lines = [f"{tuning.key.board}, {tuning.key.cores} cores, {tuning.key.runtime}, {tuning.seconds:.0f} s"]
    lines.append(f"{'variant':<16} {'delegate':<16} {'threads':>7} {'p50 ms':>9} {'mean ms':>9} {'MiB':>5} {'n':>6}")
    for r in sorted(map(_row, tuning.measured), key=_rank):
        head = f"{r['variant']:<16} {r['delegate']:<16} {r['threads']:>7}"
        times = [f"{r[key]:>9.3f}" if r[key] is not None else f"{'-':>9}" for key in ("p50_ms", "mean_ms")]
        size = f"{r['rss_bytes'] / 2**20:>5.0f}" if r["rss_bytes"] else f"{'-':>5}"
        lines.append(f"{head} {r['failed']}" if r["failed"] else f"{head} {' '.join(times)} {size} {r['n']:>6}")
    best = tuning.tuned
    gain = f", {best.default_p50_ms / best.p50_ms:.2f}x the default's speed" if best.p50_ms else ""
    lines.append(f"kept: {best}{gain}")
    lines.append("the agent takes it where its config and flags leave variant, delegate and threads open")
    return "\n".join(lines)
