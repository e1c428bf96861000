"""Many histograms at once, for those who have numpy: the wire forms of a whole batch as columns.

`read` is the quick door beside `Histogram.from_wire`, never a second opinion: what it calls `plain` is valid by the
same rules and means the same; everything else (broken, or just with huge numbers) is left to `from_wire` to judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.telemetry.histogram import (
    BUCKETS_PER_OCTAVE,
    MAX_COUNT,
    MAX_INDEX,
    MAX_VALUE_NS,
    MAX_WIRE_BYTES,
    MIN_INDEX,
    Histogram,
)

_HEAD = 5  # zero_count, sum, min, spread and the first index stand before the counts
_MAX_BYTES = 9  # of a number: 63 bits
_MAX_COUNT = 2**40  # sums of as many as a wire can hold stay exact
_SLACK = 5e-7  # half of what `from_wire` allows, since numpy's log2 and math's may differ in the last bit
_MERGE_AFTER = 1024
_DENSE_CELLS = 2**20
_READ_WIRES = 400  # at a time: columns that fit a cache

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class HistogramArrays:
    """plain: bool [n], which wires the other arrays hold; rows of others are 0 and they own no bucket.

    zero_count, sum_ns, min_ns, max_ns: [n]. owner, index, count: [m], a row for every bucket that is not empty.
    """

    plain: NDArray[np.bool_]
    zero_count: Integers
    sum_ns: Integers
    min_ns: Integers
    max_ns: Integers
    owner: Integers
    index: Integers
    count: Integers


def read(wires: Sequence[bytes]) -> HistogramArrays:
    """`Histogram.to_wire` of any number of histograms, which may be a stranger's bytes; raises nothing."""
    n = len(wires)
    lengths = np.fromiter(map(len, wires), np.int64, n)
    data = np.frombuffer(b"".join(wires), np.uint8)
    if not data.size:
        none, zeros = np.zeros(0, np.int64), np.zeros(n, np.int64)
        return HistogramArrays(np.ones(n, bool), zeros, zeros, zeros, zeros, none, none, none)
    filled = lengths > 0
    wire_ends = np.cumsum(lengths)

    # Numbers: their bytes have the high bit set, all but the last. A wire's last byte ends a number in any case, so
    # that what is cut short does not reach into its neighbor.
    is_end = data < 0x80
    ends_of_filled = wire_ends[filled] - 1
    cut = np.zeros(n, bool)
    cut[filled] = ~is_end[ends_of_filled]
    is_end[ends_of_filled] = True
    ends = np.flatnonzero(is_end)
    sizes = np.diff(ends, prepend=-1)
    low = data & 0x7F
    value = low[ends].astype(np.int64)
    wide = np.flatnonzero(sizes > 1)
    bad_number = np.zeros(ends.size, bool)
    bad_number[wide] = (value[wide] == 0) | (sizes[wide] > _MAX_BYTES)
    for byte in range(1, _MAX_BYTES):
        wide = wide[sizes[wide] > byte]
        if not wide.size:
            break
        value[wide] = value[wide] << 7 | low[ends[wide] - byte]

    past = np.searchsorted(ends, wire_ends)  # the number behind each wire's last one
    first = np.concatenate(([0], past[:-1]))
    numbers = past - first
    owner = np.repeat(np.arange(n), numbers)
    place = np.arange(ends.size) - first[owner]

    # Behind the head: counts, and runs of empty buckets as a 0 and the run's length - 1.
    behind_head = place >= _HEAD
    zero = behind_head & (value == 0)
    marker = zero.copy()
    marker[1:] &= ~zero[:-1]
    length = np.zeros_like(marker)
    length[1:] = marker[:-1]
    is_count = behind_head & ~marker & ~length
    bad_number |= is_count & zero
    bad_number[1:] |= marker[1:] & length[:-1]
    bad_number |= marker & ((place == _HEAD) | (place >= numbers[owner] - 2))
    bad_number |= length & (value > MAX_INDEX)
    bad_number |= is_count & (value >= _MAX_COUNT)
    bad = np.zeros(n, bool)
    bad[owner[bad_number]] = True
    bad |= cut | (filled & (numbers < 4)) | (numbers == _HEAD) | (lengths > MAX_WIRE_BYTES)

    def head(which: int) -> Integers:
        return np.where(numbers > which, value[np.minimum(first + which, value.size - 1)], 0)

    zero_count, sum_ns, min_ns, spread_ns, first_index = (head(which) for which in range(_HEAD))
    bad |= (zero_count >= _MAX_COUNT) | (min_ns > MAX_VALUE_NS) | (spread_ns > MAX_VALUE_NS) | (first_index > MAX_INDEX)
    max_ns = min_ns + spread_ns
    bad |= max_ns > MAX_VALUE_NS

    steps = is_count.astype(np.int64)
    steps[length] = np.minimum(value[length], MAX_INDEX) + 1
    walked = np.cumsum(steps)
    before = walked - steps
    position = np.flatnonzero(is_count)
    owner, count = owner[position], value[position]
    starts = np.append(before, walked[-1])[first]
    index = np.minimum(first_index, MAX_INDEX + 1)[owner] + MIN_INDEX + before[position] - starts[owner]
    bad[owner[index > MAX_INDEX]] = True

    kept = ~bad[owner]
    owner, index, count = owner[kept], index[kept], count[kept]
    sums = np.concatenate(([0], np.cumsum(count)))
    from_row, to_row = np.searchsorted(owner, np.arange(n)), np.searchsorted(owner, np.arange(n), side="right")
    total = zero_count + sums[to_row] - sums[from_row]
    with_buckets = to_row > from_row
    bad |= filled & ((total <= 0) | ((zero_count > 0) != (min_ns == 0)) | (with_buckets != (max_ns > 0)))
    rows = np.flatnonzero(with_buckets & ~bad)
    bad[rows] |= ~_in_bucket(max_ns[rows], index[to_row[rows] - 1])
    rows = rows[zero_count[rows] == 0]
    bad[rows] |= ~_in_bucket(min_ns[rows], index[from_row[rows]])
    exact = total.astype(float) * max_ns < 2**62
    bad |= ~exact | (sum_ns < total * min_ns) | (sum_ns > total * max_ns)

    for column in (zero_count, sum_ns, min_ns, max_ns):
        column[bad] = 0
    kept = ~bad[owner]
    return HistogramArrays(~bad, zero_count, sum_ns, min_ns, max_ns, owner[kept], index[kept], count[kept])


