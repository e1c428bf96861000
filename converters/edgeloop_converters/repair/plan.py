"""The ladder's decisions as pure functions: which rungs, which ops to try, which of them to move, when to stop."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeloop.graph import Graph
from edgeloop_converters.goals import Goals
from edgeloop_converters.passes import equalization, rounding
from edgeloop_converters.repair.records import BIAS, EQUALIZATION, FLIPS_PER_ERROR, RANGES, ROUNDING, RUNGS, Score
from edgeloop_converters.repair.restore import BORDERS
from edgeloop_converters.schemes.table import FLOAT, Scheme

FEWEST_SAMPLES = 20
"""Calibration samples below which there is nothing to choose by."""
_FLOAT_COST = 2.0
"""Added latency of a float op in shares of the whole int8 model's: float was measured at about three times int8."""
_BORDER_COST = 0.06
"""Of a stretch of float ops: codes become float before it, and codes again behind it."""
_LEAST_COST = 0.1
_TAIL_SHARE = 0.1
"""Of the multiply-accumulates: so much may leave an accelerator for the CPU."""
MOST_FLOAT_SHARE = 0.9
"""Of the multiply-accumulates: with more in float it would be an int8 model by name only, and `--scheme float` serves
as well."""
_LEAST_GAIN = {True: 0.02, False: 0.1}
"""Of the loss, that a rung must take away to stay: constants cost nothing, float ops do."""
_WINDOWS = (2, 4, 8)
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Budget:
    """What an effort may spend: samples that rungs fit to, samples that choose, samples per trial of an op,
    multiply-accumulates for trying all ops once, calibration methods tried, suspects whose ranges are searched.

    seconds: where all of it stops however far it is, on slow hosts.
    """

    seconds: float
    fit_samples: int
    validation_samples: int
    trial_samples: int
    trial_macs: float
    methods: int
    searched: int

    def trial_samples_of(self, units: int, macs: int) -> int:
        """So many samples per trial that all units get their turn, of a model of that many multiply-accumulates."""
        affordable = int(self.trial_macs / max(1, units * macs))
        return max(min(_FEWEST_TRIED, self.trial_samples), min(affordable, self.trial_samples))


BUDGETS = {
    "fast": Budget(20.0, 64, 128, 32, 2e10, 2, 2),
    "default": Budget(90.0, 128, 512, 64, 4e11, 4, 8),
    "best": Budget(240.0, 256, 1024, 128, 4e12, 4, 8),
}
_FEWEST_TRIED = 8


@dataclass(frozen=True)
class Situation:
    """What decides which rungs there are. done: passes that were tried before the gate, by their names."""

    scheme: Scheme
    engine: str
    is_edgetpu: bool
    samples: int
    done: frozenset[str] = frozenset()


def why_no_repair(situation: Situation) -> str:
    """Why the whole ladder is left out; "" where it is not."""
    scheme = situation.scheme
    if scheme.name == FLOAT:
        return "the model is the float model itself"
    if scheme.activations != "int8":
        return f"--scheme {scheme.name} has no int8 ops that could be moved; --scheme float loses nothing"
    if situation.engine != "aeq":
        return f"--engine {situation.engine} is there to compare with, as it is"
    if situation.samples < FEWEST_SAMPLES:
        return f"{situation.samples} calibration samples are too few to choose a repair by (at least {FEWEST_SAMPLES})"
    return ""


def plan_rungs(situation: Situation) -> dict[str, str]:
    """Every rung in order -> why it is not tried; "" where it is."""
    plan = dict.fromkeys(RUNGS, "")
    scheme = situation.scheme
    if not scheme.refined:
        why = f"--scheme {scheme.name} chooses these constants itself"
        return plan | {EQUALIZATION: why, RANGES: why, BIAS: why, ROUNDING: why}
    for rung, name in ((EQUALIZATION, equalization.NAME), (ROUNDING, rounding.NAME)):
        if name in situation.done:
            plan[rung] = "the refinement has tried it"
    return plan


@dataclass(frozen=True)
class Unit:
    """Ops that are tried in float together. anchor: the op that is suspected; -1 of a stretch of ops.

    last_resort: moved only where nothing smaller gains.
    """

    ops: frozenset[int]
    anchor: int = -1
    last_resort: bool = False


