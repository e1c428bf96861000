"""What a conversion writes down is what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeloop_converters.demo.loop import CONTRACT
from edgeloop_converters.goals import Goals
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import plan_passes
from edgeloop_converters.report import render
from support.digits import save_held_out
from support.reported import checked


@pytest.mark.parametrize(("effort", "points"), [("fast", 1), ("default", 2)])
def test_its_report_has_ranges_placement_histograms_and_the_float_model(
    tmp_path: Path, digits_tflite: Path, effort: str, points: int
) -> None:
    recipe = Recipe(
        source=str(digits_tflite), target="rpi4", data=str(save_held_out(tmp_path)), contract=CONTRACT, name="digits",
        goals=Goals(max_drop=0.01), passes=plan_passes("int8", "aeq", effort, 60), effort=effort,
    )  # fmt: skip
    found = convert(recipe, command="edgeloop convert 'my digits.tflite'").full_report()
    assert found["ranges"][0]["name"] == "INPUT"
    assert len(found["ranges"]) == len(found["per_op"]) + 1
    assert {op["placement"] for op in found["analysis"]["ops"]} <= {"xnnpack", "cpu"}
    assert all("macs" in op for op in found["analysis"]["ops"])
    runs = found["variants"][0]["profile"]["n"]
    assert sum(n for _, _, n in found["latency"]["int8"]) == runs
    assert (found["float"]["profile"] is not None) == (points == 2)
    page = render(found)
    text = checked(page)
    assert page.count('class="point"') == points, "int8, in size and where float was timed in speed"
    assert "edgeloop convert 'my digits.tflite'" in text
    assert "drop of accuracy" in text
    for part in ("Where the ops run", "Range per layer", "Latency", "Error per layer"):
        assert part in text
