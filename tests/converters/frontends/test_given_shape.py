"""What `--shape` says to each input of a model, and when it has nothing to say."""

from __future__ import annotations

import pytest

from edgeloop.errors import UsageError
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.shapes import parse_shape, plain_shapes, shapes_of


def test_free_sizes_are_filled_in() -> None:
    given = GivenShape({"shape": [20, 10]})
    assert given.settle("x", [None, None, 10], 1) == [1, 20, 10]
    given.check_used(["x"])


def test_the_batch_may_be_said_as_well() -> None:
    given = GivenShape({"shape": [1, 16]})
    assert given.settle("tokens", [None, None], 1) == [1, 16]
    given.check_used(["tokens"])


def test_inputs_that_it_does_not_fit_are_left_alone_as_long_as_one_takes_it() -> None:
    given = GivenShape({"shape": [16]})
    assert given.settle("meta", [None, 5], 1) == [1, 5]
    assert given.settle("tokens", [None, None], 1) == [1, 16]
    given.check_used(["meta", "tokens"])


@pytest.mark.parametrize("shape", [[7], [6, 2], [8, 6], [1, 1, 6]])
def test_a_shape_that_no_input_takes_is_an_error(shape: list[int]) -> None:
    given = GivenShape({"shape": shape})
    given.settle("x", [None, 6], 1)
    with pytest.raises(UsageError, match=r"input 'x' takes (1: )?6"):
        given.check_used(["x"])


def test_a_free_input_whose_shape_does_not_fit_says_which_dimensions_it_takes() -> None:
    given = GivenShape({"shape": [16, 3]})
    assert given.settle("ids", [None, None], 1) == [1, None]
    with pytest.raises(UsageError, match="--shape 16x3 has 2 dimensions, input 'ids' takes 1"):
        given.check_fits("ids")
    given.check_fits("another")


def test_by_name_it_must_be_right() -> None:
    given = GivenShape({"shapes": {"ids": [16], "nope": [3]}})
    assert given.settle("ids", [None, None], 1) == [1, 16]
    assert given.settle("mask", [None, None], 1) == [1, None]
    with pytest.raises(UsageError, match=r"no input 'nope'"):
        given.check_used(["ids", "mask"])
    with pytest.raises(UsageError, match=r"--shape 16: input 'ids' takes 9"):
        given.settle("ids", [None, 9], 1)


def test_what_the_data_say_is_taken_where_it_fits_and_is_never_an_error() -> None:
    given = GivenShape({"sample_shape": {"ids": [16], "mask": [3, 3]}})
    assert given.settle("ids", [None, None], 1) == [1, 16]
    assert given.settle("mask", [None, None], 1) == [1, None]
    assert GivenShape({"sample_shape": [4]}).settle("x", [None, 6], 1) == [1, 6]
    given.check_used(["ids", "mask"])


def test_shapes_as_text_and_back() -> None:
    assert str(parse_shape("3,224,224")) == "3x224x224"
    named = parse_shape("ids=1x16,mask=16")
    assert named.given() == {"ids": (1, 16), "mask": (16,)}
    assert str(named) == "ids=1x16,mask=16"
    for values in ([20, 10], ["16", "32"], ["ids=16,mask=16"], []):
        assert shapes_of(plain_shapes(shapes_of(values)) or []) == shapes_of(values)
    assert len(shapes_of([(16,), (32,), (16,)])) == 2


@pytest.mark.parametrize("text", ["", "16x", "axb", "=3", "0", "ids=16,ids=3", "1x1x1x1x1x1x1x1", "9999999999"])
def test_what_is_no_shape_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="shape"):
        parse_shape(text)
