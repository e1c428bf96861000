"""Data from code of the user's own."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import DataError
from edgeloop_converters.data import open_data

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Write a module and give its name; each has a name of its own, because Python remembers imports."""

    def write(code: str) -> str:
        name = f"user_data_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text("import numpy as np\n" + code)
        return name

    monkeypatch.chdir(tmp_path)
    return write


def test_batches_with_class_ids_are_collected(module) -> None:  # type: ignore[no-untyped-def]
    name = module(
        "def batches():\n    for i in range(3):\n        yield np.full((2, 4), i, np.float32), np.array([i, i])\n"
    )
    data = open_data(f"{name}:batches")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(data.sample(3), np.full(4, 1, np.float32))


def test_one_array_is_enough(module) -> None:  # type: ignore[no-untyped-def]
    name = module("def samples():\n    return np.zeros((5, 3), np.float32)\n")
    data = open_data(f"{name}:samples")
    assert (len(data), data.labels) == (5, None)


def test_a_dictionary_may_call_the_samples_as_an_npz_does(module) -> None:  # type: ignore[no-untyped-def]
    name = module("def samples():\n    return {'x': np.zeros((5, 3), np.float32), 'y': np.arange(5)}\n")
    data = open_data(f"{name}:samples")
    assert (data.kind, data.sample(0).shape) == ("tensor", (3,))
    assert data.labels is not None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def f():\n    raise KeyError('where')\n", "KeyError: 'where'"),
        ("def f():\n    return 3\n", "gave int, not batches"),
        ("def f():\n    return []\n", "gave no samples"),
        ("def f():\n    yield np.zeros(3)\n", "must be numbers"),
        ("def f():\n    yield np.zeros((2, 3))\n    yield np.zeros((2, 4, 4))\n", "follows"),
        ("def f():\n    yield np.zeros((2, 3)), np.array([1])\n", "must be 2 whole numbers"),
        ("def f():\n    yield np.zeros((2, 3)), np.array([1, 2])\n    yield np.zeros((2, 3))\n", "some do not"),
        ("def f():\n    yield np.zeros((8, 8, 3)), 3\n", "a single class id came with a batch"),
        ("f = 3\n", "has no function 'f'"),
        ("1 / 0\n", "cannot import"),
    ],
)
def test_what_goes_wrong_in_it_is_one_clear_line(module, code: str, words: str) -> None:  # type: ignore[no-untyped-def]
    name = module(code)
    with pytest.raises(DataError, match=words):
        open_data(f"{name}:f")


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="cannot import nowhere_to_be_found"):
        open_data("nowhere_to_be_found:f")
