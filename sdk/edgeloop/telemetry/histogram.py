"""Latency histograms that merge exactly: OpenTelemetry base-2 exponential buckets at scale 4, over integer nanoseconds.

Bucket `i` holds values in `(base**i, base**(i + 1)]` with `base = 2 ** (2 ** -scale)`, so `i = ceil(log2(v) * 16) - 1`
and `base = 1.0443` (OpenTelemetry specification, metrics data model, "ExponentialHistogram"; unit here: ns). Sum,
minimum and maximum are integers too: merging is associative, commutative and equal to the histogram of all samples.

A percentile is interpolated inside its bucket, whose ends are narrowed by the minimum and maximum seen. It lies in the
same bucket as the true order statistic: the error is at most `base - 1` = 4.43 %, and 0.1-1.2 % on average over
latency-like distributions (docs/telemetry.md).

Pure Python: the supervisor that folds and merges these does not have numpy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil, log2

from edgeloop.errors import DataError

SCALE = 4
BUCKETS_PER_OCTAVE = 1 << SCALE
BASE = 2.0 ** (2.0**-SCALE)
RELATIVE_ERROR_BOUND = BASE - 1.0
"""No percentile is further from the true one than this fraction of it."""

MAX_VALUE_NS = 2**62  # 146 years: nothing slower is a latency
MIN_INDEX = -1  # holds 1 ns
MAX_INDEX = 62 * BUCKETS_PER_OCTAVE - 1
MAX_COUNT = 2**53  # stays exact in a JSON number and in a float
MAX_WIRE_BYTES = 12 * 1024  # all 993 buckets with the largest counts
NS_PER_MS = 1_000_000


def bucket_index(value_ns: int) -> int:
    """Bucket of a value >= 1 ns."""
    return ceil(log2(value_ns) * BUCKETS_PER_OCTAVE) - 1


def bucket_bounds_ms(index: int) -> tuple[float, float]:
    """(lower, upper] bound of a bucket in ms."""
    return (
        2.0 ** (index / BUCKETS_PER_OCTAVE) / NS_PER_MS,
        2.0 ** ((index + 1) / BUCKETS_PER_OCTAVE) / NS_PER_MS,
    )


class Histogram:
    """Latencies of one stage. `fold_ns` records into it; `merge` and `+` return a new one and change neither side.

    `buckets` is sparse, {bucket index: count > 0}; `zero_count` holds values <= 0 ns (a clock too coarse to tell).
    """

    __slots__ = ("buckets", "max_ns", "min_ns", "sum_ns", "zero_count")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.zero_count = 0
        self.sum_ns = 0
        self.min_ns = 0
        self.max_ns = 0

    # -- recording

    @classmethod
    def of_ns(cls, values_ns: Iterable[int]) -> Histogram:
        """Histogram of integer nanoseconds, as `perf_counter_ns` differences give them."""
        histogram = cls()
        histogram.fold_ns(list(values_ns))
        return histogram

    @classmethod
    def of_ms(cls, values_ms: Iterable[float]) -> Histogram:
        """Histogram of milliseconds."""
        return cls.of_ns(round(value * NS_PER_MS) for value in values_ms)

    def fold_ns(self, values_ns: Sequence[int]) -> None:
        """Add many samples at once; the hot path only appends to a list and calls this once per report.

        Values <= 0 count as zero and values above `MAX_VALUE_NS` as that.
        """
        if not values_ns:
            return
        low, high = min(values_ns), max(values_ns)
        if low <= 0 or high > MAX_VALUE_NS:
            values_ns = [min(max(value, 0), MAX_VALUE_NS) for value in values_ns]
            low, high = min(values_ns), max(values_ns)
        if self.count:
            self.min_ns, self.max_ns = min(self.min_ns, low), max(self.max_ns, high)
        else:
            self.min_ns, self.max_ns = low, high
        self.sum_ns += sum(values_ns)
        if low == 0:
            self.zero_count += values_ns.count(0)
            values_ns = [value for value in values_ns if value]
        buckets = self.buckets
        for index, count in Counter([ceil(bits * BUCKETS_PER_OCTAVE) - 1 for bits in map(log2, values_ns)]).items():
            buckets[index] = buckets.get(index, 0) + count

    def fold_ms(self, values_ms: Iterable[float]) -> None:
        """`fold_ns` for milliseconds."""
        self.fold_ns([round(value * NS_PER_MS) for value in values_ms])

    def fold(self, values_ms: Iterable[float]) -> None:
        """Same as `fold_ms`."""
        self.fold_ms(values_ms)

    # -- merging

    def merge(self, other: Histogram) -> Histogram:
        """A new histogram of both; neither is changed."""
        return Histogram.merged((self, other))

    def __add__(self, other: Histogram) -> Histogram:
        return self.merge(other)

    @classmethod
    def merged(cls, histograms: Iterable[Histogram]) -> Histogram:
        """A new histogram of any number of them (empty when there are none)."""
        result = cls()
        buckets = result.buckets
        for histogram in histograms:
            if not histogram.count:
                continue
            if result.count:
                result.min_ns = min(result.min_ns, histogram.min_ns)
                result.max_ns = max(result.max_ns, histogram.max_ns)
            else:
                result.min_ns, result.max_ns = histogram.min_ns, histogram.max_ns
            result.sum_ns += histogram.sum_ns
            result.zero_count += histogram.zero_count
            for index, count in histogram.buckets.items():
                buckets[index] = buckets.get(index, 0) + count
        return result

    # -- reading

    @property
    def count_without_zeros(self) -> int:
        """Samples above 0 ns."""
        return sum(self.buckets.values())

    @property
    def count(self) -> int:
        """Samples."""
        return self.zero_count + self.count_without_zeros

    @property
    def sum_ms(self) -> float:
        """Sum of all samples."""
        return self.sum_ns / NS_PER_MS

    @property
    def min_ms(self) -> float:
        """Smallest sample; 0.0 when empty."""
        return self.min_ns / NS_PER_MS

    @property
    def max_ms(self) -> float:
        """Largest sample; 0.0 when empty."""
        return self.max_ns / NS_PER_MS

    @property
    def mean_ms(self) -> float:
        """Mean; 0.0 when empty."""
        count = self.count
        return self.sum_ms / count if count else 0.0

    def percentile(self, p: float) -> float:
        """Latency in ms below which `p` percent (0..100) of the samples lie; 0.0 when empty.

        Ranks as numpy's default percentile, interpolated inside the bucket. ValueError outside 0..100.
        """
        if not 0.0 <= p <= 100.0:
            raise ValueError(f"percentile {p} is not in 0..100")
        rank = p / 100.0 * (self.count - 1)
        below = self.zero_count
        if rank < below:
            return 0.0
        for index in sorted(self.buckets):
            in_bucket = self.buckets[index]
            if rank < below + in_bucket:
                lower, upper = bucket_bounds_ms(index)
                lower, upper = max(lower, self.min_ms), min(upper, self.max_ms)
                share = min((rank - below + 0.5) / in_bucket, 1.0)
                return min(max(lower + (upper - lower) * share, self.min_ms), self.max_ms)
            below += in_bucket
        return self.max_ms

    def intervals_ms(self) -> Iterator[tuple[float, float, int]]:
        """(lower, upper, count) of every bucket that is not empty, in ascending order; zeros as (0.0, 0.0, n)."""
        if self.zero_count:
            yield 0.0, 0.0, self.zero_count
        for index in sorted(self.buckets):
            yield (*bucket_bounds_ms(index), self.buckets[index])

    def count_at_most(self, limit_ms: float) -> int:
        """Samples <= `limit_ms`, to the bucket (Prometheus `le`): buckets whose upper bound is not above it."""
        return sum(count for _lower, upper, count in self.intervals_ms() if upper <= limit_ms * (1 + 1e-12))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # it can change

    def _state(self) -> tuple[Mapping[int, int], int, int, int, int]:
        return self.buckets, self.zero_count, self.sum_ns, self.min_ns, self.max_ns

    def __repr__(self) -> str:
        return f"Histogram(count={self.count}, p50={self.percentile(50):.3f} ms, p99={self.percentile(99):.3f} ms)"

    # -- wire

    def to_wire(self) -> bytes:
        """Compact form: varints zero_count, sum_ns, min_ns, max_ns - min_ns, first index + 1, then one count per bucket
        from the first to the last; a run of empty buckets is a 0 and its length - 1. An empty histogram is b"".
        """
        if not self.count:
            return b""
        out = bytearray()
        for value in (self.zero_count, self.sum_ns, self.min_ns, self.max_ns - self.min_ns):
            _put_varint(out, value)
        previous = None
        for index in sorted(self.buckets):
            if previous is None:
                _put_varint(out, index - MIN_INDEX)
            elif index > previous + 1:
                out.append(0)
                _put_varint(out, index - previous - 2)
            count = self.buckets[index]
            if count < 0x80:  # as most are
                out.append(count)
            else:
                _put_varint(out, count)
            previous = index
        return bytes(out)

    @classmethod
    def from_wire(cls, data: bytes, *, max_count: int | None = MAX_COUNT) -> Histogram:
        """Reads `to_wire`. DataError unless it is exactly what a histogram writes: the indices within range, the counts
        bounded, minimum, maximum and sum possible for the counts, nothing left over. `data` may be a stranger's.

        max_count: None for our own sums of many, which may count further than one device can.
        """
        histogram = cls()
        if not data:
            return histogram
        if max_count is not None and len(data) > MAX_WIRE_BYTES:
            raise DataError(f"histogram of {len(data)} bytes is larger than {MAX_WIRE_BYTES}")
        numbers = _varints(data)
        if len(numbers) < 4:
            raise DataError("histogram is cut short")
        histogram.zero_count, histogram.sum_ns, histogram.min_ns, spread = numbers[:4]
        histogram.max_ns = histogram.min_ns + spread
        if len(numbers) > 4:
            _read_buckets(numbers, histogram.buckets)
        _check_possible(histogram, max_count)
        return histogram


def _read_buckets(numbers: list[int], buckets: dict[int, int]) -> None:
    index = numbers[4] + MIN_INDEX
    position, end = 5, len(numbers)
    while position < end:
        count = numbers[position]
        position += 1
        if count:
            if index > MAX_INDEX:
                raise DataError(f"histogram bucket {index} is out of range")
            buckets[index] = count
            index += 1
        else:
            if position == 6 or position >= end - 1 or not numbers[position + 1]:
                raise DataError("histogram has a run of empty buckets where none can be")
            index += numbers[position] + 1
            position += 1
    if not buckets:
        raise DataError("histogram is cut short")


def _check_possible(histogram: Histogram, max_count: int | None) -> None:
    count, buckets = histogram.count, histogram.buckets
    if count <= 0 or (max_count is not None and count > max_count):
        raise DataError(f"histogram count {count} is out of range")
    if histogram.max_ns > MAX_VALUE_NS:
        raise DataError("histogram maximum is out of range")
    if (histogram.zero_count > 0) != (histogram.min_ns == 0) or (not buckets) != (histogram.max_ns == 0):
        raise DataError("histogram minimum or maximum contradicts its zeros")
    # A little slack at the bounds: another machine's log2 may differ in the last bit.
    if buckets and not _in_bucket(histogram.max_ns, max(buckets)):
        raise DataError("histogram maximum is not in its last bucket")
    if buckets and not histogram.zero_count and not _in_bucket(histogram.min_ns, min(buckets)):
        raise DataError("histogram minimum is not in its first bucket")
    if not count * histogram.min_ns <= histogram.sum_ns <= count * histogram.max_ns:
        raise DataError("histogram sum is not possible for its counts")


def _in_bucket(value_ns: int, index: int) -> bool:
    position = log2(value_ns) * BUCKETS_PER_OCTAVE
    return index - 1e-6 <= position <= index + 1 + 1e-6


def _put_varint(out: bytearray, value: int) -> None:
    """Unsigned LEB128, shortest form."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _varints(data: bytes) -> list[int]:
    """All varints in `data`. DataError for one cut short, longer than 17 bytes (a sum has up to 115 bits) or padded."""
    values: list[int] = []
    value = shift = 0
    for byte in data:
        if byte < 0x80:
            if not shift:  # a number of one byte, as most are
                values.append(byte)
                continue
            if not byte:
                raise DataError("histogram holds a padded number")
            values.append(value | byte << shift)
            value = shift = 0
        else:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 7 * 16:
                raise DataError("histogram holds a number that is too large")
    if shift:
        raise DataError("histogram is cut short")
    return values
