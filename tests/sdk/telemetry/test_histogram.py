"""Histograms: exact merging, bounded percentile error, a wire form that takes nothing but histograms."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DataError
from edgeloop.telemetry.histogram import (
    BASE,
    MAX_INDEX,
    MAX_VALUE_NS,
    MAX_WIRE_BYTES,
    MIN_INDEX,
    RELATIVE_ERROR_BOUND,
    Histogram,
    bucket_bounds_ms,
    bucket_index,
)
from support.reports import latencies_ns

SAMPLES = st.lists(st.integers(0, 10**11) | st.integers(0, MAX_VALUE_NS), max_size=60)


def test_buckets_are_opentelemetrys_at_scale_4() -> None:
    """Powers of two fall on bounds exactly, and an upper bound belongs to its bucket."""
    assert pytest.approx(2 ** (1 / 16)) == BASE
    assert bucket_index(1) == MIN_INDEX
    assert bucket_index(MAX_VALUE_NS) == MAX_INDEX
    for exponent in range(1, 62):
        assert bucket_index(2**exponent) == 16 * exponent - 1
        if 5 <= exponent <= 44:  # up to 5 hours a single ns counts
            assert bucket_index(2**exponent + 1) == 16 * exponent
    lower, upper = bucket_bounds_ms(bucket_index(8_660_000))
    assert lower < 8.66 <= upper
    assert upper / lower == pytest.approx(BASE)


@given(SAMPLES, SAMPLES, SAMPLES)
def test_merging_is_exact_associative_and_commutative(a: list[int], b: list[int], c: list[int]) -> None:
    x, y, z = Histogram.of_ns(a), Histogram.of_ns(b), Histogram.of_ns(c)
    everything = Histogram.of_ns(a + b + c)
    assert (x + y) + z == x + (y + z) == z + x + y == Histogram.merged([y, z, x]) == everything
    assert (x, y, z) == (Histogram.of_ns(a), Histogram.of_ns(b), Histogram.of_ns(c)), "merging changed its input"


@given(SAMPLES, SAMPLES)
def test_folding_twice_is_folding_once(a: list[int], b: list[int]) -> None:
    histogram = Histogram()
    histogram.fold_ns(a)
    histogram.fold_ns(b)
    assert histogram == Histogram.of_ns(a + b)
    assert histogram.count == len(a + b)
    assert histogram.sum_ns == sum(a + b)
    if a + b:
        assert (histogram.min_ns, histogram.max_ns) == (min(a + b), max(a + b))


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=300), st.floats(0, 100))
def test_a_percentile_is_within_a_bucket_of_the_true_one(samples: list[int], p: float) -> None:
    """Against the order statistics around the rank: between two of them any value is as good."""
    ordered = sorted(samples)
    rank = p / 100 * (len(ordered) - 1)
    low, high = ordered[math.floor(rank)] / 1e6, ordered[math.ceil(rank)] / 1e6
    slack = 1 + RELATIVE_ERROR_BOUND + 1e-9
    assert low / slack <= Histogram.of_ns(samples).percentile(p) <= high * slack


def test_percentiles_of_latencies_are_close_to_numpys() -> None:
    """Mean error over typical distributions: half of what the bucket's middle would give."""
    errors = []
    for seed in range(20):
        samples = latencies_ns(random.Random(seed), 8.66, 600)
        histogram = Histogram.of_ns(samples)
        errors += [
            abs(histogram.percentile(p) / (float(np.percentile(samples, p)) / 1e6) - 1) for p in (50.0, 95.0, 99.0)
        ]
    assert max(errors) <= RELATIVE_ERROR_BOUND
    assert sum(errors) / len(errors) < 0.012


def test_one_value_is_given_back_exactly_and_none_as_zero() -> None:
    assert Histogram.of_ms([8.66]).percentile(99) == 8.66
    assert Histogram().percentile(50) == 0.0
    assert Histogram().mean_ms == Histogram().max_ms == 0.0
    with pytest.raises(ValueError, match=r"0\.\.100"):
        Histogram().percentile(101)


def test_zeros_and_absurd_values_do_not_break_it() -> None:
    histogram = Histogram.of_ns([-5, 0, 1, 2**80])
    assert (histogram.count, histogram.zero_count, histogram.min_ns, histogram.max_ns) == (4, 2, 0, MAX_VALUE_NS)
    assert histogram.percentile(0) == 0.0
    assert Histogram.from_wire(histogram.to_wire()) == histogram


