"""MLPerf Tiny models on real data, from the source file to int8. The numbers are in docs/converting.md."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from edgeloop.affine import dequantize
from edgeloop.contract import Contract
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.calibration import calibrate, model_inputs
from edgeloop_converters.contracts import ContractFlags, detect_contract
from edgeloop_converters.data import Dataset, check_samples, open_data, pick
from edgeloop_converters.frontends import to_float_tflite
from edgeloop_converters.quantization import quantize_int8, quantize_int8_tflite

pytestmark = pytest.mark.slow

PER_CLASS = {"train": 60, "test": 150}


@pytest.fixture(scope="module")
def cifar(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The first JPEGs of every class: 600 to calibrate with, 1,500 to judge by."""
    root = tmp_path_factory.mktemp("cifar10")
    for part, count in PER_CLASS.items():
        taken: dict[str, int] = {}
        with tarfile.open(shared_data / "cifar10" / f"{part}.tar.gz") as archive:
            for member in archive:
                name = Path(member.name).parent.name
                if not member.isfile() or not member.name.endswith(".jpg") or taken.get(name, 0) == count:
                    continue
                taken[name] = taken.get(name, 0) + 1
                archive.extract(member, root, filter="data")
                if len(taken) == 10 and min(taken.values()) == count:
                    break
    return {part: check_samples(open_data(root / part)) for part in PER_CLASS}


def kws(shared_data: Path, folder: Path, *, real: bool) -> Dataset:
    """The 600 keyword samples, as int8 codes or as the real values they stand for."""
    path = shared_data / "kws" / "kws01.npz"
    if not real:
        return open_data(path)
    affine = Graph.read(shared_data / "models/mlperf_tiny/kws_ref_model.tflite").inputs[0].affine
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["features"] = dequantize(arrays["features"], affine)
    np.savez(folder / "kws.npz", **arrays)
    return open_data(folder / "kws.npz")


def predictions(model: bytes, contract: Contract, data: Dataset) -> np.ndarray:
    with open_session(model) as session:
        found = []
        for (x,) in model_inputs(contract, model, data, range(len(data))):
            session.set_input(0, x)
            session.invoke()
            found.append(int(session.output(0).argmax()))
    return np.asarray(found)


def int8(model: bytes, contract: Contract, data: Dataset, count: int, seed: int = 0) -> bytes:
    chosen = pick(data, count, seed)
    ranges = calibrate(model, model_inputs(contract, model, data, chosen), total=len(chosen))
    done = quantize_int8(model, ranges)
    assert done.float_ops == ()
    return done.tflite


def assert_resnet(model: bytes, cifar: dict[str, Dataset]) -> None:
    found = detect_contract(model, cifar["train"])
    contract = found.contract
    spec = contract.inputs[0]
    assert (spec.kind, spec.color, spec.mean, spec.std) == ("image", "rgb", (0.0,), (1.0,))
    before = predictions(model, contract, cifar["test"])
    assert (before == cifar["test"].labels).mean() > 0.73
    for seed in (0, 1):
        quantized = int8(model, contract, cifar["train"], 200, seed)
        after = predictions(quantized, contract, cifar["test"])
        assert (after == before).mean() >= 0.96
        assert (after == cifar["test"].labels).mean() >= (before == cifar["test"].labels).mean() - 0.008
        assert len(quantized) < 100_000


@pytest.mark.tensorflow
def test_resnet8_from_h5(shared_data: Path, cifar: dict[str, Dataset]) -> None:
    assert_resnet(to_float_tflite(shared_data / "models/mlperf_tiny/pretrainedResnet.h5").tflite, cifar)


def test_resnet8_from_tflite(shared_data: Path, cifar: dict[str, Dataset]) -> None:
    assert_resnet(to_float_tflite(shared_data / "models/mlperf_tiny/pretrainedResnet.tflite").tflite, cifar)


@pytest.mark.tensorflow
def test_resnet8_by_the_other_engine(shared_data: Path, cifar: dict[str, Dataset]) -> None:
    source = shared_data / "models/mlperf_tiny/pretrainedResnet.h5"
    model = to_float_tflite(source).tflite
    contract = detect_contract(model, cifar["train"]).contract
    chosen = pick(cifar["train"], 100)
    done = quantize_int8_tflite(source, model_inputs(contract, model, cifar["train"], chosen))
    assert done.float_ops == ()
    graph = Graph.read(done.tflite)
    assert graph.numeric_kind() == "int8"
    assert [t.dtype for t in [*graph.inputs, *graph.outputs]] == ["int8", "int8"]
    same = predictions(done.tflite, contract, cifar["test"]) == predictions(model, contract, cifar["test"])
    assert same.mean() > 0.94


@pytest.mark.tensorflow
@pytest.mark.parametrize("real", [True, False], ids=["real values", "codes with mean and std"])
def test_kws_from_a_saved_model(shared_data: Path, tmp_path: Path, real: bool) -> None:
    data = kws(shared_data, tmp_path, real=real)
    model = to_float_tflite(shared_data / "models/mlperf_tiny/kws_ref_model").tflite
    affine = Graph.read(shared_data / "models/mlperf_tiny/kws_ref_model.tflite").inputs[0].affine
    flags = ContractFlags() if real else ContractFlags(mean=(float(affine.zero_point),), std=(1 / affine.scale,))
    found = detect_contract(model, data, flags=flags)
    assert found.contract.inputs[0].shape == (49, 10, 1)
    assert found.contract.output.labels[:2] == ("Down", "Go")
    assert found.warnings == ()
    before = predictions(model, found.contract, data)
    assert (before == data.labels).mean() == pytest.approx(0.905, abs=0.002)
    after = predictions(int8(model, found.contract, data, 200), found.contract, data)
    assert (after == data.labels).mean() >= (before == data.labels).mean() - 0.003
    assert (after == before).mean() >= 0.98


@pytest.mark.tensorflow
def test_kws_codes_without_their_scaling_are_noticed(shared_data: Path, tmp_path: Path) -> None:
    model = to_float_tflite(shared_data / "models/mlperf_tiny/kws_ref_model").tflite
    found = detect_contract(model, kws(shared_data, tmp_path, real=False))
    assert "--mean is their zero point" in found.warnings[0]


def test_a_background_class_and_the_scaling_of_mobilenet_are_found(shared_data: Path) -> None:
    data = open_data(shared_data / "images" / "imagenet_sample")
    model = (shared_data / "models/coral/mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    found = detect_contract(model, data)
    assert found.contract.inputs[0].mean == (127.5,)
    assert found.data.labels is not None
    assert data.labels is not None
    assert np.array_equal(found.data.labels, data.labels + 1)
