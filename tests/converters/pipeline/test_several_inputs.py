"""Models with several inputs and outputs: through conversion, evaluation, the bundle and the agent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.bench import BenchRequest, bench_models
from edgeloop.bundle import Bundle
from edgeloop.bundle.golden import check_golden
from edgeloop.cli._quality import assessment_text
from edgeloop.contract import load_contract
from edgeloop.errors import ConfigError, DataError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop_converters.assess import evaluate
from edgeloop_converters.check_data.run import check_data
from edgeloop_converters.compare import compare
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import plan_passes
from edgeloop_converters.result import ConvertResult
from support.several_inputs import masked_tokens, save, token_data
from support.tiny_models import tiny_two_inputs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tokens.tflite"
    path.write_bytes(masked_tokens())
    return path


def recipe_of(model: Path, data: str, effort: str = "fast", **more: object) -> Recipe:
    return Recipe(
        str(model), "generic-aarch64", data, passes=plan_passes("int8", "aeq", effort), effort=effort,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("data") / "tokens.npz", token_data())


@pytest.fixture(scope="module")
def softmax(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A contract with its tables in another order than the model's, and the second output as the one that counts."""
    path = tmp_path_factory.mktemp("contract") / "c.toml"
    path.write_text(
        '[input.mask]\nkind = "tensor"\nshape = [12]\n[input.tokens]\nkind = "tensor"\nshape = [12]\n'
        '[output]\nkind = "classification"\nname = "softmax_4"\n'
    )
    return str(path)


@pytest.fixture
def result(model: Path, data: str, softmax: str) -> ConvertResult:
    return convert(recipe_of(model, data, contract_file=softmax))


def test_ids_stay_numbers_and_floats_become_codes(result: ConvertResult) -> None:
    inputs = {t.name: t for t in Graph.read(result.variants[0].model).inputs}
    assert inputs["tokens"].dtype == "int32"
    assert inputs["mask"].dtype == "int8"
    assert [spec.name for spec in result.recipe.contract.inputs] == ["tokens", "mask"]  # type: ignore[union-attr]


def test_agreement_is_of_the_named_output_and_the_other_is_compared_by_value(result: ConvertResult) -> None:
    metrics = result.to_dict()["variants"][0]["metrics"]
    assert metrics["metric"] == "accuracy"
    assert metrics["agreement"] > 0.9
    (name, value), *others = metrics["other_outputs"].items()
    assert name.startswith("fully_connected")
    assert 0.9 < value < 1
    assert not others
    assert result.report["per_op"]


def test_the_bundle_tests_all_outputs_and_runs_in_the_agent(result: ConvertResult, tmp_path: Path) -> None:
    path = result.bundle.save(tmp_path)
    bundle = Bundle.open(path)
    golden = bundle.golden()
    assert golden is not None
    assert sorted(golden.inputs) == ["mask", "tokens"]
    assert [a.shape[1:] for a in golden.outputs["int8"]["litert"]] == [(8,), (3,)]
    with open_session(bundle.model("int8")) as session:
        assert check_golden(session, bundle.manifest.contract, golden, "int8").passed
    samples = token_data(count=3, seed=5)
    with edgeloop_agent.open(path) as model:
        found = model({name: samples[name][0] for name in ("tokens", "mask")})
        assert len(found.top) == 3
        assert [v.size for v in found.values] == [8]
        with pytest.raises(DataError, match="no array for input 'mask'"):
            model({"tokens": samples["tokens"][0]})
        with pytest.raises(DataError, match="2 inputs"):
            model(samples["tokens"][0])


def test_evaluate_and_bench_take_it(result: ConvertResult, data: str, tmp_path: Path) -> None:
    path = result.bundle.save(tmp_path)
    again = evaluate(path, data)
    assert again.quality.metrics.agreement is not None
    assert again.quality.metrics.agreement > 0.9
    assert again.quality.others.keys() == result.variants[0].quality.others.keys()
    assert "other output" in assessment_text(again)
    report = bench_models({"int8": result.variants[0].model}, BenchRequest(n=5, warm_up_s=0.0))
    assert report.results[0].n == 5