def read_all(wires: Sequence[bytes]) -> HistogramArrays:
    """`read` of any number of them, a few at a time."""
    starts = range(0, max(len(wires), 1), _READ_WIRES)
    return _joined([read(wires[start : start + _READ_WIRES]) for start in starts])


def summed(arrays: HistogramArrays, groups: Sequence[int], group_count: int) -> list[Histogram]:
    """A histogram of all plain ones of each group 0..group_count-1. groups: the group of each, -1 for none."""
    of = np.asarray(groups, np.int64)
    result = [Histogram() for _ in range(group_count + 1)]
    _add(result, arrays, np.where(of < 0, group_count, of))
    return result[:-1]


def merged(
    wires: Sequence[bytes], groups: Sequence[int], group_count: int, *, max_count: int | None = MAX_COUNT
) -> list[Histogram]:
    """A histogram of all wires of each group 0..group_count-1. DataError where `Histogram.from_wire` raises it.

    groups: the group of each wire. Exact, however large the sums grow. max_count: see `from_wire`.
    """
    of = np.asarray(groups, np.int64)
    result = [Histogram() for _ in range(group_count)]
    if not wires:
        return result
    arrays = read_all(wires)
    _add(result, arrays, of)
    for number in np.flatnonzero(~arrays.plain).tolist():
        result[of[number]] = result[of[number]].merge(Histogram.from_wire(wires[number], max_count=max_count))
    return result


def _joined(parts: Sequence[HistogramArrays]) -> HistogramArrays:
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(part.plain.size for part in parts)])
    owner = np.concatenate([part.owner + start for part, start in zip(parts, starts[:-1], strict=True)])
    columns = ("sum_ns", "min_ns", "max_ns", "index", "count")
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("plain", "zero_count", *columns)
    }
    return HistogramArrays(owner=owner, **joined)


class RunningMerge:
    """All histograms added so far, merged. They wait as bytes until there are enough of them to be merged at once."""

    __slots__ = ("_merged", "_waiting")

    def __init__(self) -> None:
        self._merged = Histogram()
        self._waiting: list[bytes] = []

    def add(self, wire: bytes) -> None:
        """wire: valid `Histogram.to_wire`."""
        self._waiting.append(wire)
        if len(self._waiting) >= _MERGE_AFTER:
            self.total()

    def include(self, histogram: Histogram) -> None:
        self._merged = self._merged.merge(histogram)

    def total(self) -> Histogram:
        """A histogram that later additions do not change."""
        if self._waiting:
            self._merged = self._merged.merge(merged(self._waiting, [0] * len(self._waiting), 1)[0])
            self._waiting.clear()
        return self._merged


def _add(result: list[Histogram], arrays: HistogramArrays, of: Integers) -> None:
    groups, width = len(result), MAX_INDEX - MIN_INDEX + 1
    cell_of = of[arrays.owner] * width + arrays.index - MIN_INDEX
    if groups * width <= _DENSE_CELLS:
        table = np.zeros(groups * width, np.int64)
        np.add.at(table, cell_of, arrays.count)
        cells = np.flatnonzero(table)
        counts = table[cells]
    else:
        cells, cell_of = np.unique(cell_of, return_inverse=True)
        counts = np.zeros(cells.size, np.int64)
        np.add.at(counts, cell_of, arrays.count)
    zero, high, low = (np.zeros(groups, np.int64) for _ in range(3))
    np.add.at(zero, of, arrays.zero_count)
    np.add.at(high, of, arrays.sum_ns >> 31)  # in halves: a sum of sums may have more than 63 bits
    np.add.at(low, of, arrays.sum_ns & 0x7FFF_FFFF)
    some = arrays.plain & ((arrays.max_ns > 0) | (arrays.zero_count > 0))
    least, most = np.full(groups, MAX_VALUE_NS), np.zeros(groups, np.int64)
    np.minimum.at(least, of[some], arrays.min_ns[some])
    np.maximum.at(most, of[some], arrays.max_ns[some])
    for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
        result[cell // width].buckets[cell % width + MIN_INDEX] = count
    for number, histogram in enumerate(result):
        histogram.zero_count = int(zero[number])
        if histogram.count:
            histogram.sum_ns = (int(high[number]) << 31) + int(low[number])
            histogram.min_ns, histogram.max_ns = int(least[number]), int(most[number])


def _in_bucket(value_ns: Integers, index: Integers) -> NDArray[np.bool_]:
    position = np.log2(value_ns) * BUCKETS_PER_OCTAVE
    inside: NDArray[np.bool_] = (index - _SLACK <= position) & (position <= index + 1 + _SLACK)
    return inside
