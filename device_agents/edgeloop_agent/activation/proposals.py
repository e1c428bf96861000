"""What a bundle's report knows of stopping at an exit head: the confidence that was chosen, and what that is worth.

Reports of other versions, or none, know nothing; a report is data and never the reason of a failure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeloop.errors import ConfigError
from edgeloop_agent.activation.settings import ExitSettings

_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def read_report(path: Path | None) -> Mapping[str, Any]:
    """{} where there is none that can be read."""
    try:
        found = json.loads(path.read_bytes()) if path is not None else {}
        return found if isinstance(found, dict) else {}
    except _UNREADABLE:
        return {}


def with_proposal(exits: ExitSettings, variant: str, report: Mapping[str, Any]) -> ExitSettings:
    """Settings with a confidence, the bundle's own where they said none, and with the share of inputs that the variant
    is expected to go on with there. Raises ConfigError where the bundle has no confidence."""
    exits = with_threshold(exits, report)
    try:
        above = [
            (float(p["threshold"]), float(p["stopped"])) for p in _points(report, variant, exits)
            if p["threshold"] >= exits.threshold
        ]  # fmt: skip
        return replace(exits, expected_share=min(1.0, max(0.0, 1.0 - min(above)[1])))
    except _UNREADABLE:
        return exits


def with_threshold(exits: ExitSettings, report: Mapping[str, Any]) -> ExitSettings:
    """Settings that say a confidence, the bundle's own where they said none. Raises ConfigError where it has none."""
    if exits.threshold is not None:
        return exits
    try:
        chosen = {str(one["head"]): one["threshold"] for one in report["dynamic"]["exits"]}
        return replace(exits, threshold=min(1.0, float(chosen[exits.output])))
    except _UNREADABLE:
        raise ConfigError(
            f"exit head '{exits.output}': the bundle proposes no confidence for it",
            hint=f"say one: {exits.output}:0.9; `edgeloop evaluate BUNDLE --exit-head {exits.output}` measures them",
        ) from None


def exit_metric(exits: ExitSettings, variant: str, report: Mapping[str, Any]) -> float | None:
    """What was measured of the variant at the next lower confidence of this head, None where nothing was."""
    try:
        at = [p for p in _points(report, variant, exits) if p["threshold"] <= exits.threshold]
        best = max(at, key=lambda p: float(p["threshold"]))
        return float(best["agreement"] if best["accuracy"] is None else best["accuracy"])
    except _UNREADABLE:
        return None


def _points(report: Mapping[str, Any], variant: str, exits: ExitSettings) -> list[Mapping[str, Any]]:
    """What was measured of the variant and this head, at some confidences."""
    return [p for p in report["dynamic"]["points"] if (p["variant"], p["head"]) == (variant, exits.output)]
