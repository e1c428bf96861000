"""The preprocessing detective: does another plausible contract score clearly better than the one that is used?

The rule. Every reading of the data (scaling, channel order, resizing, class order) is run on the same labelled samples,
and compared with the given one pair by pair: `better` samples are right only with the other reading, `worse` only with
the given one. Another reading is named only when it is ahead by at least 5 points of accuracy and the one-sided exact
McNemar test, P(X >= better) for X ~ Binomial(better + worse, 1/2), is below 0.01 divided by the number of comparisons
made (Bonferroni), and its own skill, (accuracy - chance) / (1 - chance), is at least 0.15. More samples are drawn only
for readings whose lead may still turn out as 5 points, so a contract that is right costs one short round. Of the
readings that qualify and are as good as the best, the one that changes least is named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.contract import InputSpec
from edgeloop.runtime import Session
from edgeloop_converters.check_data.readings import (
    Indices,
    InputReading,
    LabelReading,
    image_readings,
    label_readings,
    resize_readings,
    tensor_readings,
)
from edgeloop_converters.data import IMAGE, Dataset, pick
from edgeloop_converters.evaluate.metrics import is_chance
from edgeloop_converters.scalings import outputs_with

ROUNDS = (64, 256, 1024)
MIN_GAIN = 0.05
MIN_SKILL = 0.15
ALPHA = 0.01
_AS_GOOD = 0.05
_FINE = 0.5

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Suspicion:
    """Another contract that is clearly better. title names it, fix says what to type."""

    title: str
    fix: str
    accuracy: float
    better: int
    worse: int
    p_value: float


@dataclass(frozen=True)
class Verdict:
    """accuracy: of the given contract over `samples`; comparisons: how many other contracts were tried."""

    accuracy: float
    samples: int
    comparisons: int
    classes: int
    suspicion: Suspicion | None

    @property
    def is_chance(self) -> bool:
        """Whether the given contract is no better than guessing."""
        return is_chance(self.accuracy, self.samples, self.classes)


@dataclass(frozen=True)
class _Contender:
    reading: InputReading
    labels: LabelReading

    @property
    def changes(self) -> int:
        return self.reading.changes + self.labels.changes


def investigate(
    session: Session,
    spec: InputSpec,
    dataset: Dataset,
    names: Sequence[str] | None = None,
    *,
    output: int = 0,
    seed: int = 0,
    rounds: Sequence[int] = ROUNDS,
) -> Verdict | None:
    """Try the plausible contracts beside `spec` on labelled samples. None when there is nothing to judge by.

    dataset: raw samples (pictures of any size), class ids as the given contract reads them. names: of the classes in
    the model's order, where known. output: which one holds the classes. Raises DataError for samples that cannot be
    read.
    """
    if dataset.labels is None or len(session.inputs) != 1 or len(dataset) < rounds[0] / 4:
        return None
    classes = int(np.prod(session.outputs[output].shape))
    present = np.unique(dataset.labels)
    if classes < 2 or len(present) < 2 or int(present[-1]) >= classes:
        return None
    return _Case(session, spec, dataset, output, names, seed).verdict(rounds)


def mcnemar(better: int, worse: int) -> float:
    """P(X >= better) for X ~ Binomial(better + worse, 1/2), exact."""
    n = better + worse
    if n == 0:
        return 1.0
    if n > 1000:  # the normal tail is exact enough there, and the sum is not cheap
        return 0.5 * math.erfc((better - 0.5 - n / 2) / math.sqrt(n / 2))
    return float(sum(math.comb(n, k) for k in range(better, n + 1)) / 2**n)


class _Case:
    def __init__(
        self,
        session: Session,
        spec: InputSpec,
        dataset: Dataset,
        output: int,
        names: Sequence[str] | None,
        seed: int,
    ) -> None:
        self._session, self._spec, self._dataset, self._output = session, spec, dataset, output
        self._classes, self._seed = int(np.prod(session.outputs[output].shape)), seed
        self._labels = label_readings(self._classes, names)
        self._readings: list[InputReading] = []
        self._compared = 0

    def verdict(self, rounds: Sequence[int]) -> Verdict:
        given = _Contender(InputReading(self._spec, "", 0, ""), self._labels[0])
        race: list[_Contender] | None = None
        right: dict[_Contender, Bools] = {}
        for count in rounds:
            indices = pick(self._dataset, count, self._seed)
            frames = [self._dataset.sample(int(i)) for i in indices]
            assert self._dataset.labels is not None
            ids = self._dataset.labels[indices]
            if race is None:
                right = self._first_round(frames, ids)
            else:
                right = self._right([given, *race], frames, ids)
            given = next(c for c in right if c.changes == 0)
            race = [c for c, r in right.items() if c is not given and _may_win(right[given], r)]
            last = count >= len(self._dataset)
            found = self._decide(given, right, final=last or count == rounds[-1])
            settled = not race and not is_chance(float(right[given].mean()), len(ids), self._classes)
            if found is not None or settled or last:
                break
        if not _is_fine(right[given]) and (found is None or found.accuracy < _FINE):
            other = self._permuted(frames, ids, right[given])
            if other is not None and (found is None or other.accuracy >= found.accuracy + MIN_GAIN):
                found = other
        return Verdict(float(right[given].mean()), len(right[given]), self._compared, self._classes, found)

    def _first_round(self, frames: Sequence[npt.NDArray[Any]], ids: Indices) -> dict[_Contender, Bools]:
        if self._spec.kind == IMAGE:
            readings = image_readings(self._spec)
        else:
            readings = tensor_readings(self._spec, np.stack(frames))
        right = self._right([_Contender(r, on) for r in readings for on in self._labels], frames, ids)
        if self._spec.kind == IMAGE and self._needs_resizing(frames):
            best = max(right, key=lambda c: (float(right[c].mean()), -c.changes))
            bases = {id(c.reading): c.reading for c in (next(iter(right)), best)}
            others = [r for base in bases.values() for r in resize_readings(base)]
            right |= self._right([_Contender(r, on) for r in others for on in self._labels], frames, ids)
        self._compared = (len(right) - 1) * len(ROUNDS)
        self._readings = list({id(c.reading): c.reading for c in right}.values())
        return right

    def _needs_resizing(self, frames: Sequence[npt.NDArray[Any]]) -> bool:
        """Whether some pictures have other proportions than the model; else all ways to resize are one."""
        assert self._spec.size is not None
        height, width = self._spec.size
        other = sum(abs(int(f.shape[0]) * width / (int(f.shape[1]) * height) - 1) > 0.05 for f in frames)
        return bool(other > len(frames) / 20)

    def _right(
        self, contenders: Sequence[_Contender], frames: Sequence[npt.NDArray[Any]], ids: Indices
    ) -> dict[_Contender, Bools]:
        """Which samples each contender gets right. Inputs that several share run once."""
        found: dict[_Contender, Bools] = {}
        outputs: dict[int, Indices | None] = {}
        for c in contenders:
            key = id(c.reading)
            if key not in outputs:
                outputs[key] = self._answers(c.reading, frames)
            answers = outputs[key]
            if answers is not None:
                found[c] = answers == c.labels.table[ids]
        return found

    def _answers(self, reading: InputReading, frames: Sequence[npt.NDArray[Any]]) -> Indices | None:
        raw = outputs_with(self._session, reading.spec, reading.frames(frames), self._output)
        return None if raw is None else raw.argmax(axis=1)

    def _decide(self, given: _Contender, right: dict[_Contender, Bools], *, final: bool) -> Suspicion | None:
        """The contract to name, if one is clearly better by now."""
        mine = right[given]
        proven: list[tuple[_Contender, int, int, float]] = []
        for c, r in right.items():
            better, worse, p = self._compare(mine, r)
            if c is not given and self._is_proven(better - worse, p, r):
                proven.append((c, better, worse, p))
        if not proven:
            return None
        best = max(proven, key=lambda x: float(right[x[0]].mean()))[0]
        # Rivals that may still turn out to be the best are settled by more samples, where there are any.
        rivals = [x for x in proven if _as_good(right[x[0]], right[best])]
        if len(rivals) > 1 and not final:
            return None
        c, better, worse, p = min(rivals, key=lambda x: (x[0].changes, -float(right[x[0]].mean())))
        title = ", and ".join(t for t in (c.reading.title, c.labels.title) if t)
        fixes = [f for f in (c.reading.fix, c.labels.fix) if f]
        return Suspicion(title, "; ".join(fixes), float(right[c].mean()), better, worse, p)

    def _compare(self, mine: Bools, theirs: Bools) -> tuple[int, int, float]:
        better, worse = int((theirs & ~mine).sum()), int((mine & ~theirs).sum())
        return better, worse, mcnemar(better, worse)

    def _is_proven(self, gained: int, p: float, right: Bools) -> bool:
        chance = 1 / self._classes
        skill = (float(right.mean()) - chance) / (1 - chance)
        return gained >= MIN_GAIN * len(right) and p < ALPHA / max(1, self._compared) and skill >= MIN_SKILL

    def _permuted(self, frames: Sequence[npt.NDArray[Any]], ids: Indices, mine: Bools) -> Suspicion | None:
        """Whether the classes are in another order altogether, with the given reading or, where that says nothing,
        with another: labels in a wrong order also mislead whoever chose the scaling by them.
        """
        if len(ids) < 4 * self._classes:
            return None
        given, *others = self._readings
        self._compared += len(self._readings)
        found = self._permuted_with(given, frames, ids, mine)
        if found is not None:
            return found
        some = max(ROUNDS[1], 8 * self._classes)
        every = (self._permuted_with(r, frames[:some], ids[:some], mine[:some]) for r in others)
        return max((one for one in every if one is not None), key=lambda one: one.accuracy, default=None)

    def _permuted_with(
        self, reading: InputReading, frames: Sequence[npt.NDArray[Any]], ids: Indices, mine: Bools
    ) -> Suspicion | None:
        """Fitted on one half of the samples, tested on the other."""
        from scipy.optimize import linear_sum_assignment

        answers = self._answers(reading, frames)
        if answers is None:
            return None
        fit, test = np.arange(0, len(ids), 2), np.arange(1, len(ids), 2)
        counts = np.zeros((self._classes, self._classes))
        np.add.at(counts, (ids[fit], answers[fit]), 1)
        _, table = linear_sum_assignment(counts, maximize=True)
        theirs = answers[test] == table[ids[test]]
        better, worse, p = self._compare(mine[test], theirs)
        if not self._is_proven(better - worse, p, theirs):
            return None
        order = ", ".join(f"{i} -> {int(table[i])}" for i in range(min(self._classes, 12)))
        more = ", ..." if self._classes > 12 else ""
        title = f"the classes are in another order (class id of the data -> output of the model: {order}{more})"
        fix = "give --labels in the order of the model's outputs, or renumber the class ids"
        title, fix = (f"{reading.title}, and {title}", f"{reading.fix}; {fix}") if reading.title else (title, fix)
        return Suspicion(title, fix, float(theirs.mean()), better, worse, p)


def _is_fine(right: Bools) -> bool:
    return float(right.mean()) >= _FINE


def _may_win(mine: Bools, theirs: Bools) -> bool:
    """Whether a lead of 5 points is within two standard errors of what was seen."""
    better, worse = int((theirs & ~mine).sum()), int((mine & ~theirs).sum())
    return (better - worse + 2 * math.sqrt(better + worse + 1)) / len(mine) >= MIN_GAIN


def _as_good(one: Bools, best: Bools) -> bool:
    """Whether `best` is not proven to be better than `one`."""
    better, worse = int((best & ~one).sum()), int((one & ~best).sum())
    return mcnemar(better, worse) > _AS_GOOD
