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
        at = [
            p for p in report["dynamic"]["points"]
            if (p["variant"], p["head"]) == (variant, exits.output) and p["threshold"] <= exits.threshold
        ]  # fmt: skip
        best = max(at, key=lambda p: float(p["threshold"]))
        return float(best["agreement"] if best["accuracy"] is None else best["accuracy"])
    except _UNREADABLE:
        return None
