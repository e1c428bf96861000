"""Samples of differing size: what their size is, padding, and the smallest shape that holds one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.contract import InputSpec
from edgeloop.errors import DataError
from edgeloop.padding import actual_shape, pad_to, smallest_holding

TOKENS = InputSpec("tokens", shape=(-1,))
SERIES = InputSpec("series", shape=(-1, 3), pad=-1.0)


def test_what_is_nothing_but_padding_at_the_end_does_not_count() -> None:
    assert actual_shape(TOKENS, np.array([5, 0, 7, 0, 0])) == (3,)
    assert actual_shape(TOKENS, np.zeros(4, int)) == (1,)
    rows = np.full((6, 3), -1.0)
    rows[2, 1] = 0
    assert actual_shape(SERIES, rows) == (3, 3)


def test_samples_are_filled_up_behind_and_cut_only_where_there_is_nothing() -> None:
    assert pad_to(TOKENS, np.array([5, 7]), [4]).tolist() == [5, 7, 0, 0]
    assert pad_to(TOKENS, np.array([[5, 7, 0, 0]]), [2]).tolist() == [5, 7]  # a batch axis does no harm
    with pytest.raises(DataError, match=r"\[3\] is larger than \[2\]"):
        pad_to(TOKENS, np.array([5, 7, 1]), [2])
    with pytest.raises(DataError, match=r"takes samples of \[-1, 3\], got \[4\]"):
        pad_to(SERIES, np.zeros(4), [4, 3])
    with pytest.raises(DataError, match=r"takes \[-1, 3\], got \[4, 2\]"):
        pad_to(SERIES, np.zeros((4, 2)), [4, 3])
    with pytest.raises(DataError, match=r"takes \[-1, 3\], got \[2, 4\]") as caught:
        smallest_holding([SERIES], np.ones((2, 4)), [[[4, 3]]])
    assert caught.value.hint == "axis 1 must be 3; free are those that say -1"


def test_every_input_must_fit() -> None:
    specs = (TOKENS, InputSpec("mask", shape=(-1,)))
    buckets = [[(16,), (16,)], [(4,), (4,)], [(8,), (8,)]]
    sample = {"tokens": np.array([1, 2, 3, 0, 0, 0, 0, 0]), "mask": np.array([1, 1, 1, 1, 1, 0, 0, 0])}
    assert smallest_holding(specs, sample, buckets) == 2
    assert smallest_holding(specs, {n: np.ones(17) for n in sample}, buckets) is None
    with pytest.raises(DataError, match="no array for input 'mask'"):
        smallest_holding(specs, {"tokens": np.ones(3)}, buckets)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.lists(st.integers(1, 24), min_size=1, max_size=5))
def test_the_chosen_shape_holds_the_sample_and_no_smaller_one_does(values: list[int], sizes: list[int]) -> None:
    frame = np.array(values)
    at = smallest_holding((TOKENS,), frame, [[(n,)] for n in sizes])
    length = actual_shape(TOKENS, frame)[0]
    if at is None:
        assert length > max(sizes)
        return
    assert sizes[at] == min(n for n in sizes if n >= length)
    padded = pad_to(TOKENS, frame, [sizes[at]])
    assert padded[:length].tolist() == values[:length]
    assert not padded[length:].any()
