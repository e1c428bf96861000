"""Which samples a shape bucket is calibrated and evaluated on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeloop.errors import ConfigError, DataError, UsageError
from edgeloop.graph import make_options
from edgeloop_converters.buckets import ENOUGH_TO_CALIBRATE, Basis, settle_buckets
from edgeloop_converters.frontends import FloatModel
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.shapes import shapes_of
from edgeloop_converters.sources import choose_samples, open_datasets
from support.tiny_models import TinyBuilder, tiny_cnn, tiny_mlp


def blind_to_padding(size: int) -> bytes:
    """[1, size] -> softmax [1, 3]; the same weights for the first features, whatever the size."""
    b = TinyBuilder(0)
    weights = np.random.default_rng(3).normal(size=(3, 16)).astype(np.float32)[:, :size]
    inputs = [
        b.input("features", (1, size)),
        b.constant("weights", weights),
        b.constant("bias", np.zeros(3, np.float32)),
    ]
    dense = b.op("FULLY_CONNECTED", inputs, (1, 3), make_options("FullyConnectedOptions", fusedActivationFunction=0))
    return b.finish(b.softmax(dense)).write()


def settle(
    folder: Path,
    lengths: list[int],
    sizes: tuple[int, ...] = (8, 4, 16),
    model: Callable[[int], bytes] = blind_to_padding,
) -> tuple[Basis, tuple[Basis, ...]]:
    """Samples of these lengths, in an array with zeros behind; models of these sizes."""
    rows = np.zeros((len(lengths), 24), np.float32)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = 1 + np.arange(length)
    np.savez(folder / "d.npz", x=rows, y=np.arange(len(lengths)) % 3)
    recipe = Recipe("m", data=str(folder / "d.npz"), shapes=shapes_of([[n] for n in sizes]))
    data = open_datasets(recipe)
    models = [FloatModel(model(n), "tflite") for n in sizes]
    return settle_buckets(recipe, models, data, *choose_samples(recipe, data))


def test_each_sample_goes_to_the_smallest_shape_that_holds_it(tmp_path: Path) -> None:
    lengths = [1, 3, 4, 5, 8, 9, 16] * 70
    whole, bases = settle(tmp_path, lengths)
    assert [basis.label for basis in bases] == ["8", "4", "16"]
    assert [basis.input_shapes for basis in bases] == [((8,),), ((4,),), ((16,),)]
    assert whole.sources.contract.inputs[0].shape == (-1,)
    for basis, (low, high) in zip(bases, ((5, 8), (1, 4), (9, 16)), strict=True):
        for chosen in (basis.sources.calibration, basis.sources.evaluation):
            found = {int(np.count_nonzero(basis.sources.data.evaluation.sample(int(i)))) for i in chosen}
            assert found <= set(range(low, high + 1))
        assert not set(basis.sources.calibration) & set(basis.sources.evaluation)
    evaluated = sum(len(basis.sources.evaluation) for basis in bases)
    assert evaluated == len(lengths) // 2
    first = bases[0].sources
    assert f"shape 8: evaluated on {len(first.evaluation)} samples" in first.notes


def test_samples_larger_than_all_are_left_out_and_counted(tmp_path: Path) -> None:
    whole, bases = settle(tmp_path, [3, 7, 12, 20] * 20)
    (warning,) = [w for w in whole.sources.warnings if "left out" in w]
    assert warning.startswith("20 of 80 samples are larger than the largest shape, 16,")
    assert sum(len(b.sources.evaluation) for b in bases) < 40


def test_too_few_of_its_own_are_joined_by_smaller_ones(tmp_path: Path) -> None:
    _, (_, small, large) = settle(tmp_path, [3] * 200 + [12] * 20)
    assert len(large.sources.calibration) >= ENOUGH_TO_CALIBRATE
    assert len(small.sources.calibration) > 90
    assert not any("samples only" in w for w in large.sources.warnings)
    _, (_, few, _) = settle(tmp_path, [3] * 20 + [12] * 200)
    assert any("--shape 4: calibrated on" in w and "samples only" in w for w in few.sources.warnings)
    _, (middle, *_rest) = settle(tmp_path, [3] * 100 + [12] * 60)
    assert any("no evaluation sample is of this size: evaluated on" in note for note in middle.sources.notes)


def test_a_shape_without_any_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sample fits into --shape 4"):
        settle(tmp_path, [7, 12] * 20)
    with pytest.raises(DataError, match="every sample is larger than the largest shape"):
        settle(tmp_path, [20] * 20)


def test_a_model_that_takes_padding_for_part_of_the_sample_is_pointed_out(tmp_path: Path) -> None:
    lengths = [3, 7, 12] * 40
    _, quiet = settle(tmp_path, lengths)
    assert not any("padding" in w for basis in quiet for w in basis.sources.warnings)
    whole, bases = settle(tmp_path, lengths, model=lambda n: tiny_mlp(features=n))
    found = [w for w in whole.sources.warnings if "it takes padding for part of the sample" in w]
    assert found[0].startswith("--shape 8: on 20 samples the float model agrees to only")
    assert all(set(found) <= set(basis.sources.warnings) for basis in bases)


def test_shapes_that_make_the_same_model_are_refused(tmp_path: Path) -> None:
    recipe = Recipe("m", data="d", shapes=shapes_of(["4", "1x4"]))
    data = open_datasets(Recipe("m", data=str(_saved(tmp_path))))
    models = [FloatModel(tiny_mlp(features=4), "tflite")] * 2
    with pytest.raises(UsageError, match="--shape 4 and --shape 1x4 make the same model, 4"):
        settle_buckets(recipe, models, data, np.arange(2), np.arange(2, 4))


def test_pictures_have_no_buckets(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", x=np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8))
    recipe = Recipe("m", data=str(tmp_path / "p.npz"), shapes=shapes_of([[8, 8, 3], [16, 16, 3]]))
    data = open_datasets(recipe)
    models = [FloatModel(tiny_cnn(size=n), "tflite") for n in (8, 16)]
    with pytest.raises(ConfigError, match="is a picture"):
        settle_buckets(recipe, models, data, *choose_samples(recipe, data))


def _saved(folder: Path) -> Path:
    np.savez(folder / "s.npz", x=np.ones((4, 4), np.float32))
    return folder / "s.npz"
