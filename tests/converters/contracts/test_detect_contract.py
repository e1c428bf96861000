"""The contract from flags, file, or what model and data show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.errors import ConfigError, DataError
from edgeloop.graph import Graph, Quantization
from edgeloop.runtime import open_session
from edgeloop_converters.contracts import ContractFlags, detect_contract, fit_data
from edgeloop_converters.data import Dataset, open_data
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.evidence import input_evidence
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.io_names import output_names
from support.images import class_folders
from support.tiny_models import RELU, TinyBuilder, tiny_cnn, tiny_mlp

Save = Callable[..., Dataset]


@pytest.fixture(scope="module")
def model(digits_tflite: Path) -> bytes:
    return to_float_tflite(digits_tflite).tflite


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(**arrays: Any) -> Dataset:
        np.savez(tmp_path / "d.npz", **arrays)
        return open_data(tmp_path / "d.npz")

    return write


def scans() -> tuple[np.ndarray, np.ndarray]:
    split = load_split()
    return split.held_out_images, split.held_out_labels


def test_labelled_scans_show_the_scaling(model: bytes, save: Save) -> None:
    images, labels = scans()
    found = detect_contract(model, save(x=images, y=labels))
    spec = found.contract.inputs[0]
    assert (spec.kind, spec.size, spec.color, spec.mean, spec.std) == ("image", (8, 8), "gray", (0.0,), (255.0,))
    assert found.contract.output.kind == "classification"
    assert any(note.startswith("input scaling: 0..1") for note in found.notes)
    assert found.scores["0..1"] > 0.9
    assert found.warnings == ()


def test_data_scaled_already_are_taken_as_they_are(model: bytes, save: Save) -> None:
    images, labels = scans()
    found = detect_contract(model, save(x=(images / 255).astype(np.float32), y=labels))
    spec = found.contract.inputs[0]
    assert (spec.kind, spec.shape, spec.mean, spec.std) == ("tensor", (8, 8, 1), (0.0,), (1.0,))
    assert found.warnings == ()


def test_pixels_stored_as_floats_are_scaled(model: bytes, save: Save) -> None:
    images, labels = scans()
    found = detect_contract(model, save(x=images.astype(np.float32), y=labels))
    assert found.contract.inputs[0].std == (255.0,)


def test_without_labels_the_guess_is_said(model: bytes, save: Save) -> None:
    found = detect_contract(model, save(x=scans()[0]))
    assert found.contract.inputs[0].std == (1.0,)
    assert "is a guess" in found.warnings[0]


def test_arrays_that_fit_better_as_bgr_are_doubted(save: Save) -> None:
    """Which of the two is swapped, arrays or model, cannot be seen; on the device it makes all the difference."""
    b = TinyBuilder(0)
    model = b.finish(b.softmax(b.mean(b.input("image", (1, 8, 8, 3))))).write()  # the class is the strongest channel
    labels = np.arange(120) % 3
    pictures = np.random.default_rng(0).integers(0, 100, (120, 8, 8, 3)).astype(np.uint8)
    pictures[np.arange(120), :, :, labels] += 40
    as_rgb = detect_contract(model, save(x=pictures, y=labels))
    assert (as_rgb.contract.inputs[0].color, as_rgb.warnings) == ("rgb", ())
    from_opencv = save(x=pictures[..., ::-1], y=labels)
    as_bgr = detect_contract(model, from_opencv)
    assert as_bgr.contract.inputs[0].color == "bgr"
    assert "would swap the colors" in as_bgr.warnings[0]
    assert detect_contract(model, from_opencv, flags=ContractFlags(color="bgr")).warnings == ()


def test_flags_settle_what_they_name(model: bytes, save: Save) -> None:
    images, labels = scans()
    flags = ContractFlags(mean=(10.0,), std=(100.0,), labels=tuple("abcdefghij"), resize="crop")
    found = detect_contract(model, save(x=images, y=labels), flags=flags)
    spec = found.contract.inputs[0]
    assert (spec.mean, spec.std, spec.resize) == ((10.0,), (100.0,), "crop")
    assert found.contract.output.labels == tuple("abcdefghij")
    assert found.scores == {}


def test_a_file_is_taken_at_its_word_and_flags_go_over_it(model: bytes, save: Save, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[input]\nkind = "image"\nsize = [8, 8]\ncolor = "gray"\nstd = 16\n[output]\nkind = "classification"\n'
    )
    images, labels = scans()
    data = save(x=images, y=labels)
    assert detect_contract(model, data, file=file).contract.inputs[0].std == (16.0,)
    assert detect_contract(model, data, file=file, flags=ContractFlags(std=(3.0,))).contract.inputs[0].std == (3.0,)


def test_labels_in_the_wrong_order_are_noticed(model: bytes, save: Save) -> None:
    images, labels = scans()
    found = detect_contract(model, save(x=images, y=(labels + 5) % 10))
    assert "no better than guessing" in found.warnings[0]


def test_class_folders_give_the_labels(tmp_path: Path) -> None:
    model = tiny_cnn()
    outputs = Graph.read(model).outputs[0].shape[-1]
    data = open_data(class_folders(tmp_path, {f"class{i}": 2 for i in range(outputs)}))
    found = detect_contract(model, data)
    assert found.contract.output.labels == tuple(f"class{i}" for i in range(outputs))


def test_folders_that_do_not_match_the_outputs_are_refused(tmp_path: Path) -> None:
    outputs = Graph.read(tiny_cnn()).outputs[0].shape[-1]
    data = open_data(class_folders(tmp_path, {f"class{i}": 1 for i in range(outputs - 1)}))
    with pytest.raises(DataError, match=f"{outputs - 1} classes but the model has {outputs} outputs"):
        detect_contract(tiny_cnn(), data)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((5, 8, 8, 2), r"takes \[8, 8, 1\], got \[8, 8, 2\]"),
        ((5, 7, 8), r"takes \[8, 8, 1\], got \[7, 8\]"),
        ((5, 64), r"takes \[8, 8, 1\], got \[64\]"),
    ],
)
def test_wrong_shapes_and_channel_counts_are_refused(
    model: bytes, save: Save, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        detect_contract(model, save(x=np.zeros(shape, np.float32)))


def test_unit_axes_are_put_right(model: bytes, save: Save) -> None:
    found = detect_contract(model, save(x=np.zeros((5, 8, 8), np.float32)))
    assert found.contract.inputs[0].shape == (8, 8, 1)


def test_float_data_for_an_image_contract_must_be_pixels(model: bytes, save: Save) -> None:
    flags = ContractFlags(kind="image", std=(255.0,))
    images = scans()[0]
    as_pixels = detect_contract(model, save(x=images.astype(np.float32)), flags=flags)
    assert np.array_equal(as_pixels.data.sample(0), images[0])
    with pytest.raises(DataError, match=r"values 0\.\.1 are not pixels") as caught:
        detect_contract(model, save(x=(images / 255).astype(np.float32)), flags=flags)
    assert "--input-kind tensor" in str(caught.value.hint)


def test_contracts_that_do_not_fit_the_model_are_refused(model: bytes, save: Save) -> None:
    data = save(x=scans()[0])
    with pytest.raises(ConfigError, match="color 'rgb' has 3 channels but model input takes 1"):
        detect_contract(model, data, flags=ContractFlags(color="rgb"))
    with pytest.raises(ConfigError, match="size"):
        detect_contract(model, data, flags=ContractFlags(size=(9, 9), std=(1.0,)))


def test_other_data_are_fitted_to_a_settled_contract(model: bytes, save: Save) -> None:
    images, labels = scans()
    contract = detect_contract(model, save(x=images, y=labels)).contract
    assert fit_data(contract, model, save(x=images.astype(np.float32), y=labels)).kind == "image"
    with pytest.raises(DataError, match="class id 10"):
        fit_data(contract, model, save(x=images, y=labels + 1))


@pytest.mark.parametrize(
    ("scale", "zero_point", "expected"),
    [(1 / 255, -128, (0.0, 255.0)), (1.0, -128, (0.0, 1.0)), (2 / 255, 0, (127.5, 127.5)), (0.58, 83, None)],
)
def test_a_quantized_input_tells_its_scaling(
    model: bytes, scale: float, zero_point: int, expected: tuple[float, float] | None
) -> None:
    graph = Graph.read(model)
    graph.inputs[0].dtype = "int8"
    graph.inputs[0].quantization = Quantization.per_tensor(scale, zero_point)
    evidence = input_evidence(graph)
    assert (None if evidence is None else (evidence.mean, evidence.std)) == expected


def test_axes_in_another_order_are_refused_with_the_transposition(save: Save) -> None:
    with pytest.raises(DataError, match=r"takes \[8, 8, 3\]") as caught:
        detect_contract(tiny_cnn(), save(x=np.zeros((20, 3, 8, 8), np.float32)))
    assert caught.value.hint == "transpose them: x.transpose(0, 2, 3, 1)"


@pytest.mark.parametrize("flag", [{"size": (8, 8)}, {"color": "bgr"}, {"resize": "crop"}])
def test_a_flag_of_pictures_is_refused_for_a_tensor(model: bytes, save: Save, flag: dict[str, Any]) -> None:
    images, labels = scans()
    data = save(x=(images / 255).astype(np.float32), y=labels)
    with pytest.raises(ConfigError, match=f"--{next(iter(flag))} speaks of a picture"):
        detect_contract(model, data, flags=ContractFlags(**flag))


def test_a_size_that_the_model_does_not_take_is_told_as_the_flag_it_was(model: bytes, save: Save) -> None:
    images, labels = scans()
    with pytest.raises(ConfigError, match=r"--size 96x96: model input .* takes 8x8") as caught:
        detect_contract(model, save(x=images, y=labels), flags=ContractFlags(kind="image", size=(96, 96)))
    assert caught.value.hint == "leave out --size"


def test_samples_longer_than_the_input_point_at_several_shapes(save: Save) -> None:
    with pytest.raises(DataError) as caught:
        detect_contract(tiny_mlp(), save(x=np.random.default_rng(0).random((40, 64), np.float32)))
    assert "--shape, several times" in str(caught.value.hint)


def test_labels_of_another_output_than_the_decoded_one_are_said(save: Save) -> None:
    b = TinyBuilder(0)
    x = b.input("x", (1, 6))
    first, second = b.dense(x, 4), b.dense(b.dense(x, 8, RELU), 4)
    graph = b.finish(b.softmax(first), b.softmax(second))
    model = graph.write()
    values = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    with open_session(model) as session:
        second = [int(session.run(v[None])[1].argmax()) for v in values]
    found = detect_contract(model, save(x=values, y=np.array(second)))
    assert found.contract.output.index == 0
    (said,) = [text for text in found.warnings if "another output" in text]
    first, other = output_names(Graph.read(model))
    assert f"'{other}' gets 100%" in said and f"'{first}', which is decoded" in said
    assert f'[output] name = "{other}"' in said
