"""The gate: a frame that looks like one of the last inferred gets that one's result (cache level L1).

Frames are compared as thumbnails (the green channel in 16 blocks along the longer side) without their mean, so light
that changes everywhere alike is no difference, up to a limit. The threshold follows the camera's noise, and what audits
find: every n-th frame that could be gated is inferred all the same, and its result compared with the one it would have
had.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgeloop_agent.activation.judging import differs
from edgeloop_agent.activation.settings import GateSettings

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgeloop.postprocess import Result

    Floats = npt.NDArray[np.float32]

BLOCKS = 16
_SAMPLED = 48  # pixels along the longer side that are looked at: every row is a cache miss, and then one for the model
_NOISE_FACTOR = 6.0  # the largest of some 200 blocks of noise is 4 to 5 times the median one
_LEAST_THRESHOLD, _LARGEST_THRESHOLD = 2.0, 16.0  # levels of 255
_LIGHT_LIMIT = 24.0
_NOISE_EVERY, _NOISE_WEIGHT = 8, 0.25  # frames
_NOVELTY_WEIGHT = 0.05
_SHRINK = 0.7
_LEAST_SCALE, _LARGEST_SCALE = 0.2, 1.5


@dataclass(eq=False, slots=True)  # not frozen: that makes each take three times as long to make
class Thumbnail:
    """blocks: float32 levels (0..255) of a frame's blocks without their `mean`."""

    blocks: Floats
    mean: float


@dataclass(eq=False, slots=True)
class _Remembered:
    blocks: Floats
    mean: float
    result: Result
    time_ns: int
    reused: Result | None = None  # the result as it is given away, made when it first is


class Gate:
    """For one thread. For every frame `reuse`; where that gives None, infer and tell `inferred`."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._recent: list[_Remembered] = []  # the latest used first
        self._previous: Thumbnail | None = None
        self._now: Thumbnail | None = None
        self._match: _Remembered | None = None
        self._looked = self._matches = 0
        self._scale = 1.0
        self._shape: tuple[int, ...] = ()
        self._peak = 0.0
        self.noise = 0.0
        self.motion = self.novelty = 1.0
        """0..1: how far the last frame was from what is known; share of the latest frames that were new."""
        self.hits = self.misses = self.audits = self.differences = 0

    @property
    def threshold(self) -> float:
        """Levels of 255."""
        followed = max(_LEAST_THRESHOLD, _NOISE_FACTOR * self.noise) * self._scale
        return min(_LARGEST_THRESHOLD, followed)

    def reuse(self, frame: Any, now_ns: int, loosened: float = 1.0) -> Result | None:
        """The result for a frame that need not be inferred. loosened: factor of the threshold.

        Raises whatever a frame that is no picture and no array of numbers provokes.
        """
        known = self._look_up(frame, now_ns, loosened)
        if known is None:
            self.misses += 1
            return None
        self.hits += 1
        if known is not self._recent[0]:
            self._recent.remove(known)
            self._recent.insert(0, known)
        if known.reused is None:
            known.reused = replace(known.result, reused=True)
        return known.reused

    def _look_up(self, frame: Any, now_ns: int, loosened: float) -> _Remembered | None:
        now = self._now = self._thumbnail(frame)
        self._follow_noise(now)
        threshold = self.threshold * loosened
        nearest, least = None, float("inf")
        blocks, mean = now.blocks, now.mean
        for known in self._recent:
            if abs(mean - known.mean) > _LIGHT_LIMIT:
                continue
            distance = cv2.norm(blocks, known.blocks, cv2.NORM_INF)
            if distance < least:
                nearest, least = known, distance
                if distance <= threshold:
                    break
        self.motion = min(1.0, max(0.0, (least / threshold - 1.0) / 3.0))
        is_known = least <= threshold
        self.novelty += _NOVELTY_WEIGHT * ((not is_known) - self.novelty)
        self._match = nearest if is_known else None
        self._matches += is_known
        if nearest is None or not is_known:
            return None
        is_old = now_ns - nearest.time_ns > self._settings.max_age_s * 1e9
        return None if is_old or self._matches % self._settings.audit_every == 0 else nearest

    def inferred(self, result: Result, now_ns: int) -> None:
        """The result of the frame that was last looked at."""
        now, match = self._now, self._match
        if now is None:
            return
        if match is not None:
            self._learn(differs(match.result, result))
            self._recent.remove(match)
        self._recent.insert(0, _Remembered(now.blocks, now.mean, result, now_ns))
        del self._recent[self._settings.remembered :]
        self._now = self._match = None

    def forget(self) -> None:
        """Another model answers from now on: what is known is worth nothing."""
        self._recent.clear()
        self._match = None

    def _learn(self, is_different: bool) -> None:
        """Shrinking and growing are in balance where the share of differences is `max_difference`."""
        self.audits += 1
        share = self._settings.max_difference
        if is_different:
            self.differences += 1
            self._scale = max(_LEAST_SCALE, self._scale * _SHRINK)
        else:
            self._scale = min(_LARGEST_SCALE, self._scale * float(_SHRINK ** (-share / (1.0 - share))))

    def _follow_noise(self, now: Thumbnail) -> None:
        """The median block changes by noise alone, unless most of the picture moves."""
        before, self._previous = self._previous, now
        self._looked += 1
        if before is None or self._looked % _NOISE_EVERY:
            return
        changes = np.sort(cv2.absdiff(now.blocks, before.blocks), axis=None)
        median = float(changes[changes.size // 2])
        if self.noise == 0.0:
            self.noise = median
        else:
            weight = _NOISE_WEIGHT if median < self.threshold else _NOISE_WEIGHT / 10
            self.noise += weight * (median - self.noise)

    def _thumbnail(self, frame: Any) -> Thumbnail:
        array = np.asarray(frame)
        if array.shape != self._shape:
            self._shape, self._previous = array.shape, None
            self.forget()
        if array.dtype == np.uint8 and array.ndim in (2, 3) and min(array.shape[:2]) > 1 and array.shape[2:] != (2,):
            return thumbnail_of(array)
        flat = array.astype(np.float32).reshape(1, -1)
        flat = np.ascontiguousarray(flat[:, :: -(-flat.shape[1] // 256)])
        peak = float(cv2.norm(flat, cv2.NORM_INF))
        if not peak < float("inf"):
            raise ValueError("the frame has values that are not finite")
        if peak > self._peak:
            self._peak = peak * 1.25
            self.forget()
            self._previous = None
        return Thumbnail(flat * np.float32(255.0 / (self._peak or 1.0)), 0.0)


def thumbnail_of(picture: npt.NDArray[Any]) -> Thumbnail:
    """picture: uint8 [H, W] or [H, W, C]."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    every = max(1, longer // _SAMPLED)
    plane = picture if picture.ndim == 2 else picture[:, :, min(1, picture.shape[2] - 1)]
    sampled = np.ascontiguousarray(plane[::every, ::every])
    if longer > BLOCKS:
        size = max(1, round(width * BLOCKS / longer)), max(1, round(height * BLOCKS / longer))
        sampled = cv2.resize(sampled, size, interpolation=cv2.INTER_AREA)
    mean = cv2.mean(sampled)[0]
    return Thumbnail(cv2.subtract(sampled, mean, dtype=cv2.CV_32F), mean)