def units_of(graph: Graph, movable: Collection[int], *, tail_only: bool, macs: Mapping[int, int]) -> tuple[Unit, ...]:
    """What to try: every op alone, every op with those that read its output, and stretches of ops.

    An op alone shows what its weights and its own arithmetic cost; with its readers, what the codes of its output
    cost. Stretches find culprits that hide each other. tail_only: only ends of the model behind which no other op
    comes, of at most a tenth of the work: an accelerator takes nothing behind the first op that it does not map.
    """
    order = sorted(movable)
    if tail_only:
        return _tails(graph, order, macs)
    readers = {index: frozenset({index, *_readers(graph, index, set(order))}) for index in order}
    units = [Unit(frozenset({index}), index) for index in order]
    units += [Unit(readers[index], index) for index in order if len(readers[index]) > 1]
    for parts in _WINDOWS:
        size = math.ceil(len(order) / parts)
        if size > 2:
            starts = range(0, len(order), max(1, size // 2))
            units += [Unit(frozenset(order[i : i + size]), last_resort=True) for i in starts]
    units += _tails(graph, order, macs)  # one border only, and seldom much work
    first: dict[frozenset[int], Unit] = {}
    for unit in units:
        first.setdefault(unit.ops, unit)
    return tuple(first.values())


def _readers(graph: Graph, index: int, movable: set[int]) -> set[int]:
    """Movable ops that read an output of op `index`; through ops that only move its codes."""
    main, found = graph.main, set()
    consumers = main.consumers()
    ahead = [index]
    while ahead:
        for output in main.ops[ahead.pop()].outputs:
            for reader in consumers.get(output, []):
                if reader not in movable or reader in found:
                    continue
                found.add(reader)
                result = main.tensors[main.ops[reader].outputs[0]]
                if result.affine == main.tensors[output].affine and result.dtype == main.tensors[output].dtype:
                    ahead.append(reader)
    return found


def _tails(graph: Graph, order: Sequence[int], macs: Mapping[int, int]) -> tuple[Unit, ...]:
    real = [i for i, op in enumerate(graph.main.ops) if op.name not in BORDERS]
    total, units = max(1, sum(macs.values())), []
    for count in range(1, len(real) + 1):
        tail = real[-count:]
        if not set(tail) <= set(order) or sum(macs.get(i, 0) for i in tail) > _TAIL_SHARE * total:
            break
        units.append(Unit(frozenset(tail)))
    return tuple(units)


def is_worth_keeping(before: Score, after: Score, *, free: bool) -> bool:
    """Whether a rung stays. free: only constants change."""
    return after.loss <= (1 - _LEAST_GAIN[free]) * before.loss and after.loss < before.loss


def may_move(ops: Collection[int], macs: Mapping[int, int]) -> bool:
    """Whether what is left in int8 is still worth the name."""
    return sum(macs.get(i, 0) for i in ops) <= MOST_FLOAT_SHARE * sum(macs.values())


def cost_of(ops: Collection[int], macs: Mapping[int, int]) -> float:
    """Estimated added latency of these ops in float, as a share of the int8 model's."""
    total = max(1, sum(macs.values()))
    stretches = sum(i - 1 not in ops for i in ops)
    return _FLOAT_COST * sum(macs.get(i, 0) for i in ops) / total + _BORDER_COST * stretches


def worth(before: Score, after: Score, cost: float) -> float:
    """What moving ops gains for what it costs: the share of the loss that goes, by added latency."""
    return (1 - after.loss / max(before.loss, 1e-30)) / (_LEAST_COST + cost)


def meets(goals: Goals, score: Score, *, margin: bool) -> bool:
    """Whether the goals on quality hold on these samples.

    margin: by one standard error, that of a count of flips (Poisson; one more, so that none is not certainty).
    """
    n = score.samples
    flips = 1 - score.agreement
    if goals.max_drop is not None and score.drop is not None:
        # Only samples whose answer changed can change the accuracy; each counts +-1 (as in McNemar's test).
        allowed = goals.max_drop - (math.sqrt(flips * n + 1) / n if margin else 0.0)
        if score.drop > allowed + _TOLERANCE:
            return False
    if goals.min_agreement is not None:
        wanted = goals.min_agreement + (math.sqrt(flips * n + 1) / n if margin else 0.0)
        if score.agreement < min(wanted, 1.0) - _TOLERANCE:
            return False
    return True


@dataclass(frozen=True)
class Aim:
    """When to stop. The evaluation missed the goals, so validation samples on which `base` meets them flatter it: then
    half of its flips, or where there are none half of its error, must go as well.
    """

    goals: Goals
    base: Score

    def is_reached(self, score: Score) -> bool:
        expected = replace(score, agreement=min(score.agreement, 1 - self._expected_flips(score)))
        if not meets(self.goals, score, margin=True) or not meets(self.goals, expected, margin=False):
            return False
        if not meets(self.goals, self.base, margin=True):
            return True
        if self.base.agreement < 1:
            return 1 - score.agreement <= (1 - self.base.agreement) / 2 + _TOLERANCE
        return score.error <= self.base.error / 2

    def _expected_flips(self, score: Score) -> float:
        """Those of `base` that come of the outputs' error, shrunk as the error shrinks.

        Fewer may be counted by luck, more so the more candidates are counted.
        """
        explained = min(1 - self.base.agreement, FLIPS_PER_ERROR * math.sqrt(self.base.error))
        return explained * math.sqrt(score.error / max(self.base.error, 1e-30))
