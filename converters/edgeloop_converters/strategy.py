"""From what is known of a model, its target and its goals to what will be tried. Pure: nothing here looks at weights.

analyze -> strategy -> `search` runs the trials -> the gate judges the files on the evaluation data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeloop.bench.instructions import LABEL
from edgeloop.devices.emulated.cpus import SCHEME as EMULATED
from edgeloop.errors import UsageError
from edgeloop.targets import Target
from edgeloop_converters.goals import Goals
from edgeloop_converters.recipe_steps import OPTIMIZE, PassStep

LITE = "int8-lite"
DEFAULT_DROP = 0.01
DEFAULT_AGREEMENT = 0.95
_FEWEST_SAMPLES = 64
_SMALLEST_MACS = 200_000
"""Below it an inference takes tens of microseconds on any of the targets: what stands around it takes longer."""
_ENOUGH_TO_TRAIN = 200
_FAST_SAMPLES = 256
_GRAPH = "optimize"
_FEWEST_STEPS, _BATCH = 300, 32
"""Few samples are gone through more often, so that training does as much; `trainable.TrainingOptions.batch`."""
_SHARES = {
    "balanced": (0.85, 0.7, 0.55),
    "latency": (0.85, 0.7, 0.55, 0.4, 0.3),
    "size": (0.8, 0.6, 0.45, 0.3),
}
_DOWN_TO = (0.4, 0.3, 0.2, 0.13)
_EPOCHS = {"fast": 0, "default": 3, "best": 10}
_TRAINED_ON = {"default": 10_000}
_RATE, _RATE_OF_FEW, _FEW_STEPS = 1e-3, 3e-4, 600
"""Layers have just been refitted: few steps at the higher rate lead away from there, and not back."""


@dataclass(frozen=True)
class Facts:
    """macs, layers, weights: of the float model. samples: free to learn from, beside those that trials are judged on.
    can_train: TensorFlow is there. counts_arm: the core can be emulated here; device: URL of one that candidates are
    measured on, "" for none. output: kind of the contract's output, what the model is used for. minutes: for all of it.
    simplified: what rewriting the graph would do, "" where that is nothing.
    """

    macs: int
    layers: int
    samples: int
    has_labels: bool
    can_train: bool
    counts_arm: bool
    weights: int = 0
    output: str = "classification"
    device: str = ""
    minutes: float | None = None
    simplified: str = ""

    @property
    def is_timed(self) -> bool:
        """Whether candidates are measured in time, on a device."""
        return bool(self.device) and not self.device.startswith(EMULATED)

    def line(self) -> str:
        """For people."""
        labels = "with" if self.has_labels else "without"
        time = "" if self.minutes is None else f", {self.minutes:g} minutes"
        return (
            f"{self.output}; {self.macs / 1e6:,.1f} million multiply-accumulates and {self.weights:,} weights in "
            f"{self.layers} layers; {self.samples:,} samples {labels} labels to learn from{time}"
        )


@dataclass(frozen=True)
class Strategy:
    """What to try. shares: of the cost that may stay, each smaller than the one before; () leaves the model as it is.

    first: passes before all else, of every variant. prune, after: options of the pruning, and the passes that bring
    accuracy back. budget: the goals that trials are
    judged by. plain: passes for the variant that keeps its size. reasons: for people.
    """

    shares: tuple[float, ...]
    prune: PassStep
    after: tuple[PassStep, ...]
    plain: tuple[PassStep, ...]
    budget: Goals
    reasons: tuple[str, ...]
    first: tuple[PassStep, ...] = ()

    @property
    def trains(self) -> bool:
        return bool(self.after)

    def steps(self, share: float, trained: bool) -> tuple[PassStep, ...]:
        """The passes of one trial over the float model."""
        pruned = replace(self.prune, options={**self.prune.options, "goal": share})
        return (*self.first, pruned, *(self.after if trained else ()))


def decide(mode: str, facts: Facts, target: Target, goals: Goals, effort: str) -> Strategy:
    """What to try for `mode`, a name of OPTIMIZE. Raises UsageError for another one."""
    if mode not in OPTIMIZE:
        raise UsageError(f"optimize {mode!r} is not known", hint=f"one of: {', '.join(OPTIMIZE)}")
    budget, told = _budget(goals, facts)
    first = (PassStep(_GRAPH),) if facts.simplified else ()
    about_graph = (f"graph: {facts.simplified}; every variant gets that, its answers stay",) if first else ()
    said = (facts.line(), told, *about_graph)
    cost, about_cost = _cost(mode, facts, target)
    after, about_training = _training(facts, effort)
    about_looking: tuple[str, ...] = ()
    if effort == "fast":
        about_looking = (
            f"channels are looked at on {_FAST_SAMPLES} samples, layers refitted one by one: --effort fast",
        )
    prune = PassStep(
        "prune",
        {
            "cost": cost,
            **({"tile": 1} if mode == "size" else {}),
            **({"samples": _FAST_SAMPLES, "pairs": False} if effort == "fast" else {}),
        },
    )
    why_not = _why_left(mode, facts)
    if why_not:
        plain = _trained_int8(facts, effort) if mode == "accuracy" else ()
        more = ("int8 is trained, not only calibrated: accuracy is what counts",) if plain else ()
        return Strategy((), prune, (), (*first, *plain), budget, (*said, why_not, *more), first)
    shares, about_size = _shares(mode, goals)
    about_measuring = (
        (f"which of the trials the target runs: by their latency on {facts.device}",) if facts.is_timed else ()
    )
    return Strategy(
        shares, prune, after, first, budget,
        (*said, about_cost, *about_measuring, *about_size, *about_looking, about_training), first,
    )  # fmt: skip


def _shares(mode: str, goals: Goals) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """A goal on bytes is one that the search goes for, however small that is."""
    if goals.max_bytes is None:
        return _SHARES[mode], ()
    shares = tuple(sorted({*_SHARES[mode], *_DOWN_TO}, reverse=True))
    return shares, (f"it goes on down to {shares[-1]:.0%} of the cost: --max-bytes {goals.max_bytes:,} is to be met",)


def _budget(goals: Goals, facts: Facts) -> tuple[Goals, str]:
    if goals.wants_quality:
        limit = f"{goals.max_drop * 100:g} pt of the metric" if goals.max_drop is not None else ""
        other = f"{goals.min_agreement:.1%} agreement" if goals.min_agreement is not None else ""
        return Goals(
            goals.max_drop, goals.min_agreement, max_bytes=goals.max_bytes
        ), f"budget: {' and '.join(filter(None, (limit, other)))}"
    if facts.has_labels:
        return Goals(
            max_drop=DEFAULT_DROP, max_bytes=goals.max_bytes
        ), f"budget: none was set, so {DEFAULT_DROP * 100:g} pt may be lost (--max-drop)"
    told = f"budget: none was set, so answers agree on {DEFAULT_AGREEMENT:.0%} at least (--min-agreement)"
    return Goals(min_agreement=DEFAULT_AGREEMENT, max_bytes=goals.max_bytes), told


def _cost(mode: str, facts: Facts, target: Target) -> tuple[str, str]:
    if mode == "size":
        return "bytes", "cost: bytes of the weights; widths of any number, because size is what counts"
    step = f"widths in steps of {target.channel_tile}, what its int8 kernels work in"
    if target.has_edgetpu:
        return "macs", f"cost: multiply-accumulates, because no instructions of an Edge TPU can be counted; {step}"
    if facts.counts_arm:
        core = facts.device.partition(":")[2] if facts.device and not facts.is_timed else f"the target's {target.cpu}"
        return "arm", f"cost: SIMD instructions on {core}, emulated ({LABEL}); {step}"
    return "macs", f"cost: multiply-accumulates, because the target's {target.cpu} cannot be emulated here; {step}"


def _training(facts: Facts, effort: str) -> tuple[tuple[PassStep, ...], str]:
    epochs = _epochs(facts, effort)
    if not epochs:
        return (), "no training: --effort fast"
    if not facts.can_train:
        return (), "no training: TensorFlow is not here (pip install 'edgeloop[keras]'); layers are refitted instead"
    if facts.samples < _ENOUGH_TO_TRAIN:
        return (), f"no training: {facts.samples} samples are few ({_ENOUGH_TO_TRAIN} at least); layers are refitted"
    options: dict[str, object] = {"epochs": epochs}
    limit = _TRAINED_ON.get(effort)
    if limit is not None and limit < facts.samples:
        options["samples"] = limit
    on = min(facts.samples, limit or facts.samples)
    options["rate"] = _RATE if epochs * on >= _FEW_STEPS * _BATCH else _RATE_OF_FEW
    told = (
        f"what refitting does not bring back is learnt from the model that came in: {epochs} epochs on {on:,} samples; "
        "labels only judge, so that a gain is none of new data"
    )
    return (PassStep("distill", options),), told


def _epochs(facts: Facts, effort: str) -> int:
    epochs = _EPOCHS[effort]
    return max(epochs, -(-_FEWEST_STEPS * _BATCH // max(1, facts.samples))) if epochs else 0


def _trained_int8(facts: Facts, effort: str) -> tuple[PassStep, ...]:
    if not facts.can_train or not _epochs(facts, effort) or facts.samples < _ENOUGH_TO_TRAIN:
        return ()
    return (PassStep("qat", {"epochs": _epochs(facts, effort), "rate": 1e-4, "labels": False}),)


def _why_left(mode: str, facts: Facts) -> str:
    """Why no trial is worth it, "" where it is."""
    if mode == "accuracy":
        return "the model keeps its size: accuracy is what counts"
    if facts.samples < _FEWEST_SAMPLES:
        return f"the model is left as it is: {facts.samples} samples are too few to refit layers ({_FEWEST_SAMPLES})"
    if facts.macs < _SMALLEST_MACS and mode != "size":
        return f"the model is left as it is: {facts.macs:,} multiply-accumulates are less than what stands around it"
    if facts.layers < 2:
        return "the model is left as it is: it has no inner channels to remove"
    return ""
