"""The conversions the project must do on real models and data; figures as measured in the notes, or better."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop_converters.goals import Goals
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import plan_passes
from edgeloop_converters.result import ConvertResult

_CALIBRATION_PER_CLASS = 60


@pytest.fixture(scope="module")
def cifar(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(600 training images, all 5,000 test images) as class folders."""
    root = tmp_path_factory.mktemp("cifar")
    with tarfile.open(shared_data / "cifar10" / "test.tar.gz") as archive:
        archive.extractall(root, filter="data")
    taken: dict[str, int] = {}
    with tarfile.open(shared_data / "cifar10" / "train.tar.gz") as archive:
        for member in archive:
            folder = Path(member.name).parent.name
            if member.isfile() and taken.get(folder, 0) < _CALIBRATION_PER_CLASS:
                taken[folder] = taken.get(folder, 0) + 1
                archive.extract(member, root, filter="data")
    return str(root / "train"), str(root / "test")


@pytest.fixture(scope="module")
def keywords(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The keyword samples de-quantized with the reference model's input."""
    from edgeloop.graph import Graph

    main = Graph.read(shared_data / "models/mlperf_tiny/kws_ref_model.tflite").main
    quantization = main.tensors[main.inputs[0]].quantization
    assert quantization is not None
    with np.load(shared_data / "kws" / "kws01.npz") as source:
        features = (source["features"].astype(np.float32) - quantization.zero_point[0]) * quantization.scale[0]
        path = tmp_path_factory.mktemp("kws") / "kws.npz"
        np.savez(path, features=features, labels=source["labels"], label_names=source["label_names"])
    return str(path)


def check_resnet8(result: ConvertResult, folder: Path) -> None:
    variant = result.variants[0]
    metrics = variant.quality.metrics
    assert result.gate.passed, result.gate.reasons
    assert metrics.n == 5000
    assert metrics.float_ is not None and metrics.float_ >= 0.755
    assert metrics.agreement is not None and metrics.agreement >= 0.96
    assert len(variant.model) < 100_000
    contract = result.recipe.contract
    assert contract is not None
    spec = contract.inputs[0]
    assert (spec.kind, spec.size, spec.color, spec.mean, spec.std) == ("image", (32, 32), "rgb", (0.0,), (1.0,))
    assert contract.output.labels[:2] == ("airplane", "automobile")
    assert Bundle.open(result.bundle.save(folder)).manifest.variants[0].metrics == metrics


@pytest.mark.slow
@pytest.mark.tensorflow
def test_resnet8_from_a_keras_2_file(shared_data: Path, cifar: tuple[str, str], tmp_path: Path) -> None:
    model = shared_data / "models/mlperf_tiny/pretrainedResnet.h5"
    check_resnet8(convert(Recipe(str(model), "rpi4", *cifar, goals=Goals(max_drop=0.005))), tmp_path)


@pytest.mark.slow
def test_resnet8_from_a_float_tflite(shared_data: Path, cifar: tuple[str, str], tmp_path: Path) -> None:
    model = shared_data / "models/mlperf_tiny/pretrainedResnet.tflite"
    check_resnet8(convert(Recipe(str(model), "rpi4", *cifar, goals=Goals(max_drop=0.005))), tmp_path)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_keyword_spotting_from_a_saved_model(shared_data: Path, keywords: str, tmp_path: Path) -> None:
    model = shared_data / "models/mlperf_tiny/kws_ref_model"
    recipe = Recipe(str(model), "rpi4", keywords, keywords, goals=Goals(max_drop=0.003, min_agreement=0.98))
    result = convert(recipe)
    assert result.gate.passed, result.gate.reasons
    metrics = result.variants[0].quality.metrics
    assert metrics.n == 600
    assert metrics.float_ is not None and metrics.float_ >= 0.90
    assert len(result.variants[0].model) < 55_000
    Bundle.open(result.bundle.save(tmp_path))


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_tflite_engine_is_there_for_comparison(shared_data: Path, cifar: tuple[str, str]) -> None:
    model = shared_data / "models/mlperf_tiny/pretrainedResnet.h5"
    passes = plan_passes("int8", "tflite", "fast")
    result = convert(Recipe(str(model), "rpi4", *cifar, passes=passes, effort="fast", goals=Goals(min_agreement=0.94)))
    assert result.gate.passed, result.gate.reasons
    assert result.report["provenance"]["engine"] == "tflite"
    assert len(result.report["per_op"]) > 10
