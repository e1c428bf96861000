"""The flags of gate, governor and cascade, in one table: for `edgeloop-agent run`, its config, and `edgeloop run`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeloop.errors import UsageError
from edgeloop_agent.activation.settings import PREFERENCES, check_range, parse_cascade, parse_exit_head

GATE, GOVERNOR = "gate", "governor"
_NEEDS = {GATE: "--gate", GOVERNOR: "--latency-budget, --temperature-limit or --max-stride"}


@dataclass(frozen=True)
class Flag:
    """`field`: of AgentConfig, and the flag with - for _. kind: bool is a switch. part: refused where that is off.

    bounds: lowest and highest value, with its unit.
    """

    field: str
    help: str
    kind: type = float
    metavar: str = ""
    bounds: tuple[float, float] | None = None
    unit: str = ""
    part: str = ""
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "--" + self.field.replace("_", "-")


FLAGS = (
    Flag("gate", "frames that look like an earlier one get its result, without inference", bool),
    Flag("audit_every", "of those, infer every N-th to see what it costs (default: 20)", int, "N", (1, 1_000_000),
         part=GATE),
    Flag("max_difference", "share of other results that is borne; the gate follows it (default: 0.01)",
         metavar="SHARE", bounds=(0.0001, 0.5), part=GATE),
    Flag("max_age", "a result is not reused for longer (default: 10)", metavar="S", bounds=(0.01, 86400),
         unit=" seconds", part=GATE),
    Flag("latency_budget", "the governor keeps the 95th percentile of total latency below it, with lighter variants",
         metavar="MS", bounds=(0.01, 60_000), unit=" ms"),
    Flag("temperature_limit", "and the CPU below this temperature", metavar="C", bounds=(20, 120),
         unit=" degrees C"),
    Flag("max_stride", "it may infer on every N-th frame only (default: 1, on all)", int, "N", (1, 1024)),
    Flag("accuracy_floor", "it never runs a variant whose measured metric is lower (or was not measured)",
         metavar="FRACTION", bounds=(0, 1), part=GOVERNOR),
    Flag("prefer", "what it keeps longer: rate (the default) or accuracy", str, choices=PREFERENCES, part=GOVERNOR),
    Flag("dwell", "at most one switch in so many seconds (default: 5)", metavar="S", bounds=(0.5, 3600),
         unit=" seconds", part=GOVERNOR),
    Flag("quiet", "what an input without motion and news deserves at least, of 1 (default: 0.8)", metavar="SHARE",
         bounds=(0.01, 1), part=GOVERNOR),
    Flag("steepness", "lambda of the activation curve: the smaller, the more a quiet input weighs (default: 1)",
         metavar="LAMBDA", bounds=(0.25, 8), part=GOVERNOR),
    Flag("midpoint", "t0 of the activation curve, ln(1 / load) where half the activity is allowed (default: 0)",
         metavar="T0", bounds=(-2, 2), part=GOVERNOR),
    Flag("cascade", "ask a light variant first, and the main one where its confidence is lower", str,
         "[VARIANT:]CONFIDENCE"),
    Flag("exit_head", "stop at this output of the model where its confidence is at least this (default: the one that "
         "the bundle proposes)", str, "OUTPUT[:CONFIDENCE]"),
    Flag("warm_memory", "memory for variants that wait opened (default: 64)", metavar="MIB", bounds=(0, 65536),
         unit=" MiB"),
    Flag("record_load", "write what the governor sees to load.jsonl in the state folder, for `simulate`", bool),
)  # fmt: skip

OF_A_TRIAL = tuple(flag for flag in FLAGS if flag.field != "record_load")
"""Without what is only of use where the state folder stays."""
NUMBERS: Mapping[str, type] = {flag.field: flag.kind for flag in FLAGS if flag.kind in (int, float)}
SWITCHES = frozenset(flag.field for flag in FLAGS if flag.kind is bool)


def add_activation_flags(parser: Any, flags: Sequence[Flag] = FLAGS) -> None:
    """parser: or a group of one. What is not given is None, a switch False."""
    for flag in flags:
        if flag.kind is bool:
            parser.add_argument(flag.name, action="store_true", help=flag.help)
        elif flag.choices:
            parser.add_argument(flag.name, choices=flag.choices, help=flag.help)
        else:
            parser.add_argument(flag.name, metavar=flag.metavar, type=flag.kind, help=flag.help)


def activation_arguments(args: argparse.Namespace) -> tuple[str, ...]:
    """What was given of them, as a command line for another agent."""
    words: list[str] = []
    for flag in FLAGS:
        value = getattr(args, flag.field, None)
        if value is None or value is False:
            continue
        words += [flag.name] if value is True else [flag.name, str(value)]
    return tuple(words)


def check_activation(values: Mapping[str, Any], defaults: Mapping[str, Any], *, on: Mapping[str, bool]) -> None:
    """values, defaults: by field; on: whether a part is. Raises UsageError: out of bounds, or without effect."""
    for flag in FLAGS:
        value = values[flag.field]
        if flag.choices and value not in flag.choices:
            raise UsageError(f"{flag.field} must be {' or '.join(flag.choices)}, got '{value}'")
        if flag.bounds is not None:
            check_range(flag.field, value, *flag.bounds, flag.unit)
    if values["cascade"] is not None:
        parse_cascade(values["cascade"])
    if values["exit_head"] is not None:
        parse_exit_head(values["exit_head"])
        if values["cascade"] is not None:
            raise UsageError("cascade and exit_head together are not possible", hint="leave out one of them")
    for flag in FLAGS:
        if flag.part and not on[flag.part] and values[flag.field] != defaults[flag.field]:
            raise UsageError(
                f"{flag.field} is a setting of the {flag.part}, and the {flag.part} is off",
                hint=f"add {_NEEDS[flag.part]} (or the key with _), or leave it out",
            )
