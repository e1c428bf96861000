"""Samples as people have them: one array for all, a list of arrays, or one array per input for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeloop.errors import DataError
from edgeloop.graph import Graph
from edgeloop_converters.passes import prune
from edgeloop_converters.passes.samples import as_samples
from support.tiny_models import tiny_cnn, tiny_two_inputs

PICTURES = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "given",
    [PICTURES, list(PICTURES), [one[None] for one in PICTURES], [(one[None].astype("f4"),) for one in PICTURES]],
)
def test_each_way_gives_the_same_samples(given: Any) -> None:
    found = as_samples(Graph.read(tiny_cnn()), given)
    assert [np.shape(one[0]) for one in found] == [(1, 8, 8, 3)] * 6
    assert np.array_equal(found[5][0], PICTURES[5:].astype(np.float32))


def test_what_passes_take_is_left_as_it_is() -> None:
    given = [(one[None].astype(np.float32),) for one in PICTURES]
    assert as_samples(Graph.read(tiny_cnn()), given) is given


@pytest.mark.parametrize(
    ("model", "given", "told"),
    [
        (tiny_cnn, PICTURES[:, :4], r"the first one is \[1, 4, 8, 3\], the model takes \[1, 8, 8, 3\]"),
        (tiny_cnn, "pictures/", "not a str"),
        (tiny_cnn, 3, "not a int"),
        (tiny_cnn, [3], "no array"),
        (tiny_cnn, [()], "the first one is empty"),
        (tiny_two_inputs, PICTURES, "the model has 2 inputs"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(model: Any, given: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        as_samples(Graph.read(model()), given)


def test_a_pass_takes_one_array_for_all() -> None:
    small, report = prune(Graph.read(tiny_cnn()), amount=0.5, samples=np.repeat(PICTURES, 4, axis=0))
    assert report.after["macs"] < report.before["macs"]
    assert "on 24 samples" in report.detail
    assert small.inputs[0].shape == (1, 8, 8, 3)
