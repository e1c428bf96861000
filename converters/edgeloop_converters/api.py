"""`edgeloop.convert` and `edgeloop.check_data`: the verbs as functions, with plain arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from edgeloop.contract import Contract
from edgeloop.progress import Progress
from edgeloop_converters.check_data.run import THOROUGH_SAMPLES, DataCheck
from edgeloop_converters.check_data.run import check_data as check_recipe
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.data.cache import DecodedCache
from edgeloop_converters.dynamic.steps import with_exits
from edgeloop_converters.goals import Goals
from edgeloop_converters.pipeline import convert as run_recipe
from edgeloop_converters.recipe import DEFAULT_TARGET, Recipe
from edgeloop_converters.recipe_steps import plan_passes
from edgeloop_converters.result import ConvertResult
from edgeloop_converters.shapes import shapes_of


def convert(
    model: str | Path,
    *,
    target: str = DEFAULT_TARGET,
    data: str | Path | None = None,
    evaluate: str | Path | None = None,
    contract: Contract | str | Path | None = None,
    goals: Goals | Mapping[str, float] | None = None,
    scheme: str = "int8",
    scheme_options: Mapping[str, str | int] | None = None,
    io: str = "",
    engine: str = "aeq",
    effort: str = "default",
    calibration: str = "",
    calibration_samples: int | None = None,
    signature: str = "",
    name: str = "",
    version: int | None = None,
    seed: int = 0,
    ignore_labels: bool = False,
    shape: Sequence[int] | Sequence[str] | Sequence[Sequence[int]] = (),
    repair: bool = True,
    optimize: str = "",
    minutes: float | None = None,
    widths: Sequence[float] = (),
    exits: Sequence[float] = (),
    evaluation_samples: int | None = None,
    onnx_engine: str = "",
    hints: ContractFlags | Mapping[str, Any] | None = None,
    device: str = "",
    identity: str | Path | None = None,
    ablation: bool = False,
    tensorboard: str | Path | None = None,
    trust_code: bool = False,
    threads: int | None = None,
    strict_data: bool = False,
    cache: bool = True,
    progress: Progress | None = None,
) -> ConvertResult:
    """Convert a trained model for a target; `result.bundle.save("ic.bundle")` writes the bundle.

        r = edgeloop.convert("resnet.h5", target="rpi4", data="calib/", evaluate="test/",
                             goals=edgeloop.Goals(max_drop=0.005, p95_ms=20))
        if not r.gate.passed: raise SystemExit(r.gate.reasons)

    contract: a Contract, or the path of a contract TOML; without one it is detected and checked against the data.
    strict_data: refuse severe findings on the data (GoalNotMetError); else they are warnings, and in `result.findings`.
    scheme_options: as {"bits": 4}. io: "float", "int8", "uint8"; "": the scheme's own. calibration: how
    ranges are taken, from calibration_samples. signature: of a SavedModel or .tflite that has several.
    shape: sizes of one sample where the model leaves them free; several of them make shape buckets, one variant each.
    optimize: "balanced", "size", "latency" or "accuracy": look for a smaller model within the goals, in `minutes`.
    widths, exits: shares of the cost, of narrower variants beside the model and of heads at which a device may stop.
    evaluation_samples: at most so many. hints: parts of the contract, as {"kind": "image", "mean": (0.0,)};
    the rest is detected. device: "ssh://USER@HOST" or "emulated:cortex-a72", where candidates are
    measured; identity: SSH private key for it.
    ablation: make the model without each of its passes, too. tensorboard: folder for the figures of trainings.
    cache: keep decoded pictures on disk for the next conversion. Raises UsageError and its kinds, RefusedError. A
    missed goal is in `result.gate`; repair: try first to mend a file that misses one, see `result.variants[0].repairs`.
    """
    passes = plan_passes(scheme, engine, effort, calibration_samples, io=io, options=scheme_options, method=calibration)
    recipe = Recipe(
        source=str(model),
        target=target,
        data=None if data is None else str(data),
        evaluation=None if evaluate is None else str(evaluate),
        contract=contract if isinstance(contract, Contract) else None,
        contract_file="" if contract is None or isinstance(contract, Contract) else str(contract),
        hints=hints if isinstance(hints, ContractFlags) else ContractFlags(**(hints or {})),
        passes=with_exits(passes, exits) if exits else passes,
        effort=effort,
        signature=signature,
        goals=goals if isinstance(goals, Goals) else Goals.from_dict(goals or {}),
        seed=seed,
        name=name,
        version=version,
        ignore_labels=ignore_labels,
        shapes=shapes_of(shape),
        repair=repair,
        optimize=optimize,
        minutes=minutes,
        widths=tuple(widths),
        evaluation_samples=evaluation_samples,
        onnx_engine=onnx_engine,
    )
    if device:
        from edgeloop.devices.measurers import check_measures

        check_measures(device)
    return run_recipe(
        recipe,
        progress=progress,
        trust_code=trust_code,
        threads=threads,
        strict_data=strict_data,
        cache=cache,
        device=device,
        ablation=ablation,
        tensorboard=None if tensorboard is None else Path(tensorboard),
        identity=None if identity is None else Path(identity),
    )


def check_data(
    model: str | Path,
    *,
    data: str | Path | None = None,
    evaluate: str | Path | None = None,
    contract: Contract | str | Path | None = None,
    hints: ContractFlags | None = None,
    samples: int = THOROUGH_SAMPLES,
    seed: int = 0,
    trust_code: bool = False,
    cache: bool = True,
    progress: Progress | None = None,
) -> DataCheck:
    """Look at data, contract and model before a weight is touched: findings with their fixes, the gravest first.

        for finding in edgeloop.check_data("resnet.h5", data="calib/", evaluate="test/").findings: print(finding.text)

    samples: at most so many of either data set are looked at. contract: as for `convert`. Raises UsageError and its
    kinds where there is nothing to check, RefusedError for a model that is unsafe.
    """
    recipe = Recipe(
        source=str(model),
        data=None if data is None else str(data),
        evaluation=None if evaluate is None else str(evaluate),
        contract=contract if isinstance(contract, Contract) else None,
        contract_file="" if contract is None or isinstance(contract, Contract) else str(contract),
        hints=hints or ContractFlags(),
        seed=seed,
    )
    with DecodedCache() if cache else nullcontext() as decoded:
        return check_recipe(recipe, samples=samples, trust_code=trust_code, cache=decoded, progress=progress)
