"""Changes made to a batch's inputs at random, so that few samples teach more; and what such a change must keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.errors import UsageError

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]
Augment = Callable[[Arrays, np.random.Generator], Arrays]
"""(inputs of a batch, random numbers) -> other inputs of the same shapes and dtypes; it may not write into those it
got. One with the attribute `mixes` = True gives samples that no label is known of."""


@dataclass(frozen=True)
class FlipsAndShifts:
    """See `flips_and_shifts`."""

    pixels: int = 4

    def __call__(self, inputs: Arrays, random: np.random.Generator) -> Arrays:
        pictures, pixels = inputs[0], self.pixels
        if pictures.ndim != 4:
            raise UsageError(
                f"flips and shifts are for pictures [batch, height, width, channels], not {list(pictures.shape)}",
                hint="leave that augmentation out",
            )
        count, height, width = pictures.shape[:3]
        around = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
        padded = np.pad(pictures, around, mode="reflect")
        tops, lefts = random.integers(0, 2 * pixels + 1, (2, count))
        mirrored = np.asarray(random.random(count) < 0.5)
        moved = np.empty_like(pictures)
        for i in range(count):
            window = padded[i, tops[i] : tops[i] + height, lefts[i] : lefts[i] + width]
            moved[i] = window[:, ::-1] if mirrored[i] else window
        return (moved, *inputs[1:])


@dataclass(frozen=True)
class Mixed:
    """See `mixed`."""

    share: float = 0.5
    mixes = True

    def __call__(self, inputs: Arrays, random: np.random.Generator) -> Arrays:
        count = len(inputs[0])
        partners = random.permutation(count)
        own = np.where(random.random(count) < self.share, random.random(count), 1.0).astype(np.float32)
        return tuple(_blended(array, array[partners], own) for array in inputs)


@dataclass(frozen=True)
class Chained:
    """See `chained`."""

    parts: tuple[Augment, ...]

    @property
    def mixes(self) -> bool:
        return any(map(mixes, self.parts))

    def __call__(self, inputs: Arrays, random: np.random.Generator) -> Arrays:
        for part in self.parts:
            inputs = part(inputs, random)
        return inputs


def flips_and_shifts(pixels: int = 4) -> Augment:
    """For pictures [batch, height, width, channels]: each mirrored left to right or not, and moved by up to `pixels`
    with the border reflected. Other inputs stay. Raises UsageError.
    """
    if pixels < 0:
        raise UsageError(f"pictures are shifted by {pixels} pixels: it must be at least 0")
    return FlipsAndShifts(pixels)


def mixed(share: float = 0.5) -> Augment:
    """For learning from a teacher without labels: that share of the samples becomes w x + (1 - w) x', x' another sample
    of the batch and w uniform in 0..1 for each. Bytes are rounded.

    mixup, Zhang et al. 2018, with the weights of Beyer et al. 2022, section 3. What label a mixture has is not known
    here, so training with labels refuses it. Raises UsageError.
    """
    if not 0 < share <= 1:
        raise UsageError(f"the share of mixed samples is {share}: it must be above 0 and at most 1")
    return Mixed(share)


def chained(*augments: Augment) -> Augment:
    """One after another."""
    return Chained(augments)


def mixes(augment: Augment | None) -> bool:
    """Whether it gives samples that no label is known of."""
    return bool(getattr(augment, "mixes", False))


AUGMENTS: Mapping[str, Callable[[], Augment]] = {"flips": flips_and_shifts, "mix": mixed}
"""As recipes name them."""


def augment_named(names: str | Sequence[str]) -> Augment | None:
    """One name of `AUGMENTS`, several for one after another, or "none"."""
    asked = [names] if isinstance(names, str) else list(names)
    made = [AUGMENTS[name]() for name in asked if name != "none"]
    return chained(*made) if len(made) > 1 else next(iter(made), None)


def augmented(augment: Augment, inputs: Arrays, random: np.random.Generator) -> Arrays:
    """What `augment` makes of a batch, in the dtypes of `inputs`. Floats of another width are converted; anything else
    raises UsageError saying what came and what was wanted."""
    changed = augment(inputs, random)
    if not isinstance(changed, (tuple, list)) or len(changed) != len(inputs):
        what = f"{len(changed)} arrays" if isinstance(changed, (tuple, list)) else f"one {type(changed).__name__}"
        raise UsageError(
            f"augment returned {what}, wanted a tuple of {len(inputs)}: one array per model input",
            hint="return (pictures,)",
        )
    return tuple(_fitting(np.asarray(new), old, i) for i, (new, old) in enumerate(zip(changed, inputs, strict=True)))


def _fitting(new: Array, old: Array, number: int) -> Array:
    are_floats = new.dtype.kind == old.dtype.kind == "f"
    if new.shape == old.shape and (new.dtype == old.dtype or are_floats):
        return new.astype(old.dtype, copy=False)
    back = f"end it with {'.' if old.dtype.kind == 'f' else 'np.rint, np.clip and .'}astype(np.{old.dtype})"
    raise UsageError(
        f"augment returned {new.dtype} {list(new.shape)} for input {number}, wanted {old.dtype} {list(old.shape)}",
        hint=back if new.shape == old.shape else "it changes values, not shapes",
    )


def _blended(array: Array, other: Array, own: Array) -> Array:
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise UsageError(f"only pictures and other float values can be mixed, an input is {array.dtype}")
    weights = own.reshape(-1, *(1,) * (array.ndim - 1))
    values = weights * array + (1 - weights) * other
    blended: Array = (np.rint(values) if array.dtype == np.uint8 else values).astype(array.dtype)
    return blended
