"""`edgeloop-agent simulate`: a recorded load under other settings of the governor."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeloop.errors import EXIT_DONE, UsageError
from edgeloop.mains import json_text
from edgeloop_agent.activation.flags import FLAGS, add_activation_flags

EPILOG = """examples:
  edgeloop-agent run --bundle ic.bundle --source video:door.mp4 --rate 20 --record-load --state s/
  edgeloop-agent simulate --trace s/load.jsonl --latency-budget 50 --max-stride 4
  edgeloop-agent simulate --trace s/load.jsonl --json

Settings that are not given are those of the recorded run. Costs of variants are those measured there."""

_LAW_FIELDS = {
    "latency_budget": "latency_budget_ms", "temperature_limit": "temperature_limit_c", "max_stride": "max_stride",
    "accuracy_floor": "accuracy_floor", "prefer": "prefer", "dwell": "dwell_s", "quiet": "quiet",
    "steepness": "steepness", "midpoint": "midpoint",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trace", metavar="FILE", type=Path, required=True, help="load.jsonl, from --record-load")
    add_activation_flags(parser, [flag for flag in FLAGS if flag.field in _LAW_FIELDS])


def run(args: argparse.Namespace) -> int:
    done = simulated(args)
    print(json_text(done) if args.json else simulation_text(done), flush=True)
    return EXIT_DONE


def simulated(args: argparse.Namespace) -> dict[str, Any]:
    """{"trace", "host", "seconds", "steps", "fixed": {...}, "governed": {...}}. Raises UsageError, DataError,
    ConfigError."""
    from edgeloop_agent.activation.levels import Law, ladder
    from edgeloop_agent.activation.load_trace import read_trace
    from edgeloop_agent.activation.replay import Course, replay
    from edgeloop_agent.activation.settings import check_range

    for flag in FLAGS:
        if flag.field in _LAW_FIELDS and flag.bounds is not None:
            check_range(flag.field, getattr(args, flag.field), *flag.bounds, flag.unit)
    trace = read_trace(args.trace)
    given = {law_field: getattr(args, name) for name, law_field in _LAW_FIELDS.items()}
    law = replace(trace.law or Law(), **{k: v for k, v in given.items() if v is not None})
    if law.latency_budget_ms is None and law.temperature_limit_c is None and law.max_stride == 1:
        raise UsageError("the trace was recorded without a governor", hint="give a limit, as --latency-budget 50")
    levels = ladder(trace.programs, law)

    def told(course: Course) -> dict[str, Any]:
        p95s = [p for p in course.p95_ms if p]
        return {
            "held": course.held if law.latency_budget_ms is not None else None,
            "p95_ms": statistics.median(p95s) if p95s else None,
            "metric": course.metric,
            "levels": course.shares,
            "switches": [
                {"time_s": round(t, 3), "detail": why}
                for (t, _, _), why in zip(course.switches, course.reasons, strict=True)
            ],
        }

    return {
        "trace": str(args.trace),
        "host": trace.host,
        "seconds": round(trace.seconds, 3),
        "steps": len(trace.steps),
        "fixed": told(replay(trace, levels, law, governed=False)),
        "governed": told(replay(trace, levels, law)),
    }


def simulation_text(done: dict[str, Any]) -> str:
    """A table of the two sides, and the switches."""
    lines = [
        f"{done['trace']}: {done['seconds']:.0f} s recorded on {done['host']}, {done['steps']} steps",
        f"{'':<9} {'held':>7} {'median p95 ms':>14} {'switches':>9} {'metric':>7}  time at each level",
    ]
    for side in ("fixed", "governed"):
        at = done[side]
        held = "-" if at["held"] is None else f"{at['held']:.1%}"
        p95 = "-" if at["p95_ms"] is None else f"{at['p95_ms']:.3g}"
        metric = "-" if at["metric"] is None else f"{at['metric']:.3f}"
        shares = "; ".join(f"{name} {share:.0%}" for name, share in at["levels"].items())
        lines.append(f"{side:<9} {held:>7} {p95:>14} {len(at['switches']):>9} {metric:>7}  {shares}")
    lines += [f"{s['time_s']:>8.1f} s  {s['detail']}" for s in done["governed"]["switches"]]
    return "\n".join(lines)
