"""Recipe: a conversion as data. What goes in, what must come out, and the ordered passes between.

It is written into the bundle as `recipe.toml`; `edgeloop convert --recipe recipe.toml` does the same conversion again.
`recipe_reading` takes it from a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeloop.bundle.limits import MAX_VERSION, NAME_PATTERN
from edgeloop.contract import Contract
from edgeloop.errors import ConfigError, UsageError
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.dynamic.steps import check_variants
from edgeloop_converters.goals import Goals
from edgeloop_converters.recipe_options import CALIBRATION_METHODS, NOT_OF_SCHEME, is_whole
from edgeloop_converters.recipe_steps import (
    CALIBRATION_SAMPLES,
    EFFORTS,
    EXITS,
    FLOAT_PASSES,
    OPTIMIZE,
    QAT,
    PassStep,
    check_order,
    check_says_how_much,
    plan_passes,
)
from edgeloop_converters.schemes import check_io, check_options, scheme_named
from edgeloop_converters.shapes import GivenShape, plain_shapes
from edgeloop_converters.toml_writer import to_toml

SCHEMA = 1
ONNX_ENGINES = ("onnx2torch", "onnx2tf")
EVALUATION_SAMPLES = {"fast": 1000}
"""At most so many are evaluated unless the recipe says a number; other efforts: all."""
DEFAULT_TARGET = "rpi4"
MAX_SEED = 2**32 - 1
_HASHED = ("source", "data", "eval")


@dataclass(frozen=True)
class Recipe:
    """A conversion. `data` and `evaluation` are specs as `edgeloop_converters.data` takes them.

    `contract` is complete and used as it is. Without one it is detected; `contract_file` and `hints`, which win, then
    fix the parts the user has given. `signature`: which one to take of a SavedModel that has several.
    `shapes`: of one sample as the source's own input has it, where that leaves dimensions free; several make a variant
    each; (): nothing to say.
    `onnx_engine`: "onnx2torch", "onnx2tf", or "": the first that can.
    `evaluation_samples`: at most so many are evaluated; None: as many as the effort says.
    `widths`: shares of the cost, each of which makes one more, narrower variant.
    `optimize`: a name of `OPTIMIZE`, what a smaller model is looked for by; "": none is.
    `minutes`: that a search may take, from the conversion's start; None: as many as it takes.
    `validation`: a fifth of `data` is kept to choose by, nothing is learnt from it; `optimize` does so anyway.
    `sha256`: of source, data and eval when it was written (`portable.input_hashes`); others are warned of.
    `version` None: one more than the last made here. `name` "": the source file's stem.
    Raises ConfigError or UsageError for values out of range.
    """

    source: str
    target: str = DEFAULT_TARGET
    data: str | None = None
    evaluation: str | None = None
    contract: Contract | None = None
    contract_file: str = ""
    hints: ContractFlags = field(default_factory=ContractFlags)
    passes: tuple[PassStep, ...] = field(default_factory=lambda: plan_passes("int8", "aeq", "default"))
    effort: str = "default"
    goals: Goals = field(default_factory=Goals)
    seed: int = 0
    name: str = ""
    version: int | None = None
    ignore_labels: bool = False
    evaluation_samples: int | None = None
    signature: str = ""
    shapes: tuple[GivenShape, ...] = ()
    repair: bool = True
    onnx_engine: str = ""
    optimize: str = ""
    minutes: float | None = None
    validation: bool = False
    widths: tuple[float, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.source:
            raise ConfigError("recipe: the model ('source') is missing")
        if self.effort not in EFFORTS:
            raise ConfigError(f"recipe: effort {self.effort!r} is not known", hint=f"one of: {', '.join(EFFORTS)}")
        if self.name and not NAME_PATTERN.fullmatch(self.name):
            raise UsageError(
                f"bundle name {self.name[:100]!r} is not usable", hint="letters, digits, '.', '_' and '-', at most 64"
            )
        if self.version is not None and not is_whole(1, MAX_VERSION)(self.version):
            raise UsageError(f"version must be a whole number from 1, got {self.version!r}")
        if not is_whole(0, MAX_SEED)(self.seed):
            raise ConfigError(f"recipe: seed must be a whole number from 0 to {MAX_SEED}, got {self.seed!r}")
        if self.evaluation_samples is not None and not is_whole(1, MAX_VERSION)(self.evaluation_samples):
            raise UsageError(f"the number of evaluation samples must be at least 1, got {self.evaluation_samples!r}")
        if self.onnx_engine not in ("", *ONNX_ENGINES):
            raise ConfigError(
                f"recipe: ONNX engine {self.onnx_engine!r} is not known", hint=f"one of: {', '.join(ONNX_ENGINES)}"
            )
        if self.contract is not None and (self.contract_file or self.hints != ContractFlags()):
            raise UsageError(
                "the recipe holds the whole contract already; flags cannot change parts of it",
                hint="change [contract] in the recipe, or remove it there",
            )
        if not set(self.sha256) <= set(_HASHED) or not all(map(_is_sha256, self.sha256.values())):
            raise ConfigError(f"recipe: sha256 holds the SHA-256 of {', '.join(_HASHED)}, each 64 hexadecimal digits")
        check_order([step.name for step in self.passes])
        for step in self.passes:
            check_says_how_much(step)
        if self.float_passes and self.engine == "tflite":
            raise ConfigError(
                f"recipe: engine tflite starts from the source, so it cannot follow {self.float_passes[0].name!r}",
                hint="leave engine at aeq",
            )
        if self.optimize not in ("", *OPTIMIZE):
            raise ConfigError(f"recipe: optimize {self.optimize!r} is not known", hint=f"one of: {', '.join(OPTIMIZE)}")
        if self.optimize and (self.scheme != "int8" or self.engine != "aeq" or len(self.shapes) > 1):
            raise ConfigError(
                "recipe: optimize looks for a smaller int8 model of one shape, by engine aeq",
                hint="leave out optimize, or --scheme, --engine and all but one --shape",
            )
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise UsageError(f"minutes for the search must be more than 0, got {self.minutes!r}")
        check_variants(self.widths, self.passes, self.optimize, self.engine, len(self.shapes))
        learns_ranges = any(step.name == QAT for step in self.passes)
        if learns_ranges and self.scheme != "int8":
            raise ConfigError(f"recipe: 'qat' trains for scheme int8, not {self.scheme}", hint="leave one of them out")
        if self.is_calibrated != (scheme_named(self.scheme).calibrated and not learns_ranges):
            what = "needs no 'calibrate'" if self.is_calibrated else "needs 'calibrate' before it"
            raise ConfigError(f"recipe: {QAT if learns_ranges else f'scheme {self.scheme}'} {what}")
        check_io(scheme_named(self.scheme), self.io)
        check_options(scheme_named(self.scheme), self.scheme_options)

    @property
    def float_passes(self) -> tuple[PassStep, ...]:
        """Those that make the float model smaller, in their order."""
        return tuple(step for step in self.passes if step.name in FLOAT_PASSES)

    @property
    def has_steps(self) -> bool:
        """Whether it makes variants for a device to step among."""
        return bool(self.widths) or any(step.name == EXITS for step in self.passes)

    @property
    def is_calibrated(self) -> bool:
        """Whether ranges are measured, for which `data` are needed."""
        return any(step.name == "calibrate" for step in self.passes)

    @property
    def takes_samples(self) -> bool:
        """Whether a pass looks at data, so that some of them are kept from the evaluation."""
        return self.is_calibrated or bool(self.float_passes) or bool(self.widths)

    @property
    def io(self) -> str:
        """ "float", "int8", "uint8", or "" for the scheme's own."""
        return str(self._option("quantize", "io", ""))

    @property
    def scheme(self) -> str:
        """A name of `SCHEMES`; "float" when no pass quantizes."""
        return str(self._option("quantize", "scheme", "int8" if self._quantizes else "float"))

    @property
    def scheme_options(self) -> dict[str, Any]:
        """What is set of the scheme itself."""
        return {
            k: v for s in self.passes if s.name == "quantize" for k, v in s.options.items() if k not in NOT_OF_SCHEME
        }

    @property
    def engine(self) -> str:
        return str(self._option("quantize", "engine", "aeq"))

    @property
    def calibration_method(self) -> str:
        return str(self._option("calibrate", "method", CALIBRATION_METHODS[0]))

    @property
    def calibration_samples(self) -> int:
        return int(self._option("calibrate", "samples", CALIBRATION_SAMPLES[self.effort]))

    @property
    def bundle_name(self) -> str:
        """`name`, or the source's stem (of `module:function` the function) with what cannot be in a name replaced."""
        if self.name:
            return self.name
        source = self.source.partition(":")[2] if is_code_spec(self.source) else Path(self.source).stem
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", source).strip("-._")[:64].strip("-._")
        return stem or "model"

    @property
    def evaluation_limit(self) -> int | None:
        """At most so many samples are evaluated; None: all."""
        return self.evaluation_samples or EVALUATION_SAMPLES.get(self.effort)

    @property
    def _quantizes(self) -> bool:
        return any(step.name == "quantize" for step in self.passes)

    def _option(self, step: str, key: str, default: Any) -> Any:
        return next((s.options.get(key, default) for s in self.passes if s.name == step), default)

    def with_contract(self, contract: Contract) -> Recipe:
        """The recipe as it ran: with the contract that was detected."""
        return replace(self, contract=contract, contract_file="", hints=ContractFlags())

    def to_dict(self) -> dict[str, Any]:
        """Plain values without None; `recipe_from_dict` takes them back."""
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "source": self.source,
            "target": self.target,
            "data": self.data,
            "eval": self.evaluation,
            "name": self.name or None,
            "version": self.version,
            "effort": self.effort,
            "seed": self.seed,
            "ignore_labels": self.ignore_labels,
            "eval_samples": self.evaluation_samples,
            "repair": None if self.repair else False,
            "signature": self.signature or None,
            "onnx_engine": self.onnx_engine or None,
            "optimize": self.optimize or None,
            "minutes": self.minutes,
            "validation": self.validation or None,
            "widths": list(self.widths) or None,
            "shape": plain_shapes(self.shapes),
            "contract_file": self.contract_file or None,
            "sha256": dict(self.sha256) or None,
            # Said even when empty: no list at all means the default passes.
            "passes": [{"name": s.name, **s.options} for s in self.passes],
            "goals": self.goals.to_dict(),
            "contract": self.contract.to_dict() if self.contract else None,
            "hints": asdict(self.hints),
        }
        plain: dict[str, Any] = _without_none(values)
        return plain if plain["hints"] else {k: v for k, v in plain.items() if k != "hints"}

    def to_toml(self) -> str:
        """TOML text that `parse_recipe` reads back as an equal recipe."""
        return "# A conversion by edgeloop. Do it again: edgeloop convert --recipe recipe.toml\n" + to_toml(
            self.to_dict()
        )


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_code_spec(spec: str) -> bool:
    """`package.module:function`: data or a model that code of the user's own makes."""
    return ":" in spec and "/" not in spec and not Path(spec).exists()


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(v) for v in value]
    return value
