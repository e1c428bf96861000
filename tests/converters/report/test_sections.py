"""The parts of the report, each from the report's own values."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop_converters.repair.records import OpName, Repair, Score, Suspect
from edgeloop_converters.report import render
from edgeloop_converters.report.sections.layers import saturates
from edgeloop_converters.report.sections.placement import placement
from edgeloop_converters.report.sections.provenance import commands
from edgeloop_converters.report.sections.repairs import repairs
from edgeloop_converters.report.sections.tradeoff import tradeoff
from support.reported import HOSTILE, checked, report

SECTIONS = {
    "variants": "Size, quality and speed", "repairs": "Repairs and refinement", "confusion": "Confusion matrix",
    "errors": "Error per layer", "ranges": "Range per layer", "placement": "Where the ops run", "latency": "Latency",
    "findings": "Findings", "data": "Data and contract", "provenance": "Where this comes from", "again": "Do it again",
}  # fmt: skip


def test_every_part_is_there_once_and_in_the_contents() -> None:
    page = render(report())
    for anchor, title in SECTIONS.items():
        assert page.count(f'<section id="{anchor}"><h2>{title}</h2>') == 1
        assert f'<a href="#{anchor}">{title}</a>' in page


def test_float_and_variant_are_two_points_in_size_and_in_speed() -> None:
    page = tradeoff(report())
    assert page is not None
    assert page.count("<circle") == 2  # int8
    assert page.count('class="point reference"') + page.count('class="point beaten reference"') == 2
    without_latency = report(float={"bytes": 318292})
    page = tradeoff(without_latency)
    assert page is not None and page.count("<circle") == 1


def test_a_compiled_file_is_in_the_table_and_no_point() -> None:
    nothing = {"metric": None, "float": None, "this": None, "agreement": None, "n": 0, "agreement_kind": None}
    compiled = {"name": "edgetpu", "bytes": 123_456, "xz_bytes": None, "metrics": nothing, "profile": None}
    page = tradeoff(report(compiled=[compiled]))
    assert page is not None
    assert "edgetpu" in checked(page) and "123.5 kB" in checked(page)
    assert page.count("<circle") == 2


def test_the_first_op_off_the_accelerator_is_labelled_with_its_reason() -> None:
    analysis = {
        "delegates": {"edgetpu": {"mapped_ops": 1, "total_ops": 3, "status": "confirmed", "sram_bytes": 8 << 20,
                                  "on_chip_bytes": 6 << 20, "streamed_bytes": 1 << 20, "partitions": 1, "crossings": 1,
                                  "rewrites": [{"text": "put the cast outside", "ops": [1]}]}},
        "ops": [
            {"index": 0, "name": "CONV_2D", "placement": "edgetpu", "reason": ""},
            {"index": 1, "name": "CAST", "placement": "xnnpack", "reason": "not edgetpu: not in Coral's list"},
            {"index": 2, "name": "ADD", "placement": "cpu", "reason": "not edgetpu: comes after op 1; not xnnpack: x"},
        ],
    }  # fmt: skip
    page = placement(analysis, "coral-usb")
    assert page is not None
    text = checked(page)
    assert "first not on Edge TPU: op 1 CAST: not in Coral's list" in text
    assert "1 of 3 ops on Edge TPU of coral-usb (confirmed)." in text
    assert "1.0 MB sent at every inference" in text
    assert "put the cast outside" in text
    analysis["ops"] = analysis["ops"][:1]
    page = placement(analysis, "coral-usb")
    assert page is not None and "All 1 ops on Edge TPU" in checked(page)
    assert "chosen" not in page


@pytest.mark.parametrize(
    ("low", "high", "clipped", "expected"),
    [(0.0, 9.5, 0.042, True), (0.0, 6.01, 0.02, False), (0.0, 9.5, 0.0005, False), (-3.0, 5.0, 0.3, True)],
)
def test_a_tensor_saturates_when_much_and_many_are_outside(
    low: float, high: float, clipped: float, expected: bool
) -> None:
    one = {"float_min": low, "float_max": high, "quantized_min": 0.0, "quantized_max": 6.0, "clipped": clipped}
    assert saturates(one) is expected


def test_logits_below_what_a_softmax_shows_may_be_cut() -> None:
    error = {"mse": 0.1, "max_abs": 1.0, "output": "t"}
    reach = {"quantized_min": -2.5, "quantized_max": 9.0, "clipped": 0.5, "tensor": "logits"}
    low = {"index": 6, "name": "FULLY_CONNECTED", "float_min": -22.0, "float_max": 9.0, **reach}
    dense = {"index": 6, "name": "FULLY_CONNECTED", "snr_db": 5.6, **error}
    for softmax_db, top, harmless in ((45.0, 9.0, True), (12.0, 9.0, False), (45.0, 20.0, False)):
        softmax = {"index": 7, "name": "SOFTMAX", "snr_db": softmax_db, **error}
        page = render(report(per_op=[dense, softmax], ranges=[{**low, "float_max": top}]))
        text = checked(page)
        assert ("50 % below what the softmax shows" in text) is harmless
        assert ("none of 1 tensors saturates" in text) is harmless
        assert ("5.6 dB !" in text) is not harmless


def test_saturating_tensors_are_counted_and_marked() -> None:
    text = checked(render(report()))
    assert "1 of 2 tensors saturate" in text
    assert "4.2 % outside !" in text


def test_rungs_say_what_they_gained_and_cost() -> None:
    page = repairs(report())
    assert page is not None
    text = checked(page)
    for expected in ("74.40 % → 75.12 %", "+0.72 pt", "90.0 kB → 95.6 kB", "SOFTMAX", "3.1", "2 rungs tried, 2 kept",
                     "range search", "(-25%)"):  # fmt: skip
        assert expected in text


def test_the_ladders_own_records_are_shown() -> None:
    before, after = Score(200, 0.93, 0.02, 0.88, 0.91), Score(200, 0.97, 0.004, 0.905, 0.91)
    softmax = OpName(1, "SOFTMAX", "probabilities")
    rungs = [
        Repair("find ops", "12 trials", before=before, suspects=(Suspect(softmax, 6.5, before, after),), seconds=2.0),
        Repair("ranges", "the goals hold without it", tried=False),
        Repair("rounding", "all layers", before=before, after=before, bytes_before=95000, bytes_after=95000),
        Repair("float ops", "1 of 9 ops in float", accepted=True, before=before, after=after, bytes_before=95000,
               bytes_after=99000, ops=(softmax,), latency_ratio=1.25, seconds=3.1),
    ]  # fmt: skip
    listed = [rung.to_dict() for rung in rungs]
    page = repairs(report(repairs=listed, refinement=[], goals={"max_drop": 0.01}))
    assert page is not None
    text = checked(page)
    for expected in ("2 rungs tried, 1 kept", "not tried", "not kept", "88.00 % → 90.50 %", "95.0 kB → 99.0 kB",
                     "1.25x", "0.02 → 0.004", "Ops that spoil the answers most", "6.5 dB", "goal"):  # fmt: skip
        assert expected in text
    page = repairs(report(repairs=listed, refinement=[], goals={"min_agreement": 0.96}))
    assert page is not None and "93.00 % → 97.00 %" in checked(page)


def test_a_rung_that_was_not_kept_says_what_decided() -> None:
    before = Score(128, 0.992, 0.0012, 0.711, 0.711)
    assert Repair("bias correction", "10 layers", before=before, after=before, accepted=True).why_not_kept == ""
    fell = Repair("bias correction", "10 layers", before=before, after=Score(128, 0.977, 0.0011, 0.734, 0.711))
    assert fell.why_not_kept.startswith("agreement fell: other answers, estimated, 3.04% -> ")
    assert fell.note().endswith(f"; not kept ({fell.why_not_kept})")
    rose = Repair("rounding", "10 layers", before=before, after=Score(128, 0.992, 0.02, 0.711, 0.711))
    assert rose.why_not_kept.startswith("the outputs' error rose")
    little = Repair("ranges", "2 ranges", before=before, after=Score(128, 0.992, 0.00119, 0.711, 0.711))
    assert little.why_not_kept.startswith("too little gained")
    page = repairs(report(repairs=[fell.to_dict()], refinement=[], goals={"max_drop": 0.0001}))
    assert page is not None
    text = checked(page)
    # The accuracy starts where the goal asks for it on these samples, so it cannot be what is drawn.
    assert "agreement fell" in text and "99.20 % → 97.70 %" in text
    assert "cannot decide here" in text and ">goal<" not in page


def test_accuracy_never_stands_without_the_agreement() -> None:
    fell = Repair("bias correction", "", before=Score(99, 0.95, 0.1, 0.6, 0.7), after=Score(99, 0.9, 0.1, 0.61, 0.7))
    page = repairs(report(repairs=[fell.to_dict()], refinement=[], goals={"max_drop": 0.01}))
    assert page is not None
    text = checked(page)
    assert "accuracy 60.00 % → 61.00 %" in text and "agreement 95.00 % → 90.00 %" in text


def test_ops_are_numbered_as_in_the_delivered_file() -> None:
    score = Score(99, 0.95, 0.1)
    conv, gone = OpName(9, "CONV_2D", "stem;bias"), OpName(3, "ADD", "sum;x")
    find = Repair("find ops", "", before=score, suspects=(Suspect(conv, 6.5, score, score),))
    moved = Repair("float ops", "", accepted=True, before=score, after=score, ops=(conv, gone))
    delivered = {"index": 12, "name": "CONV_2D", "output": "stem;bias", "snr_db": 30.0, "mse": 0.1, "max_abs": 1.0}
    page = repairs(report(repairs=[find.to_dict(), moved.to_dict()], refinement=[], per_op=[delivered]))
    assert page is not None
    text = checked(page)
    assert "ops 12 CONV_2D, ADD 'sum'" in text and "9 CONV_2D" not in text


def test_variants_of_several_shapes_do_not_compete_and_say_whose_numbers_are_shown() -> None:
    (one,) = report()["variants"]
    buckets = [{**one, "name": f"int8-{n}", "bytes": 5360 + n, "input_shapes": [[n]]} for n in (16, 32, 64)]
    page = render(report(variants=buckets))
    text = checked(page)
    assert "3 variants, one per shape" in text and "What names no variant is of int8-16." in text
    assert "accuracy, int8-16" in text and "Of int8-16. Rows: true class." in text
    assert "beaten in" not in text and 'class="front"' not in page and "point beaten" not in page
    competing = render(report(variants=[{**v, "input_shapes": None} for v in buckets]))
    assert "point beaten" in competing and "one per shape" not in competing


def test_exact_outputs_leave_room_for_the_others() -> None:
    exact, noisy = (
        {"index": i, "name": "ADD", "output": "t", "mse": 0.0, "max_abs": 0.0, "snr_db": db}
        for i, db in enumerate((200.0, 30.0))
    )
    page = render(report(per_op=[exact, noisy]))
    errors = page[page.index('<section id="errors">') : page.index('<section id="ranges">')]
    assert re.findall(r'width="(\d+)" height="14"', errors) == ["1000", "500"]
    assert "exact" in checked(errors) and "200.0 dB" not in checked(errors)


def test_noisy_logits_before_a_good_softmax_are_explained() -> None:
    error = {"mse": 0.1, "max_abs": 1.0, "output": "t"}
    reach = {"quantized_min": -1.9, "quantized_max": 2.3, "float_min": -3.5, "float_max": 3.4, "clipped": 0.062}
    per_op = [
        {"index": 11, "name": "FULLY_CONNECTED", "snr_db": 15.3, **error},
        {"index": 12, "name": "SOFTMAX", "snr_db": 45.4, **error},
    ]
    found = [{"index": 11, "name": "FULLY_CONNECTED", "tensor": "logits", **reach}]
    text = checked(render(report(per_op=per_op, ranges=found)))
    assert "Op 11 has 15.3 dB only; the softmax after it, which is what counts, has 45.4 dB" in text
    assert "6.2 % outside, after the softmax 45 dB" in text
    assert "which is what counts" not in checked(render(report(per_op=[per_op[0], {**per_op[1], "snr_db": 16.0}])))


def test_the_speed_tile_has_the_median_beside_the_tail() -> None:
    assert 'n = 500</small><small class="note">p50 0.135 ms</small>' in render(report())


def test_a_variant_partly_in_float_is_not_called_int8_alone() -> None:
    (one,) = report()["variants"]
    assert "accuracy, int8, 10 of 16 ops float" in checked(
        render(report(variants=[{**one, "float_ops": 10, "ops": 16}]))
    )
    assert "ops float" not in checked(render(report(variants=[{**one, "float_ops": 0, "ops": 16}])))


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats(-9, 9) | st.text(max_size=5) | st.just(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "before",
                    "after",
                    "bytes",
                    "bytes_after",
                    "ops",
                    "suspects",
                    "seconds",
                    "kept",
                    "tried",
                    "latency_ratio",
                    "x",
                ]
            ),
            _ANYTHING,
        )
    )
)
def test_any_rung_is_drawn_or_left_out(rungs: list[dict[str, Any]]) -> None:
    page = repairs(report(repairs=rungs, refinement=[]))
    if page is not None:
        checked(page)


def test_the_commands_can_be_typed_as_they_are() -> None:
    listed = dict(commands(report()))
    typed = [shlex.split(line) for text in listed.values() for line in text.splitlines()]
    assert ["pip", "install", "numpy==2"] in typed
    assert ["edgeloop", "convert", "m.h5"] in typed
    assert ["python3", "-m", "zipfile", "-e", "my model-3.bundle", "my model-3"] in typed
    recipe = [
        "edgeloop",
        "convert",
        "m.h5",
        "--recipe",
        "my model-3/recipe.toml",
        "--data",
        "calib dir/",
        "--eval",
        "test/",
    ]
    assert recipe in typed
    assert ["edgeloop", "evaluate", "my model-3.bundle", "--data", "test/"] in typed
    one = {"source": "x", "samples": 9}
    split = " ".join(dict(commands(report(data={"calibration": one, "evaluation": one}))).values())
    assert "edgeloop evaluate" not in split


def test_goals_stand_with_what_was_measured() -> None:
    goals = {"max_drop": 0.005, "min_agreement": 0.97, "max_bytes": 90000, "p95_ms": 20.0}
    text = checked(render(report(goals=goals, gate={"passed": False, "unverified": ["p95 <= 20 ms: not measured"]})))
    for expected in ("at most 0.5 pt", "0.38 pt lost", "at least 97.00 %", "at most 90.0 kB", "not judged"):
        assert expected in text
