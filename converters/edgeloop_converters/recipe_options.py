"""What may be set of each pass of a recipe: a pass -> its options, each with its check and what to say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeloop_converters.schemes import IO_KINDS, SCHEME_OPTIONS, SCHEMES
from edgeloop_converters.schemes.table import FLOAT

ENGINES = ("aeq", "tflite")


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
