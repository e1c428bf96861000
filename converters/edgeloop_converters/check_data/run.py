"""`check-data`: everything that can be said about data, contract and model before a weight is touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import Contract, InputSpec
from edgeloop.errors import ConfigError, DataError, GoalNotMetError
from edgeloop.graph import Graph
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.calibration import calibrate, model_inputs
from edgeloop_converters.check_data.classes import class_findings, count_findings
from edgeloop_converters.check_data.contract import QUICK_MACS, THOROUGH_MACS, contract_findings
from edgeloop_converters.check_data.detective import Verdict
from edgeloop_converters.check_data.duplicates import duplicate_findings, leak_findings
from edgeloop_converters.check_data.finding import SEVERE, WARNING, Finding, by_severity
from edgeloop_converters.check_data.finished import finished_model
from edgeloop_converters.check_data.inputs import input_findings, layout_findings, unlike_findings, value_findings
from edgeloop_converters.check_data.observe import observe
from edgeloop_converters.check_data.stability import RangeRows, stability_findings
from edgeloop_converters.contract_inputs import read_inputs
from edgeloop_converters.data import TENSOR, Dataset, pick
from edgeloop_converters.data.cache import DecodedCache
from edgeloop_converters.frontends import start_conversion
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.sources import Datasets, Sources, choose_samples, conversion_options, open_datasets, settle
from edgeloop_converters.stages import Stages

Indices = npt.NDArray[np.int64]

QUICK_SAMPLES = 1000
FEW_SAMPLES = 200
"""So many samples of either data set `convert` looks at for blanks, copies and leaks; few with `--effort fast`, and
where each has to be decoded once more for the evaluation."""
THOROUGH_SAMPLES = 50_000

SAY = "; say "
"""Where a warning about the contract goes on to what the user can say instead of a guess."""


@dataclass(frozen=True)
class DataCheck:
    """findings: the gravest first. contract: as it was settled, None where data and model do not fit at all."""

    findings: tuple[Finding, ...]
    contract: Contract | None
    verdict: Verdict | None
    calibration_samples: int
    evaluation_samples: int
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    cache: Mapping[str, int] | None = None

    @property
    def is_severe(self) -> bool:
        return any(f.severity == SEVERE for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As `check-data --json` prints it."""
        counts = Counter(f.severity for f in self.findings)
        return {
            "ok": not self.is_severe,
            "severe": counts[SEVERE],
            "warnings": counts[WARNING],
            "findings": [f.to_dict() for f in self.findings],
            "contract": None if self.contract is None else self.contract.to_dict(),
            "accuracy": None if self.verdict is None else self.verdict.accuracy,
            "samples": {"calibration": self.calibration_samples, "evaluation": self.evaluation_samples},
            "notes": list(self.notes),
            "seconds": self.seconds,
            "stages": dict(self.stages),
            "cache": self.cache,
        }


def check_data(
    recipe: Recipe,
    *,
    samples: int = THOROUGH_SAMPLES,
    trust_code: bool = False,
    cache: DecodedCache | None = None,
    progress: Progress | None = None,
) -> DataCheck:
    """Everything, for the model and data of `recipe`; nothing is written. Of a bundle its contract and the data.

    samples: at most so many of either data set are looked at for blanks, copies and leaks. cache: of decoded pictures.
    Raises UsageError and its kinds where there is nothing to check (no data, an unreadable model), RefusedError for a
    model file that is unsafe.
    """
    stages, reporter = Stages(), progress or SilentProgress()
    finished = finished_model(recipe, reporter)
    if finished is not None:  # nothing is calibrated any more
        recipe = replace(recipe, contract=finished.contract, passes=())
    data = open_datasets(recipe)
    calibration, evaluation = choose_samples(recipe, data)
    counts = (len(calibration), len(evaluation))
    if finished is not None:
        model, lost = finished.model, []
    else:
        options = conversion_options(recipe, data, recipe.shapes[-1:], trust_code=trust_code)
        with start_conversion(Path(recipe.source), options) as conversion, stages("load model"):
            converted = conversion.result(reporter)
        model = converted.tflite
        lost = [Finding("model", WARNING, text, "give the float model it was made from") for text in converted.warnings]
    found = _layout(model, data)
    if not found:
        try:
            with stages("contract"):
                sources = settle(recipe, model, data, calibration, evaluation, cache)
        except (DataError, ConfigError) as error:
            is_contract = isinstance(error, ConfigError)
            fix = error.hint or ("correct it in the contract" if is_contract else "give data that fit the model")
            found = [Finding("fit", SEVERE, error.message, fix)]
    if found:
        return DataCheck(tuple(found), None, None, *counts, (), stages.total, stages.seconds)
    for note in sources.notes:
        reporter.note(note)
    before, verdict = findings_before(
        recipe, model, data, sources, samples=samples, max_macs=THOROUGH_MACS, progress=reporter, stages=stages
    )
    with stages("ranges"):
        after = _range_findings(recipe, model, sources, reporter)
    notes = (*sources.warnings, *sources.notes)
    findings = by_severity([*lost, *_unchecked(sources), *before, *after])
    hits = None if cache is None else cache.to_dict()
    return DataCheck(findings, sources.contract, verdict, *counts, notes, stages.total, stages.seconds, hits)


