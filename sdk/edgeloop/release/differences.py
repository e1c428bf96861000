"""What changed between two versions of the same bytes, as differences of bytes at places that belong together.

A model that was trained on keeps its layout: nearly every weight is another one, but by a few steps. Differences modulo
256 are then small numbers, which pack well where the changed bytes themselves do not. After an insertion the rest
belongs to bytes elsewhere: a run says from where.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeloop.affine import Array

Run = tuple[int, int]
"""(bytes, where in the old content they belong to; -1: to nothing there)."""

PIECE_BYTES = 64 << 10
_BLOCK_BYTES = 4 << 10
_SAMPLE = 1024
_NEAR_BYTES = 64
_STEP_BYTES = 4
"""Tables of a .tflite file are aligned to so many bytes at least."""
_WORTH_IT, _NEAR_ENOUGH = 0.8, 0.4
"""Of how far the new bytes are from 0: below the first, differences pack better than the bytes themselves; below the
second, no other place is looked for."""


def find_runs(old: bytes, new: bytes) -> list[Run]:
    """All of `new`, block by block, each with the place in `old` it differs least from. Needs numpy."""
    import numpy as np

    before, after = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    runs: list[Run] = []
    last = 0
    for start in range(0, len(new), _BLOCK_BYTES):
        block = after[start : start + _BLOCK_BYTES]
        nothing = _mean(block)
        found = (_distance(before, block, start + last), last)
        if found[0] > _NEAR_ENOUGH * nothing:
            near = range(last - _NEAR_BYTES, last + _NEAR_BYTES + 1, _STEP_BYTES)
            shifts = dict.fromkeys((last, 0, len(old) - len(new), *near))
            found = min(((_distance(before, block, start + shift), shift) for shift in shifts), key=lambda it: it[0])
        where = -1
        if found[0] < _WORTH_IT * nothing:
            last = found[1]
            where = start + last
        length, former = runs[-1] if runs else (0, 0)
        if runs and ((where < 0 and former < 0) or (where >= 0 and former >= 0 and former + length == where)):
            runs[-1] = (length + len(block), former)
        else:
            runs.append((len(block), where))
    return runs


def pieces(runs: Sequence[Run]) -> Iterator[Run]:
    """The same runs in pieces of at most PIECE_BYTES."""
    for length, where in runs:
        for done in range(0, length, PIECE_BYTES):
            yield min(PIECE_BYTES, length - done), where if where < 0 else where + done


def subtract(new: bytes, old: bytes) -> bytes:
    """new - old, byte by byte modulo 256. Both of one length."""
    high, low = _masks(len(new))
    a, b = int.from_bytes(new, "little"), int.from_bytes(old, "little")
    return (((a | high) - (b & low)) ^ ((a ^ ~b) & high)).to_bytes(len(new), "little")


def add(difference: bytes, old: bytes) -> bytes:
    """What `subtract` came from. Without numpy: it takes 20 MB that a device may not have."""
    high, low = _masks(len(old))
    a, b = int.from_bytes(difference, "little"), int.from_bytes(old, "little")
    return (((a & low) + (b & low)) ^ ((a ^ b) & high)).to_bytes(len(old), "little")


@functools.lru_cache(maxsize=4)
def _masks(length: int) -> tuple[int, int]:
    """Of every byte its highest bit, and the others: sums of the others do not run into the next byte."""
    return int.from_bytes(b"\x80" * length, "little"), int.from_bytes(b"\x7f" * length, "little")


def _distance(old: Array, block: Array, where: int) -> float:
    """How far the block is from what stands there, infinite where the old content does not cover it."""
    if where < 0 or where + len(block) > len(old):
        return float("inf")
    return _mean(block - old[where : where + len(block)])


def _mean(values: Array) -> float:
    """Of the absolute values of uint8 that stand for int8, by a sample."""
    import numpy as np

    sample = values[:: max(1, len(values) // _SAMPLE)]
    return float(np.minimum(sample, 0 - sample).mean())
