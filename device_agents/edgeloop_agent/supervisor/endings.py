"""How a run ends, and when an end that looks clean is none. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeloop.errors import (
    EXIT_DEVICE,
    EXIT_REFUSED,
    EXIT_USAGE,
    DataError,
    DeviceError,
    EdgeloopError,
    GoalNotMetError,
    RefusedError,
    UsageError,
)

_ERRORS: Mapping[int, type[EdgeloopError]] = {
    EXIT_USAGE: UsageError,
    EXIT_DEVICE: DeviceError,
    EXIT_REFUSED: RefusedError,
}


@dataclass(frozen=True)
class End:
    """How a run ended: reason "end" (of the source), "count", "stop" (a signal) or "failed", with the error."""

    reason: str
    error: EdgeloopError | None = None


def failed(message: Mapping[str, Any]) -> End:
    """The end that a worker's "fault" message asks for: no other worker would do better."""
    kind = _ERRORS.get(message["exit_code"], EdgeloopError)
    return End("failed", kind(str(message["message"]), hint=message["hint"]))


def judged(end: End, totals: Mapping[str, int], first_bad_frame: str) -> End:
    """The end, or a failure where nothing was done. totals: "frames", "inferences", "errors" of the whole run."""
    if end.reason not in ("end", "count"):
        return end
    nothing = _misfit(totals, first_bad_frame) or _nothing_done(totals)
    return end if nothing is None else End("failed", nothing)


def _misfit(totals: Mapping[str, int], first_bad_frame: str) -> DataError | None:
    """The source is over and not one of its frames could be used: nothing was done, which is no success."""
    frames = totals["frames"]
    if totals["inferences"] or not totals["errors"] or totals["errors"] != frames:
        return None
    what = (
        "the only frame could not be used" if frames == 1 else f"none of the {frames} frames could be used, the first"
    )
    return DataError(
        f"{what}: {first_bad_frame}",
        hint="where what it gives is whole: edgeloop bundle inspect BUNDLE shows what the model takes",
    )


def _nothing_done(totals: Mapping[str, int]) -> GoalNotMetError | None:
    """Frames were taken and none came to a result: workers died with them."""
    if totals["inferences"] or not totals["frames"]:
        return None
    return GoalNotMetError(
        f"no inference came out of {totals['frames']} frames: every worker died or failed before one",
        hint="the lines above say what each worker died of",
    )