def findings_before(
    recipe: Recipe,
    model: bytes,
    data: Datasets,
    sources: Sources,
    *,
    samples: int = QUICK_SAMPLES,
    max_macs: float = QUICK_MACS,
    try_contracts: bool = True,
    progress: Progress | None = None,
    stages: Stages | None = None,
) -> tuple[list[Finding], Verdict | None]:
    """What can be said before calibration: samples, classes, values, copies, and whether another contract is better.

    data: the samples as they were opened, of any size; `sources`: as they were settled. try_contracts: False leaves
    the last question to `check-data`.
    """
    clock = stages or Stages()
    specs, labels = sources.contract.inputs, sources.contract.output.labels
    found: list[Finding] = []
    verdict: Verdict | None = None
    if try_contracts and len(specs) == 1:
        with clock("other contracts"):
            which = "calibration" if sources.data.calibration.labels is not None else "evaluation"
            settled: Dataset = getattr(sources.data, which)
            opened = read_inputs(specs, getattr(data, which))
            raw = replace(opened, labels=settled.labels, class_names=settled.class_names)
            contract, verdict = contract_findings(model, sources.contract, raw, max_macs=max_macs, seed=recipe.seed)
            found += contract
    with clock("look at data"):
        calibrates = bool(len(sources.calibration))
        found += count_findings(len(sources.calibration) if calibrates else None, len(sources.evaluation))
        parts = [("evaluation", sources.data.evaluation, sources.evaluation)]
        if calibrates:
            parts.insert(0, ("calibration", sources.data.calibration, sources.calibration))
        classes = _classes(model, sources.contract)
        observed = []
        for role, dataset, indices in parts:
            ids = None if dataset.labels is None else dataset.labels[indices]
            found += class_findings(ids, classes, labels or dataset.class_names or (), role)
            chosen = _some(dataset, indices, samples, recipe.seed)
            if len(specs) > 1:
                found += _findings_by_input(specs, dataset, chosen, role, progress)
                continue
            observed.append(observe(dataset, chosen, progress=progress))
            found += input_findings(observed[-1], specs[0], role)
            found += duplicate_findings(observed[-1], role)
        if len(observed) == 2:
            found += unlike_findings(*observed)
            found += leak_findings(*observed, is_split=data.is_one)
    return found, verdict


def _unchecked(sources: Sources) -> list[Finding]:
    """What nothing in the data can tell: a scaling that was guessed, and a contract that no label can contradict."""
    parts = (text.partition(SAY) for text in sources.warnings)
    found = [Finding("contract", WARNING, what, f"say {fix}") for what, said, fix in parts if said]
    is_labelled = any(d.labels is not None for d in (sources.data.calibration, sources.data.evaluation))
    if sources.contract.output.kind == "classification" and not is_labelled:
        what = "no labels: scaling, color and class order were not checked"
        found.append(Finding("labels", WARNING, what, "give labels: class folders, labels.csv, or y in an .npz"))
    return found


def _findings_by_input(
    specs: Sequence[InputSpec], dataset: Dataset, indices: Indices, role: str, progress: Progress | None
) -> list[Finding]:
    """Values of each input by itself. A mask may well be the same in every sample, so blanks and copies say nothing."""
    found = []
    for spec in specs:
        observed = observe(dataset.parts[spec.name], indices, progress=progress)
        found += [replace(f, what=f"input '{spec.name}': {f.what}") for f in value_findings(observed, spec, role)]
    return found


def refuse_severe(findings: Sequence[Finding]) -> None:
    """`--strict-data`: raises GoalNotMetError for the first severe finding."""
    severe = [f for f in findings if f.severity == SEVERE]
    if severe:
        more = f" (and {len(severe) - 1} more)" if len(severe) > 1 else ""
        raise GoalNotMetError(f"--strict-data: {severe[0].what}{more}", hint=severe[0].fix)


def _layout(model: bytes, data: Datasets) -> list[Finding]:
    """Data whose axes are in another order than the model's; nothing else can be said of them then."""
    inputs = Graph.read(model).inputs
    dataset = data.calibration
    if len(inputs) != 1 or dataset.kind != TENSOR or dataset.sample_shape is None:
        return []
    return layout_findings(dataset.sample_shape, inputs[0].shape[1:], dataset.source)


def _range_findings(recipe: Recipe, model: bytes, sources: Sources, progress: Progress) -> list[Finding]:
    data, indices = sources.data.calibration, sources.calibration
    if not len(indices):
        return []
    rows = RangeRows()
    try:
        inputs = model_inputs(sources.contract, model, data, indices)
        ranges = calibrate(model, inputs, total=len(indices), progress=progress, on_sample=rows.add)
    except DataError as error:
        return [Finding("ranges", SEVERE, error.message, error.hint or "look at these samples")]
    return after_calibration(rows, ranges.method, sources, seed=recipe.seed)


def after_calibration(rows: RangeRows, method: str, sources: Sources, *, seed: int = 0) -> list[Finding]:
    """What the calibration loop's rows show: ranges that still move, and samples that make them alone."""
    data, indices = sources.data.calibration, sources.calibration
    available = len(data) if not sources.data.is_one else len(indices) + len(sources.evaluation) // 2
    return stability_findings(rows, method, lambda i: data.describe(int(indices[i])), available=available, seed=seed)


def _classes(model: bytes, contract: Contract) -> int | None:
    outputs = Graph.read(model).outputs
    if contract.output.kind != "classification":
        return None
    return int(np.prod(outputs[contract.output.index].shape))


def _some(dataset: Dataset, indices: Indices, limit: int, seed: int) -> Indices:
    return indices if len(indices) <= limit else indices[pick(dataset.subset(indices), limit, seed)]
