"""Widths and exit heads as variants of one bundle, and what stepping down to them costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import ConfigError, DeviceError, UsageError
from edgeloop.graph import Graph
from edgeloop.graph.parts import exit_heads, output_names
from edgeloop.progress import SilentProgress
from edgeloop.runtime import open_session
from edgeloop.targets import load_target
from edgeloop_converters.cascades import Answers
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.dynamic.running_cost import BY_WORK, RunningCost, counter_for
from edgeloop_converters.dynamic.steps import shares_of, with_exits
from edgeloop_converters.dynamic.trade import choose, trade_lines
from edgeloop_converters.dynamic.variants import narrowed
from edgeloop_converters.goals import Goals
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_reading import parse_recipe
from edgeloop_converters.recipe_steps import PassStep, plan_passes
from edgeloop_converters.shared_work import Around

CONTRACT = Contract(
    (InputSpec("image", "image", (8, 8), "gray", None, (0.0,), (255.0,)),),
    OutputSpec("classification", tuple("0123456789")),
)
QUANTIZING = plan_passes("int8", "aeq", "fast")


def answers(ids: list[int], sure: list[float]) -> Answers:
    return Answers(np.array(ids), np.array(sure), np.ones(len(ids)))


def test_the_confidence_at_which_most_stop_is_taken_as_long_as_the_answers_stay() -> None:
    whole = answers([0, 1, 2, 3], [1.0] * 4)
    head = answers([0, 1, 0, 3], [0.9, 0.6, 0.55, 0.4])
    found = choose("exit1", head, whole, 1.0)
    assert found.threshold == 0.56 and found.agreement == 1.0 and found.stopped == 0.5
    assert choose("exit1", head, whole, 0.75).threshold == 0.3
    wrong = answers([1, 0, 0, 0], [0.999] * 4)
    assert choose("exit1", wrong, whole, 0.9).threshold is None


def test_a_width_prunes_to_its_share_in_place_of_the_recipes_own_pruning() -> None:
    steps = (PassStep("optimize"), PassStep("prune", {"amount": 0.2, "score": "l1"}), PassStep("distill"),
             PassStep("prune", {"goal": 0.5}), PassStep("exits"), PassStep("qat"), QUANTIZING[-1])  # fmt: skip
    recipe = Recipe("m.tflite", passes=steps, widths=(0.5,))
    found = narrowed(recipe, 0.4)
    assert [s.name for s in found.passes] == ["optimize", "prune", "distill", "qat", "quantize"]
    assert found.passes[1].options == {"score": "l1", "goal": 0.4} and found.widths == ()
    plain = narrowed(Recipe("m.tflite", passes=(PassStep("optimize"), *QUANTIZING)), 0.6)
    assert [s.name for s in plain.passes] == ["optimize", "prune", "calibrate", "quantize"]


def test_exits_from_the_command_line_stand_before_quantization() -> None:
    found = with_exits((PassStep("prune", {"goal": 0.5}), PassStep("exits"), PassStep("qat"), QUANTIZING[-1]), (0.3,))
    assert [s.name for s in found] == ["prune", "exits", "qat", "quantize"] and found[1].options == {"at": [0.3]}
    assert shares_of("0.75,0.5", "--widths") == (0.75, 0.5)
    with pytest.raises(UsageError, match="--widths 'a' are not shares"):
        shares_of("a", "--widths")


def test_a_recipe_says_its_widths_and_comes_back_as_it_was() -> None:
    recipe = Recipe("m.tflite", data="d.npz", passes=with_exits(QUANTIZING, (0.3, 0.6)), widths=(0.75, 0.5))
    again = parse_recipe(recipe.to_toml())
    assert again == recipe and again.has_steps
    for wrong in ((0.5, 0.5), (1.5,), ("a",)):
        with pytest.raises((UsageError, ConfigError)):
            Recipe("m.tflite", widths=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="widths and optimize together"):
        Recipe("m.tflite", widths=(0.5,), optimize="size")
    with pytest.raises(ConfigError, match="more than once"):
        Recipe("m.tflite", passes=(PassStep("exits"), PassStep("exits"), *QUANTIZING))


def test_a_mean_is_of_both_parts_and_in_instructions_where_both_are_counted() -> None:
    first, second = RunningCost(100.0, 50.0), RunningCost(200.0, 30.0)
    mean = first.plus(second, 0.5)
    assert mean == RunningCost(200.0, 65.0)
    assert mean.share_of(RunningCost(300.0, 130.0)) == 0.5
    assert first.plus(RunningCost(200.0), 0.5).share_of(RunningCost(400.0, 130.0)) == 0.5, "work, where one is unknown"
    assert counter_for(load_target("generic-x86-64"), Around(), SilentProgress()) is BY_WORK
    assert counter_for(load_target("coral-usb"), Around(), SilentProgress()) is BY_WORK


def test_where_the_emulated_core_cannot_be_set_up_work_is_counted_and_this_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgeloop_converters.arm_cost.shutil.which", lambda tool: tool)

    def offline(*_: object) -> None:
        raise DeviceError("no network")

    monkeypatch.setattr("edgeloop_converters.dynamic.running_cost.shared_arm_cost", offline)
    said = Notes()
    assert counter_for(load_target("rpi4"), Around(), said) is BY_WORK
    assert said.lines == ["costs in multiply-accumulates, because instructions cannot be counted here: no network"]


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.slow
def test_a_conversion_makes_variants_to_step_among_and_says_what_each_costs(
    digits_tflite: Path, tmp_path: Path
) -> None:
    split = load_split()
    np.savez(tmp_path / "train.npz", x=split.train_images[:400], y=split.train_labels[:400])
    np.savez(tmp_path / "test.npz", x=split.held_out_images[:200], y=split.held_out_labels[:200])
    recipe = Recipe(
        str(digits_tflite), "generic-x86-64", str(tmp_path / "train.npz"), str(tmp_path / "test.npz"), CONTRACT,
        passes=with_exits(QUANTIZING, (0.5,)), effort="fast", goals=Goals(max_drop=0.02), widths=(0.6, 0.05),
    )  # fmt: skip
    result = convert(recipe)
    assert result.gate.passed, result.gate.reasons
    assert [v.name for v in result.variants] == ["int8", "int8-w60", "int8-exit1"]
    assert any("width 5% is left out" in note for note in result.notes), "too narrow for the kernels' tile"
    whole, narrow, head = (v.model for v in result.variants)
    assert exit_heads(Graph.read(whole)) == ("exit1",) == output_names(Graph.read(head))
    assert len(head) < len(narrow) < len(whole)
    with open_session(whole) as a, open_session(head) as b:
        frame = np.random.default_rng(0).integers(-128, 128, a.inputs[0].shape).astype(np.int8)
        np.testing.assert_array_equal(a.run(frame)[1], b.run(frame)[0])
    told = result.to_dict()["dynamic"]
    assert told["unit"] == "multiply-accumulates" and {p["simd_instructions"] for p in told["points"]} == {None}
    points = {(p["variant"], p["head"], p["threshold"]): p for p in told["points"]}
    assert points[("int8", "", None)]["cost"] == 1.0 > points[("int8-w60", "", None)]["cost"]
    exits = [p for p in told["points"] if p["head"]]
    alone = points[("int8-exit1", "", None)]
    assert all(alone["cost"] <= p["cost"] <= 1.0 and 0 <= p["stopped"] <= 1 for p in exits)
    (chosen,) = told["exits"]
    assert told["validation"] > 0 and (chosen["threshold"] is None or chosen["agreement"] >= told["goal"])
    assert any("exit1 from 0.9" in line for line in trade_lines(told))
    bundle = Bundle.open(result.bundle.save(tmp_path / "d.bundle"))
    assert bundle.report()["dynamic"]["exits"] == list(told["exits"])
    assert parse_recipe(bundle.recipe()).widths == (0.6, 0.05)
