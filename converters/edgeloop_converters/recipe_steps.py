"""The steps of a recipe: which passes there are, what may be set of each, and in which order they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeloop.errors import ConfigError, UsageError
from edgeloop_converters.schemes import IO_KINDS, SCHEME_OPTIONS, SCHEMES, Scheme, check_io, check_options, scheme_named
from edgeloop_converters.schemes.table import FLOAT

ENGINES = ("aeq", "tflite")
EFFORTS = ("fast", "default", "best")
CALIBRATION_SAMPLES = {"fast": 100, "default": 512, "best": 512}


def is_whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _one_of(*allowed: str) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, str) and v in allowed


def _some_of(*allowed: str) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, (list, tuple)) and len(v) > 0 and all(one in allowed for one in v)


def _share(v: Any) -> bool:
    return isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v < 1


def _positive(v: Any) -> bool:
    return isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v < float("inf")


def _share_or_none(v: Any) -> bool:
    return v == 0 or _share(v)


def _not_negative(v: Any) -> bool:
    return v == 0 or _positive(v)


def _scheme_option(key: str) -> tuple[Callable[[Any], bool], str]:
    """Its type only: which values a scheme takes is checked with the scheme."""
    kind = SCHEME_OPTIONS[key]
    word = "a whole number" if kind is int else "a text"
    return (lambda v: isinstance(v, kind) and not isinstance(v, bool)), word


CALIBRATION_METHODS = ("grouped", "min-max", "percentile", "mse", "entropy")
"""`calibration.METHODS`, without its imports; the first is the default."""

PRUNE_SCORES = ("l1", "l2", "activation", "apoz", "correlation", "taylor", "reconstruction")
"""Those of `passes.prune`, without its imports."""

COSTS = ("macs", "arm", "bytes")
"""Names of `costs.COSTS`, without its imports."""

REPLACEMENTS = ("silu:hard-swish", "prelu:leaky-relu", "leaky-relu:prelu", "prelu:relu", "hard-swish:relu6")
"""`passes.graph.replacing.REPLACEMENTS`, without its imports."""


def _shares(v: Any) -> bool:
    return _share(v) or (isinstance(v, list) and bool(v) and all(map(_share, v)))


AUGMENTS = ("flips", "mix")
"""`trainable.augmenting.AUGMENTS`, without its imports."""


def _augments(v: Any) -> bool:
    return v == "none" or (isinstance(v, str) and v in AUGMENTS) or _some_of(*AUGMENTS)(v)


NOT_OF_SCHEME = ("scheme", "engine", "io")
_QUANTIZING = tuple(name for name in SCHEMES if name != FLOAT)

_TRUTH = (lambda v: isinstance(v, bool)), "true or false"

_TRAINING: dict[str, tuple[Callable[[Any], bool], str]] = {
    "samples": (is_whole(1, 100_000_000), "a whole number from 1"),
    "labels": _TRUTH,
    "epochs": (is_whole(1, 100_000), "a whole number from 1 to 100000"),
    "batch": (is_whole(1, 65_536), "a whole number from 1 to 65536"),
    "rate": (_positive, "a number above 0"),
    "optimizer": (_one_of("adam", "sgd"), "adam or sgd"),
    "schedule": (_one_of("cosine", "step", "constant"), "one of cosine, step, constant"),
    "final": (_share_or_none, "a share, 0 <= final < 1"),
    "step_epochs": (is_whole(1, 100_000), "a whole number from 1 to 100000"),
    "step_factor": (_share, "a share, 0 < step_factor < 1"),
    "l1": (_not_negative, "a number from 0"),
    "l2": (_not_negative, "a number from 0"),
    "dropout": (_share_or_none, "a share, 0 <= dropout < 1"),
    "validation": (_share, "a share, 0 < validation < 1"),
    "patience": (is_whole(0, 100_000), "a whole number of epochs, 0 for none"),
    "augment": (_augments, f"none, or a list of some of {', '.join(AUGMENTS)}"),
    "momentum": (_share_or_none, "a share, 0 <= momentum < 1"),
    "warmup_steps": (is_whole(0, 100_000_000), "a whole number from 0"),
    "clip_norm": (_not_negative, "a number from 0"),
}
"""`trainable.TrainingOptions`, and what is learnt from. Checked again where they are used."""
_SOFT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (_positive, "a number above 0"),
    "alpha": (lambda v: v == 1 or _share_or_none(v), "a share from 0 to 1"),
}

_PRECISION: dict[str, tuple[Callable[[Any], bool], str]] = {
    "precision": (_one_of("float32", "bfloat16"), "float32 or bfloat16"),
}
_STAGE: Mapping[str, Callable[[Any], bool]] = {
    "epochs": is_whole(1, 100_000),
    "bits": is_whole(2, 8),
    "share": lambda v: v == 1 or _share(v),
}
"""`passes.train.quantized.Stage`."""


def _stages(v: Any) -> bool:
    def fits(stage: Any) -> bool:
        return (
            isinstance(stage, Mapping)
            and "epochs" in stage
            and all(key in _STAGE and _STAGE[key](value) for key, value in stage.items())
        )

    return isinstance(v, (list, tuple)) and bool(v) and all(map(fits, v))


PASSES: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    # pass: option -> (check, what it must be)
    "optimize": {
        "replace": (_some_of(*REPLACEMENTS), f"a list of some of {', '.join(REPLACEMENTS)}"),
        "max_error": (_share, "a share, 0 < max_error < 1"),
    },
    "sparsify": {
        "amount": (_share, "a share, 0 < amount < 1"),
        "threshold": (_positive, "a number above 0"),
        "by_layer": _TRUTH,
        "steps": (is_whole(2, 100), "a whole number from 2 to 100"),
        **_TRAINING,
        **_PRECISION,
        **_SOFT,
    },
    "prune": {
        "amount": (_share, "a share, 0 < amount < 1"),
        "threshold": (_positive, "a number above 0"),
        "goal": (_share, "a share, 0 < goal < 1"),
        "cost": (_one_of(*COSTS), f"one of {', '.join(COSTS)}"),
        "score": (_one_of(*PRUNE_SCORES), f"one of {', '.join(PRUNE_SCORES)}"),
        "tile": (is_whole(1, 64), "a whole number from 1 to 64"),
        "samples": (is_whole(1, 1_000_000), "a whole number from 1 to 1000000"),
        "labels": _TRUTH,
        "repair": _TRUTH,
        "pairs": _TRUTH,
    },
    "prune-blocks": {
        "count": (is_whole(1, 1_000), "a whole number from 1 to 1000"),
        "goal": (_share, "a share, 0 < goal < 1"),
        "layers": _TRUTH,
        "cost": (_one_of(*COSTS), f"one of {', '.join(COSTS)}"),
        "samples": (is_whole(1, 1_000_000), "a whole number from 1 to 1000000"),
    },
    "distill": {**_TRAINING, **_PRECISION, **_SOFT},
    "fine-tune": {**_TRAINING, **_PRECISION},
    "qat": {
        **_TRAINING,
        **_SOFT,
        "teacher": _TRUTH,
        "ranges": (_one_of("learnt", "moving"), "learnt or moving"),
        "stages": (_stages, "a list of { epochs = 2, bits = 8, share = 0.5 }: bits 2 to 8, share of the layers"),
    },
    "exits": {
        "at": (_shares, "a share of the cost, 0 < at < 1, or a list of them"),
        "samples": (is_whole(1, 1_000_000), "a whole number from 1 to 1000000"),
        "agreement": (_share, "a share, 0 < agreement < 1"),
    },
    "calibrate": {
        "samples": (is_whole(1, 1_000_000), "a whole number from 1 to 1000000"),
        "method": (_one_of(*CALIBRATION_METHODS), f"one of {', '.join(CALIBRATION_METHODS)}"),
    },
    "quantize": {
        "scheme": (_one_of(*_QUANTIZING), f"one of {', '.join(_QUANTIZING)}"),
        "engine": (_one_of(*ENGINES), f"one of {', '.join(ENGINES)}"),
        "io": (_one_of(*IO_KINDS), f"one of {', '.join(IO_KINDS)}"),
        **{key: _scheme_option(key) for key in SCHEME_OPTIONS},
    },
}


HOW_MUCH: Mapping[str, tuple[str, ...]] = {
    "prune": ("goal", "amount", "threshold"),
    "prune-blocks": ("goal", "count"),
    "sparsify": ("amount", "threshold"),
}
"""Options of a pass of which exactly one is given."""


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
    """Raises ConfigError where a pass of `HOW_MUCH` has none of them, or several, or a schedule lacks its other half."""
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
    is_right = last in ([], ["quantize"], ["calibrate", "quantize"]) and [*first, *last] == list(names)
    if not is_right or QAT in first[:-1]:
        raise ConfigError(
            f"recipe: passes {', '.join(names)} cannot be run in this order",
            hint=f"{', '.join(FLOAT_PASSES)} first; then calibrate and quantize, or neither for float",
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
