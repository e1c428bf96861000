"""A TRANSPOSE before a reduction is folded only where the numbers stay the same."""

from __future__ import annotations

import itertools

import numpy as np

from edgeloop_converters.frontends.transposes import turned_axes


def test_the_folded_axes_give_what_the_transpose_gave() -> None:
    x = np.random.default_rng(0).random((2, 3, 4, 5))
    folded = 0
    for order in itertools.permutations(range(4)):
        for count in (1, 2, 3):
            for axes in itertools.combinations(range(4), count):
                turned = turned_axes(axes, order)
                if turned is not None:
                    assert np.allclose(x.transpose(order).mean(axes), x.mean(turned))
                    folded += 1
    assert folded > 100


def test_the_usual_case_is_folded_and_an_order_that_matters_is_not() -> None:
    assert turned_axes((2, 3), (0, 3, 1, 2)) == (1, 2)
    assert turned_axes((-1, -2), (0, 3, 1, 2)) == (1, 2)
    assert turned_axes((0,), (0, 3, 1, 2)) is None
