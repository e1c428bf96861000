"""The device agent. As a library: one model in this process, without supervisor and telemetry.

import edgeloop_agent

with edgeloop_agent.open("ic.bundle", delegates=["edgetpu", "xnnpack"]) as model:
    result = model(frame)
    print(result.label, result.timing.invoke_ms, result.ran_on)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop.postprocess import Anomaly as Anomaly
    from edgeloop.postprocess import Box as Box
    from edgeloop.postprocess import ClassScore as ClassScore
    from edgeloop.postprocess import Detection as Detection
    from edgeloop.postprocess import Keypoint as Keypoint
    from edgeloop.postprocess import Mask as Mask
    from edgeloop.postprocess import Result as Result
    from edgeloop_agent.model import Model as Model
    from edgeloop_agent.model import ModelResult as ModelResult
    from edgeloop_agent.model import Timing as Timing
    from edgeloop_agent.streaming import StreamItem as StreamItem

_RESULTS = ("Anomaly", "Box", "ClassScore", "Detection", "Keypoint", "Mask", "Result")
_HOMES = {
    "Model": "edgeloop_agent.model",
    "ModelResult": "edgeloop_agent.model",
    "StreamItem": "edgeloop_agent.streaming",
    "Timing": "edgeloop_agent.model",
    **dict.fromkeys(_RESULTS, "edgeloop.postprocess"),
}

__all__ = ["Model", "ModelResult", "StreamItem", "Timing", "open", *_RESULTS]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)


def open(
    bundle: str | Path,
    *,
    delegates: Sequence[str] = (),
    variant: str | None = None,
    threads: int = 1,
    gallery: str | Path | None = None,
    trust: Sequence[str | Path] = (),
    allow_unsigned: bool = False,
    exit_head: str | None = None,
) -> Model:
    """Verify a bundle and open one of its variants on the first delegate that works and passes the golden self-test.

    delegates: fallback order, default the variant's own list; gallery: known vectors of an embedding (.npz with
    `vectors` and `labels`) instead of the contract's; trust: key files or folders, default this machine's;
    exit_head: "OUTPUT:CONFIDENCE", an output at which the model stops where it is so sure (`result.variant` says so);
    "OUTPUT": from the confidence that the bundle proposes.
    Raises RefusedError (signature, damage), DelegateError (none works), UsageError.
    """
    from edgeloop_agent.model import open_model

    return open_model(
        bundle, delegates=delegates, variant=variant, threads=threads, gallery=gallery, trust=trust,
        allow_unsigned=allow_unsigned, exit_head=exit_head,
    )  # fmt: skip
