"""Which stages can be asked for."""

from __future__ import annotations

from edgeloop.errors import DataError
from edgeloop.telemetry.reading import Latency
from edgeloop.telemetry.report import STAGES


def check_stage(stage: str, found: Latency) -> None:
    """found: of all stages. DataError for one that is none of ours and in no report: any name may be one, so it is most
    likely a slip."""
    known = list(dict.fromkeys([*STAGES, *(key[0] for key in found)]))
    if stage not in known:
        raise DataError(f"no report has a stage {stage!r:.80}; there are: {', '.join(known)}")
