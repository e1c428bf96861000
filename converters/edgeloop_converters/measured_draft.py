"""Finished models measured on labeled data before they are packed: metrics of each, and the trade of a cascade."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgeloop.bundle import BundleDraft, Metrics
from edgeloop.progress import Progress
from edgeloop_converters.cascades import measure_answers, trade
from edgeloop_converters.contracts import fit_data
from edgeloop_converters.data import open_data


def with_measurements(
    draft: BundleDraft, data: str, *, not_run: tuple[str, ...] = (), progress: Progress | None = None
) -> BundleDraft:
    """The draft with metrics for each variant and, of several, a report with the trade of the fastest before the first.

    Without labels the metric is agreement with the first variant. not_run: variants that this machine cannot run.
    Raises UsageError where the contract is no classification, DataError.
    """
    models = {v.name: v.model for v in draft.variants if v.name not in not_run and not v.input_shapes}
    first = next(iter(models))
    dataset = fit_data(draft.contract, models[first], open_data(data))
    indices = np.arange(len(dataset), dtype=np.int64)
    answers = measure_answers(models, draft.contract, dataset, indices, progress=progress)
    labels = dataset.labels
    metrics = {}
    for name, given in answers.items():
        agreement = float((given.ids == answers[first].ids).mean())
        this = agreement if labels is None else float((given.ids == labels).mean())
        kind = "agreement" if labels is None else "accuracy"
        metrics[name] = Metrics(kind, None, this, agreement, len(indices))
    light = min(answers, key=lambda name: float(np.median(answers[name].ms)))
    report: dict[str, Any] = {**draft.report, "evaluation": {"source": dataset.source, "samples": len(indices)}}
    if light != first:
        report["cascade"] = trade((light, answers[light]), (first, answers[first]), labels).to_dict()
    variants = [replace(v, metrics=metrics.get(v.name, v.metrics)) for v in draft.variants]
    return replace(draft, variants=variants, report=report)
