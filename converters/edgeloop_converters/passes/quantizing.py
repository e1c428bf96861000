"""`quantize`: a float graph into one of `--scheme`, as the last pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import DataError, UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop_converters.passes.figures import figures
from edgeloop_converters.passes.report import PassReport
from edgeloop_converters.passes.samples import Given, as_samples

Array = npt.NDArray[Any]
EFFORTS = ("fast", "default", "best")


def quantize(
    graph: Graph,
    *,
    samples: Given = (),
    scheme: str = "int8",
    method: str = "grouped",
    effort: str = "default",
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
    **options: str | int,
) -> tuple[Graph, PassReport]:
    """What a conversion does last. The graph that came in is not changed.

    samples: one float array [1, ...] per input each, or an array [samples, ...]: what ranges are measured on; needed
    unless the scheme's activations stay float. scheme: a name of `edgeloop_converters.schemes.SCHEMES`, with options of
    its own. method: of calibration. effort: "fast" leaves out the refinement of ranges, rounding and biases, which
    schemes with int8 activations can have. Raises UsageError (a name that is not known, a scheme that changes nothing)
    and DataError (no samples, or some that do not fit).
    """
    from edgeloop_converters.schemes import check_options, scheme_named

    chosen = scheme_named(scheme)
    check_options(chosen, options)
    if chosen.load is None:
        raise UsageError(f"scheme {chosen.name} leaves the model as it is", hint="quantize to another one")
    if effort not in EFFORTS:
        raise UsageError(f"effort {effort!r} is not known", hint=f"one of: {', '.join(EFFORTS)}")
    if chosen.calibrated and not len(samples):
        raise DataError(f"{chosen.name} needs samples to measure ranges on", hint="samples=[(array [1, ...],), ...]")
    from edgeloop_converters.calibration import calibrate
    from edgeloop_converters.schemes.job import Job

    began, model = time.perf_counter(), graph.write()
    samples = as_samples(graph, samples)
    found = (
        calibrate(model, samples, method=method, threads=threads, progress=progress, total=len(samples))
        if chosen.calibrated
        else None
    )

    def again() -> Iterator[tuple[Array, ...]]:
        return (tuple(sample) for sample in samples)

    packed = chosen.load()(Job(model, found, again, len(samples), options=options)).tflite
    told = ""
    if found is not None and chosen.refined and effort != "fast":
        from edgeloop_converters.passes.flips import judge_by_flips
        from edgeloop_converters.passes.refine import refine, samples_wanted

        order = np.random.default_rng(seed).permutation(len(samples))[: samples_wanted(len(samples), effort)]
        seen = [tuple(samples[i]) for i in order]
        refined = refine(model, packed, found, seen, effort=effort, seed=seed, threads=threads, progress=progress)
        packed, reports = judge_by_flips(model, packed, refined, again())
        told = "".join(f", {report.name}" for report in reports if report.accepted and report.name != "decisions")
    made = Graph.read(packed)
    detail = f"{chosen.name}{f', {len(samples)} samples' if found is not None else ''}{told}"
    return made, PassReport("quantization", detail, time.perf_counter() - began, figures(graph), figures(made))
