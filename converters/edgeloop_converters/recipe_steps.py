"""The steps of a recipe: passes with their options, and in which order they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeloop.errors import ConfigError, UsageError
from edgeloop_converters.recipe_options import CALIBRATION_METHODS, ENGINES, HOW_MUCH, PASSES
from edgeloop_converters.schemes import Scheme, check_io, check_options, scheme_named
from edgeloop_converters.schemes.table import FLOAT

EFFORTS = ("fast", "default", "best")
CALIBRATION_SAMPLES = {"fast": 100, "default": 512, "best": 512}


@dataclass(frozen=True)
class PassStep:
    """One pass and its options. Raises ConfigError for a pass or option that does not exist."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in PASSES:
            raise ConfigError(f"recipe: pass {self.name!r} is not known", hint=f"one of: {', '.join(PASSES)}")
        known = PASSES[self.name]
        for key, value in self.options.items():
            if key not in known:
                raise ConfigError(
                    f"recipe: pass {self.name!r} has no option {key!r}", hint=f"known: {', '.join(sorted(known))}"
                )
            check, expected = known[key]
            if not check(value):
                raise ConfigError(f"recipe: pass {self.name!r}: {key} must be {expected}, got {value!r}")
        learns_labels = self.name == FINE_TUNE or self.options.get("labels", False)
        if learns_labels and "mix" in self.options.get("augment", ()):
            raise ConfigError(
                f"recipe: pass {self.name!r} learns labels, and mixed samples have none",
                hint="leave 'mix' out of augment, or distill with labels = false",
            )


def check_says_how_much(step: PassStep) -> None:
    """Raises ConfigError where a pass of `HOW_MUCH` has none of them, or several, or half a schedule."""
    ways = HOW_MUCH.get(step.name, ())
    if ways and sum(way in step.options for way in ways) != 1:
        raise ConfigError(
            f"recipe: pass {step.name!r} takes exactly one of {', '.join(ways)}",
            hint=f'for example {{ name = "{step.name}", {ways[0]} = 0.75 }}',
        )
    given = set(step.options)
    if step.name == SPARSIFY and given - {*ways, "by_layer"} and not given >= {"amount", "steps", "epochs"}:
        raise ConfigError(
            f"recipe: pass {SPARSIFY!r} goes towards an amount in steps, and trains so many epochs after each",
            hint=f'{{ name = "{SPARSIFY}", amount = 0.8, steps = 4, epochs = 1 }}, or amount alone',
        )


def plan_passes(
    scheme: str,
    engine: str,
    effort: str,
    samples: int | None = None,
    *,
    io: str = "",
    options: Mapping[str, str | int] | None = None,
    method: str = "",
) -> tuple[PassStep, ...]:
    """The ordered passes for a scheme. "float" needs none: the model is left as it is. Raises UsageError.

    io: kind of the model's inputs and outputs, "" the scheme's own. options: the scheme's, as {"bits": 4}. method: how
    ranges are taken, "" the default one.
    """
    _check_calibrates(scheme_named(scheme), engine, samples, method)
    method = method or CALIBRATION_METHODS[0]
    for value, allowed, what in (
        (engine, ENGINES, "engine"),
        (effort, EFFORTS, "effort"),
        (method, CALIBRATION_METHODS, "calibration method"),
    ):
        if value not in allowed:
            raise UsageError(f"{what} {value!r} is not known", hint=f"one of: {', '.join(allowed)}")
    chosen = scheme_named(scheme)
    check_io(chosen, io)
    check_options(chosen, options or {})
    if chosen.name == FLOAT:
        return ()
    if engine == "tflite" and chosen.name != "int8":
        raise UsageError(f"--engine tflite makes int8 only, not {chosen.name}", hint="leave --engine out")
    step = {"scheme": chosen.name, "engine": engine, **({"io": io} if io else {}), **(options or {})}
    own = {} if method == CALIBRATION_METHODS[0] else {"method": method}
    calibrate = PassStep("calibrate", {"samples": samples or CALIBRATION_SAMPLES[effort], **own})
    return (*([calibrate] if chosen.calibrated else []), PassStep("quantize", step))


def _check_calibrates(scheme: Scheme, engine: str, samples: int | None, method: str) -> None:
    """Raises UsageError where something is asked of a calibration that the scheme or the engine does without."""
    asked = "--calibration" if method else "--calibration-samples" if samples is not None else ""
    if asked and not scheme.calibrated:
        raise UsageError(f"--scheme {scheme.name} measures no ranges: {asked} has no effect", hint=f"leave {asked} out")
    if method and engine == "tflite":
        raise UsageError("--engine tflite measures ranges its own way: --calibration has no effect",
                         hint="leave --calibration out, or --engine")  # fmt: skip


OPTIMIZE = ("balanced", "size", "latency", "accuracy")
QAT, EXITS, PRUNE, SPARSIFY, FINE_TUNE = "qat", "exits", "prune", "sparsify", "fine-tune"
TRAINED = ("distill", FINE_TUNE, QAT)
FLOAT_PASSES = ("optimize", "prune-blocks", PRUNE, SPARSIFY, "distill", FINE_TUNE, EXITS, QAT)
"""They make the float model smaller or better, in any order and number, before it is quantized; `QAT` is the last."""


def check_order(names: Sequence[str]) -> None:
    """Raises ConfigError where passes cannot run in this order."""
    last = [name for name in names if name not in FLOAT_PASSES]
    first = list(names[: len(names) - len(last)])
    late = next((name for i, name in enumerate(names) if name in FLOAT_PASSES and set(last) & set(names[:i])), "")
    if late:
        raise ConfigError(
            f"recipe: '{late}' changes the float model, and stands behind '{last[0]}'",
            hint=f"put it before '{last[0]}'",
        )
    if last not in ([], ["quantize"], ["calibrate", "quantize"]):
        raise ConfigError(
            f"recipe: it ends in {', '.join(map(repr, last))}",
            hint="it may end in calibrate and quantize, in quantize, or, for a float model, in neither",
        )
    if QAT in first[:-1]:
        behind = first[first.index(QAT) + 1]
        raise ConfigError(
            f"recipe: '{behind}' stands behind 'qat', which learns the ranges of the very model that is quantized",
            hint="qat is the last one before quantize",
        )
    if first.count(EXITS) > 1:
        raise ConfigError("recipe: 'exits' is there more than once", hint="at = [0.3, 0.6] makes several in one pass")
    if SPARSIFY in first and any(name in TRAINED for name in first[len(first) - first[::-1].index(SPARSIFY) :]):
        raise ConfigError(
            "recipe: training behind 'sparsify' fills the zeros again",
            hint="put sparsify behind what trains; qat and it do not go together",
        )
    if QAT in first and not last:
        raise ConfigError("recipe: 'qat' trains for int8, and nothing is quantized after it", hint="add quantize")