def test_check_data_looks_at_each_input(model: Path, tmp_path: Path) -> None:
    arrays = token_data()
    clean = check_data(recipe_of(model, save(tmp_path / "d.npz", arrays), ignore_labels=True))
    assert not any(f.severity == "severe" for f in clean.findings)
    arrays["mask"][77, 3] = np.nan
    found = check_data(recipe_of(model, save(tmp_path / "nan.npz", arrays), ignore_labels=True)).findings
    assert any(f.severity == "severe" and f.what.startswith("input 'mask': 1 ") for f in found)


def test_every_refinement_takes_several_inputs(model: Path, data: str) -> None:
    done = convert(recipe_of(model, data, effort="default", ignore_labels=True))
    assert done.variants[0].quality.metrics.agreement is not None
    assert {report["name"] for report in done.report["refinement"]} >= {"range search", "weight rounding"}


def test_sums_of_two_inputs_are_quantized_each_with_its_own_scale(tmp_path: Path) -> None:
    (tmp_path / "two.tflite").write_bytes(tiny_two_inputs())
    random = np.random.default_rng(0)
    arrays = {"left": random.normal(0, 1, (80, 4)), "right": random.normal(0, 30, (80, 4))}
    done = convert(recipe_of(tmp_path / "two.tflite", save(tmp_path / "d.npz", arrays)))
    assert any(note.startswith("output 'add_0' is decoded, softmax_1 compared by value") for note in done.notes)
    scales = {t.name: t.affine.scale for t in Graph.read(done.variants[0].model).inputs}
    assert scales["right"] > 10 * scales["left"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("mask"), r"no array for input 'mask': it holds tokens"),
        (lambda d: d.update(mask=d["mask"][:50]), r"'mask' has 50 samples and not 120"),
        (lambda d: d.update(mask=d["mask"][:, :5]), r"'mask' takes \[12\], got \[5\]"),
        (lambda d: d.update(tokens=d["tokens"] + 0.5), r"'tokens' takes whole numbers"),
        (lambda d: d.update(x=d.pop("tokens")), r"no array for input 'tokens'"),
    ],
)
def test_data_that_do_not_fit_are_one_clear_line(model: Path, tmp_path: Path, change, words: str) -> None:  # type: ignore[no-untyped-def]
    arrays = token_data()
    change(arrays)
    with pytest.raises(DataError, match=words):
        convert(recipe_of(model, save(tmp_path / "d.npz", arrays)))


def test_arrays_of_different_lengths_without_labels(model: Path, tmp_path: Path) -> None:
    arrays = token_data()
    del arrays["y"]
    arrays["mask"] = arrays["mask"][:7]
    with pytest.raises(DataError, match=r"different lengths \(tokens 120, mask 7\)"):
        convert(recipe_of(model, save(tmp_path / "d.npz", arrays)))


def test_a_contract_of_other_inputs_is_refused(model: Path, data: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[input.ids]\nshape = [12]\n[input.mask]\nshape = [12]\n")
    assert len(load_contract(path).inputs) == 2
    with pytest.raises(ConfigError, match=r"its inputs are ids, mask and the model's tokens, mask"):
        convert(recipe_of(model, data, contract_file=str(path)))
    path.write_text('[output]\nname = "nope"\n[input.tokens]\nshape = [12]\n[input.mask]\nshape = [12]\n')
    with pytest.raises(ConfigError, match="no output 'nope'"):
        convert(recipe_of(model, data, contract_file=str(path)))
    with pytest.raises(ConfigError, match="--mean speaks of one input"):
        convert(recipe_of(model, data, hints=ContractFlags(mean=(1.0,))))


def test_evaluate_and_compare_judge_the_output_that_the_contract_names(
    model: Path, data: str, softmax: str, tmp_path: Path
) -> None:
    found = evaluate(model, data, contract=softmax, cache=False)
    assert found.contract.output.index == 1
    assert found.quality.confusion is not None and found.quality.confusion.shape == (3, 3)
    same = compare(model, model, data=data, contract=softmax, latency=False, cache=False).quality
    assert same is not None and (same.kind, same.a) == ("top-1", found.quality.metrics.this)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(Path(softmax).read_text().replace("softmax_4", "nope"))
    with pytest.raises(ConfigError, match="no output 'nope'"):
        evaluate(model, data, contract=wrong)
    with pytest.raises(ConfigError, match="no output 'nope'"):
        compare(model, model, data=data, contract=wrong, latency=False)
