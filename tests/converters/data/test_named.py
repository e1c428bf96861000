"""Data for several inputs: arrays by name, from an .npz and from code."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import DataError
from edgeloop_converters.data import check_samples, for_inputs, open_data, pick
from edgeloop_converters.data.dataset import NAMED
from support.several_inputs import save, token_data


def test_an_npz_gives_dictionaries_by_input_name(tmp_path: Path) -> None:
    arrays = token_data(count=10)
    data = for_inputs(open_data(save(tmp_path / "d.npz", arrays)), ["mask", "tokens"])
    assert data.kind == NAMED
    assert data.labels is not None
    assert list(data.sample(3)) == ["mask", "tokens"]
    assert np.array_equal(data.sample(3)["tokens"], arrays["tokens"][3])
    part = data.subset(pick(data, 4))
    assert len(part) == 4
    assert len(part.parts["mask"]) == 4


def test_one_input_is_found_by_its_name(tmp_path: Path) -> None:
    spec = save(tmp_path / "d.npz", {"tokens": np.zeros((5, 3), int), "y": np.zeros(5, int)})
    for name in ("tokens", "serving_default_tokens:0"):
        data = for_inputs(open_data(spec), [name])
        assert data.sample(0).shape == (3,)
        assert data.labels is not None
    with pytest.raises(DataError, match="it holds tokens"):
        for_inputs(open_data(spec), ["ids"])


def test_an_array_called_x_does_for_one_input_but_not_for_two(tmp_path: Path) -> None:
    data = open_data(save(tmp_path / "d.npz", {"x": np.zeros((5, 3))}))
    assert for_inputs(data, ["ids"]).sample(0).shape == (3,)
    with pytest.raises(DataError, match="one array per sample, but the model has 2 inputs"):
        for_inputs(data, ["ids", "mask"])


def test_nan_in_any_array_is_found(tmp_path: Path) -> None:
    arrays = token_data(count=6)
    arrays["mask"][4, 2] = np.nan
    data = for_inputs(open_data(save(tmp_path / "d.npz", arrays)), ["tokens", "mask"])
    with pytest.raises(DataError, match="1 of 6 samples cannot be used: sample 4"):
        check_samples(data)


CODE = """
import numpy as np

def pairs():
    for n in (3, 2):
        yield {"tokens": np.ones((n, 4), np.int32), "mask": np.zeros((n, 4), np.float32)}, np.arange(n)

def inside():
    yield {"tokens": np.ones((3, 4), np.int32), "mask": np.zeros((3, 4), np.float32), "y": np.arange(3)}

def lengths():
    for length in (2, 5):
        yield np.ones((2, length), np.int32)

def torn():
    yield {"tokens": np.ones((3, 4), np.int32), "mask": np.zeros((2, 4), np.float32)}

def other_names():
    yield {"tokens": np.ones((3, 4), np.int32)}
    yield {"ids": np.ones((3, 4), np.int32)}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "named_user_data.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "named_user_data", raising=False)
    return "named_user_data"


def test_functions_yield_dictionaries_with_class_ids_beside_or_inside(module: str) -> None:
    for name, count in (("pairs", 5), ("inside", 3)):
        data = for_inputs(open_data(f"{module}:{name}"), ["tokens", "mask"])
        assert len(data) == count
        assert data.labels is not None
        assert data.sample(count - 1)["tokens"].tolist() == [1, 1, 1, 1]


def test_batches_may_differ_in_the_size_of_their_samples(module: str) -> None:
    data = open_data(f"{module}:lengths")
    assert [data.sample(i).shape for i in range(4)] == [(2,), (2,), (5,), (5,)]
    assert data.sample_shape is None


def test_what_does_not_go_together_is_said(module: str) -> None:
    with pytest.raises(DataError, match=r"different lengths \(tokens 3, mask 2\)"):
        open_data(f"{module}:torn")
    with pytest.raises(DataError, match=r"\['ids'\] follows one with \['tokens'\]"):
        open_data(f"{module}:other_names")
