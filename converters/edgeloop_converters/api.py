"""`edgeloop.convert`: the verb as a function, with plain arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeloop.contract import Contract
from edgeloop.progress import Progress
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.goals import Goals
from edgeloop_converters.pipeline import convert as run_recipe
from edgeloop_converters.recipe import DEFAULT_TARGET, Recipe, plan_passes
from edgeloop_converters.result import ConvertResult


def convert(
    model: str | Path,
    *,
    target: str = DEFAULT_TARGET,
    data: str | Path | None = None,
    evaluate: str | Path | None = None,
    contract: Contract | str | Path | None = None,
    goals: Goals | None = None,
    scheme: str = "int8",
    engine: str = "aeq",
    effort: str = "default",
    name: str = "",
    version: int | None = None,
    seed: int = 0,
    ignore_labels: bool = False,
    shape: Sequence[int] = (),
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
    cache: keep decoded pictures on disk for the next conversion. Raises UsageError and its kinds, RefusedError. A
    missed goal is in `result.gate`.
    """
    recipe = Recipe(
        source=str(model),
        target=target,
        data=None if data is None else str(data),
        evaluation=None if evaluate is None else str(evaluate),
        contract=contract if isinstance(contract, Contract) else None,
        contract_file="" if contract is None or isinstance(contract, Contract) else str(contract),
        hints=ContractFlags(),
        passes=plan_passes(scheme, engine, effort),
        effort=effort,
        goals=goals or Goals(),
        seed=seed,
        name=name,
        version=version,
        ignore_labels=ignore_labels,
        shape=tuple(shape),
    )
    return run_recipe(
        recipe, progress=progress, trust_code=trust_code, threads=threads, strict_data=strict_data, cache=cache
    )
