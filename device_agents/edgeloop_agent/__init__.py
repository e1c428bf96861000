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

if TYPE_CHECKING:
    from edgeloop_agent.model import Model


def open(
    bundle: str | Path,
    *,
    delegates: Sequence[str] = (),
    variant: str | None = None,
    threads: int = 1,
    gallery: str | Path | None = None,
    trust: Sequence[str | Path] = (),
    allow_unsigned: bool = False,
) -> Model:
    """Verify a bundle and open one of its variants on the first delegate that works and passes the golden self-test.

    delegates: fallback order, default the variant's own list; gallery: known vectors of an embedding (.npz with
    `vectors` and `labels`) instead of the contract's; trust: key files or folders, default this machine's.
    Raises RefusedError (signature, damage), DelegateError (none works), UsageError.
    """
    from edgeloop_agent.model import open_model

    return open_model(
        bundle, delegates=delegates, variant=variant, threads=threads, gallery=gallery, trust=trust,
        allow_unsigned=allow_unsigned,
    )  # fmt: skip