def test_intervals_hold_every_sample_once_and_cumulative_counts_agree() -> None:
    histogram = Histogram.of_ns([0, 10, 1000, 1000, 8_660_000])
    intervals = list(histogram.intervals_ms())
    assert sum(count for _low, _high, count in intervals) == 5
    assert [histogram.count_at_most(high) for _low, high, _count in intervals] == [1, 2, 4, 5]


@given(SAMPLES)
def test_the_wire_form_round_trips(samples: list[int]) -> None:
    histogram = Histogram.of_ns(samples)
    wire = histogram.to_wire()
    again = Histogram.from_wire(wire)
    assert again == histogram
    assert again.to_wire() == wire
    assert len(wire) <= MAX_WIRE_BYTES


def test_the_largest_histogram_fits_its_bound() -> None:
    histogram = Histogram()
    histogram.buckets = dict.fromkeys(range(MIN_INDEX, MAX_INDEX + 1), 2**43)
    histogram.min_ns, histogram.max_ns = 1, MAX_VALUE_NS
    histogram.sum_ns = histogram.count * 2**40
    assert len(histogram.to_wire()) <= MAX_WIRE_BYTES
    assert Histogram.from_wire(histogram.to_wire()) == histogram


@given(st.binary(max_size=200))
def test_strangers_bytes_are_refused_or_a_histogram(data: bytes) -> None:
    try:
        histogram = Histogram.from_wire(data)
    except DataError:
        return
    assert histogram.to_wire() == data
    assert histogram.min_ms <= histogram.percentile(50) <= histogram.max_ms


@settings(max_examples=300)
@given(st.data())
def test_damaged_wire_bytes_are_refused_or_still_a_possible_histogram(data: st.DataObject) -> None:
    wire = bytearray(Histogram.of_ns([1000, 2000, 2000, 9_000_000, 8_000_000]).to_wire())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(wire) - 1))
        wire[position] = data.draw(st.integers(0, 255))
    try:
        histogram = Histogram.from_wire(bytes(wire))
    except DataError:
        return
    assert histogram.to_wire() == bytes(wire)
    assert histogram.count * histogram.min_ns <= histogram.sum_ns <= histogram.count * histogram.max_ns


@pytest.mark.parametrize(
    "wire",
    [
        b"\x00",  # cut short
        bytes([0, 5, 5, 0]),  # a minimum and no bucket
        bytes([0, 1, 1, 0, 0, 0, 0, 1]),  # starts with empty buckets
        bytes([0, 1, 1, 0, 0, 1, 0, 0]),  # ends with them
        bytes([0, 1, 1, 0, 0, 1, 0x80, 0x00]),  # a padded number
        bytes([0, 1, 1, 0, 0, 1]) + b"\xff" * 30,  # a number without end
        bytes([0, 1, 1, 0, 0x80, 0x80, 0x80, 0x01, 1]),  # index out of range
        bytes([0, 1, 1, 0, 0, 1, 0, 0xFF, 0xFF, 0xFF, 0x7F, 1]),  # a run that leads out of range
        bytes([0, 9, 1, 0, 0, 1]),  # a sum no single 1 can have
        bytes([1, 1, 1, 0, 0, 1]),  # zeros, and a minimum of one
    ],
)
def test_impossible_histograms_are_refused(wire: bytes) -> None:
    with pytest.raises(DataError):
        Histogram.from_wire(wire)


def test_a_wire_form_too_large_is_refused_unread() -> None:
    with pytest.raises(DataError, match="larger"):
        Histogram.from_wire(bytes(MAX_WIRE_BYTES + 1))


def test_device_side_telemetry_loads_neither_numpy_nor_pyserial() -> None:
    """The supervisor's memory depends on it."""
    code = (
        "import sys; from edgeloop.telemetry import report, histogram, transports;"
        "from edgeloop.telemetry.wire import codec, framing; from edgeloop.telemetry.spool import spool;"
        "from edgeloop.telemetry.delivery import courier, outbox;"
        "transports.open_transport('http://127.0.0.1:1');"
        "heavy = {'numpy', 'serial', 'sqlalchemy', 'starlette', 'rich', 'requests', 'tensorflow', 'cv2'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
