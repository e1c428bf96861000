"""`edgeloop_agent.open`: a bundle's model as a callable. A crash of the delegate is a crash of this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle import Bundle, TrustStore, Variant
from edgeloop.bundle.needs import check_runtime
from edgeloop.errors import DelegateError, UsageError
from edgeloop.runtime import DelegateFailure, RanOn, open_session, runtime_info
from edgeloop_agent.buckets import Buckets
from edgeloop_agent.pipeline import FALLBACK_ORDER, Pipeline, build_pipeline, self_test

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeloop.postprocess import ClassScore


@dataclass(frozen=True)
class Timing:
    """Milliseconds per stage of one inference."""

    preprocess_ms: float
    invoke_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        return self.preprocess_ms + self.invoke_ms + self.postprocess_ms


@dataclass(frozen=True)
class ModelResult:
    """One decoded inference. `top`: classes, best first; `values`: raw outputs (float32) of other models.

    ran_on: the delegate that really ran, as `Model.ran_on` tells in full. variant: which one, where shape buckets take
    turns.
    """

    label: str
    score: float | None
    top: tuple[ClassScore, ...]
    values: tuple[npt.NDArray[np.float32], ...]
    timing: Timing
    ran_on: str
    variant: str = ""


class Model:
    """Call it with a frame: uint8 BGR or gray image as `cv2.imread` gives it, or an array of the sample's shape.

    `ran_on`: what really runs; `variant`: of the bundle (the first shape bucket); `failures`: delegates of the order
    that could not be used, and why. For one thread.
    """

    def __init__(self, pipeline: Pipeline, variant: str, failures: tuple[DelegateFailure, ...]) -> None:
        self._pipeline = pipeline
        self.ran_on: RanOn = pipeline.session.ran_on
        self.variant = variant
        self.failures = failures

    def __call__(self, frame: Any) -> ModelResult:
        """Raises DataError for a frame that does not fit the contract, DelegateError when the delegate fails."""
        steps, clock = self._pipeline, time.perf_counter_ns
        if steps.ran:
            steps.ran.clear()  # nobody counts here
        t0 = clock()
        steps.set_input(steps.prepare(frame))
        t1 = clock()
        steps.invoke()
        t2 = clock()
        result = steps.decode(steps.collect())
        t3 = clock()
        timing = Timing((t1 - t0) * 1e-6, (t2 - t1) * 1e-6, (t3 - t2) * 1e-6)
        score = result.top[0].score if result.top else None
        return ModelResult(result.label, score, result.top, result.values, timing, self.ran_on.ran, result.variant)

    def close(self) -> None:
        self._pipeline.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def open_model(
    path: str | Path,
    *,
    delegates: Sequence[str],
    variant: str | None,
    threads: int,
    trust: Sequence[str | Path],
    allow_unsigned: bool,
) -> Model:
    """See `edgeloop_agent.open`."""
    store = TrustStore.from_paths(trust) if trust else TrustStore.default()
    bundle = Bundle.open(path, trust=store, allow_unsigned=allow_unsigned)
    check_runtime(bundle.manifest, runtime_info())
    manifest, golden = bundle.manifest, bundle.golden()
    contract, several = manifest.contract, manifest.buckets() if variant is None else ()
    failures: list[DelegateFailure] = []
    for delegate in tuple(delegates) or manifest.fallback_order(variant) or FALLBACK_ORDER:
        chosen = manifest.variant_for(str(delegate), variant)

        def open_one(variant: Variant, delegate: str = delegate) -> Pipeline:
            session = open_session(bundle.model(variant.name), delegate=delegate, threads=threads)
            self_test(session, contract, golden, variant.name)
            return build_pipeline(session, contract)

        try:
            pipeline = Buckets(several, contract, open_one).pipeline if several else open_one(chosen)
        except DelegateError as error:
            failures.append(DelegateFailure(str(delegate), error.message, error.hint or ""))
            continue
        return Model(pipeline, chosen.name, tuple(failures))
    if not failures:
        raise UsageError("no delegate was named", hint="for example xnnpack or cpu")
    raise DelegateError("; ".join(f.reason for f in failures), hint=failures[-1].fix or None)
