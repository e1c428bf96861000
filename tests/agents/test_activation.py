"""Gate, cascade and governor in the real agent, and the warm variants behind them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.bundle import BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.bundle.manifest import Metrics
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import DelegateError
from edgeloop.postprocess.confidence import confidence
from edgeloop.telemetry.collector.server import start_collector
from edgeloop_agent.activation.cache import WarmModels
from edgeloop_agent.reports.sums import summary_text
from support import static_camera
from support.agents import CONTRACT, Agents, digits_int8, frames, make_bundle
from support.tiny_models import TinyBuilder

CORAL = Path(__file__).parents[3] / "shared" / "data" / "models" / "coral"


@lru_cache(maxsize=1)
def slow_model() -> bytes:
    """[1, 8, 8, 1] -> [1, 10] in some milliseconds: one convolution again and again, with the same weights."""
    b = TinyBuilder(3)
    x = b.conv(b.input("image", (1, 8, 8, 1)), 128)
    x = b.conv(x, 128)
    weights, bias = b.sub.ops[-1].inputs[1:]
    for _ in range(12):
        x = b.op("CONV_2D", [x, weights, bias], b.shape(x), b.sub.ops[-1].options)
    return b.finish(b.softmax(b.dense(b.mean(x), 10))).write()


@pytest.fixture
def two_variants(tmp_path: Path) -> Path:
    """heavy (accuracy 0.9) and light (0.8); the heavy one is meant for the board."""
    path = tmp_path / "two.bundle"
    variants = [
        VariantDraft("heavy", slow_model(), "float", ("xnnpack",), Metrics("accuracy", 0.9, 0.9, 1.0, 100)),
        VariantDraft("light", digits_int8(), "int8", ("xnnpack",), Metrics("accuracy", 0.9, 0.8, 0.9, 100)),
    ]
    draft = BundleDraft("digits", 7, "generic-x86-64", CONTRACT, variants)
    write_bundle(path, draft, load_or_create_signing_key())
    return path


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


def results_of(path: Path) -> dict[str, dict[str, Any]]:
    return {line["source"]: line for line in map(json.loads, path.read_text().splitlines())}


def save(path: Path, x: np.ndarray) -> str:
    np.savez(path, x=x)
    return f"npz:{path}"


def small_mobilenet() -> tuple[bytes, Contract]:
    path = CORAL / "mobilenet_v1_0.25_128_quant.tflite"
    if not path.is_file():
        pytest.skip("needs ../shared/data (a real MobileNet)")
    spec = InputSpec(kind="image", size=(128, 128), mean=(127.5,), std=(127.5,))
    return path.read_bytes(), Contract((spec,), OutputSpec("classification"))


@pytest.mark.parametrize("model", ["digits", pytest.param("mobilenet", marks=pytest.mark.slow)])
def test_a_fixed_camera_is_inferred_on_less_than_half_the_time_with_the_same_results(
    agents: Agents, tmp_path: Path, model: str
) -> None:
    # Scaled so that the digits model tells the object from the scene, of which it knows neither.
    input_spec = replace(CONTRACT.inputs[0], mean=(100.0,), std=(64.0,))
    digits = digits_int8(), replace(CONTRACT, inputs=(input_spec,))
    tflite, contract = digits if model == "digits" else small_mobilenet()
    bundle = make_bundle(tmp_path / "b.bundle", model=tflite, contract=contract)
    source = save(tmp_path / "camera.npz", static_camera.frames(1000))
    plain, gated = tmp_path / "plain.jsonl", tmp_path / "gated.jsonl"
    agents.run("--bundle", bundle, "--source", source, "--sink", f"jsonl:{plain}")
    code, summary, _said = agents.run(
        "--bundle", bundle, "--source", source, "--sink", f"jsonl:{gated}", "--gate", "--audit-every", "10"
    )
    assert code == 0 and summary["frames"] == 1000 == summary["inferences"] + summary["gated"]
    assert summary["gated"] >= 500
    l1 = summary["cache"]["l1"]
    assert l1["hits"] == summary["gated"] and l1["hits"] + l1["misses"] == 1000
    assert summary["cache"]["l3"] == {"hits": 1, "misses": 0, "rate": 1.0}  # unpacked by the run before
    assert summary["audits"]["n"] >= 50 and summary["audits"]["different"] <= 0.01 * summary["audits"]["n"]
    want, got = results_of(plain), results_of(gated)
    assert want.keys() == got.keys()
    assert len({line["top"][0]["class_id"] for line in want.values()}) > 1  # the object is seen by the model, too
    other = [name for name in want if want[name]["top"][0]["class_id"] != got[name]["top"][0]["class_id"]]
    assert len(other) <= 10
    assert sum(line.get("reused", False) for line in got.values()) == summary["gated"]


def test_a_cascade_asks_the_heavy_variant_where_the_light_one_is_not_sure(
    agents: Agents, two_variants: Path, tmp_path: Path
) -> None:
    pictures = frames(60)
    with edgeloop_agent.open(two_variants, variant="light") as model:
        sure = [confidence(model(picture)) for picture in pictures]
    threshold = float(np.median(sure))
    unsure = sum(s < threshold for s in sure)
    out = tmp_path / "out.jsonl"
    code, summary, _said = agents.run(
        "--bundle", two_variants, "--source", save(tmp_path / "x.npz", pictures), "--sink", f"jsonl:{out}",
        "--cascade", f"light:{threshold!r}",
    )  # fmt: skip
    assert code == 0 and 0 < unsure < 60
    assert summary["escalations"] == unsure
    assert summary["variants"] == {"light": 60 - unsure, "heavy": unsure}
    assert " ops)" not in summary_text(summary).splitlines()[0], "a share of ops would be that of one of the two"
    lines = list(results_of(out).values())
    assert [line["variant"] == "heavy" for line in lines] == [s < threshold for s in sure]


@pytest.mark.parametrize(
    ("threshold", "measured", "said"),
    [("0.7", True, ""), ("0.5", True, "at least 0.85"), ("0.7", False, "was not measured")],
)
def test_the_floor_holds_for_what_a_cascade_was_measured_at(
    agents: Agents, two_variants: Path, tmp_path: Path, threshold: str, measured: bool, said: str
) -> None:
    points = [{"threshold": t, "accuracy": a, "agreement": 0.9} for t, a in ((0.0, 0.8), (0.6, 0.86), (None, 0.9))]
    trade = {"cascade": {"light": "light", "heavy": "heavy", "points": points}}
    variants = [
        VariantDraft("heavy", slow_model(), "float", ("xnnpack",), Metrics("accuracy", None, 0.9, 1.0, 100)),
        VariantDraft("light", digits_int8(), "int8", ("xnnpack",), Metrics("accuracy", None, 0.8, 0.9, 100)),
    ]
    draft = BundleDraft("d", 1, "generic-x86-64", CONTRACT, variants, report=trade if measured else {})
    write_bundle(tmp_path / "c.bundle", draft, load_or_create_signing_key())
    code, summary, _said = agents.run(
        "--bundle", tmp_path / "c.bundle", "--source", "synthetic:", "--count", "5", "--cascade", threshold,
        "--latency-budget", "1000", "--accuracy-floor", "0.85",
    )  # fmt: skip
    assert code == (2 if said else 0), summary
    assert said in summary.get("error", {}).get("message", "")


@pytest.mark.slow
@pytest.mark.parametrize(("warm_mib", "misses"), [("64", 0), ("0", 1)], ids=["warm", "cold"])
def test_the_governor_moves_to_the_variant_that_fits_and_reports_are_of_one_variant(
    agents: Agents, two_variants: Path, tmp_path: Path, warm_mib: str, misses: int
) -> None:
    with start_collector(f"sqlite:///{tmp_path}/t.db") as collector:
        code, summary, said = agents.run(
            "--bundle", two_variants, "--source", "synthetic:", "--rate", "60", "--count", "180", "--device", "d",
            "--latency-budget", "3", "--dwell", "0.5", "--telemetry", collector.url, "--report-interval", "60",
            "--warm-memory", warm_mib,
        )  # fmt: skip
        reports = [each.report for each in collector.store.reports()]
    assert code == 0 and "heavy -> light: p95" in said
    assert [r.variant for r in reports] == ["heavy", "light"]
    assert summary["variants"]["heavy"] + summary["variants"]["light"] == 180
    assert reports[0].latency["invoke"].percentile(50) > 2 * reports[1].latency["invoke"].percentile(50)
    assert [e.kind for r in reports for e in r.events] == ["variant_switch"]
    assert {"activation", "stride", "level", "l2_models"} <= reports[1].gauges.keys()
    assert reports[0].total_ops != reports[1].total_ops > 0  # what ran is said of each
    assert reports[1].gauges["switch_ms"] > 0.0
    assert reports[1].gauges["level"] == 1.0 and reports[1].gauges["activation"] < 1.0
    l2 = summary["cache"]["l2"]
    assert (l2["hits"], l2["misses"]) == (2, misses) and l2["rate"] == pytest.approx(2 / (2 + misses))


def test_the_accuracy_floor_is_never_left(agents: Agents, two_variants: Path) -> None:
    arguments = ("--bundle", two_variants, "--source", "synthetic:", "--latency-budget", "0.5", "--dwell", "0.5")
    code, summary, _said = agents.run(*arguments, "--count", "100", "--accuracy-floor", "0.85")
    assert code == 0 and not [e for e in summary["events"] if e["kind"] == "variant_switch"]
    code, summary, _said = agents.run(*arguments, "--count", "1", "--accuracy-floor", "0.95")
    assert code == 2 and "at least 0.95" in summary["error"]["message"]


def test_where_only_skipping_frames_helps_frames_are_skipped(agents: Agents, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "slow.bundle", model=slow_model())
    code, summary, said = agents.run(
        "--bundle", bundle, "--source", "synthetic:", "--rate", "1000", "--count", "400", "--max-stride", "4",
        "--dwell", "0.5",
    )  # fmt: skip
    assert code == 0 and "every 4. frame" in said and "busy" in said
    assert summary["inferences"] + summary["gated"] == 400 and summary["gated"] > 50
    assert "l1" not in summary["cache"]


@pytest.mark.slow
def test_a_budget_that_cannot_be_kept_is_said_at_the_start_while_it_runs_and_at_the_end(
    agents: Agents, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "slow.bundle", model=slow_model())
    code, summary, said = agents.run(
        "--bundle", bundle, "--source", "synthetic:", "--rate", "60", "--count", "150", "--latency-budget", "0.05",
        "--max-stride", "4", "--dwell", "0.5", "--gate",
    )  # fmt: skip
    assert code == 0 and "governor: latency budget 0.05 ms: no lighter variant to switch to" in said
    assert [e["kind"] for e in summary["events"]] == ["governor", "limit_missed"]
    assert "of 0.05 ms with " in said
    assert summary["latency_budget"]["kept"] is False
    assert "ms of 0.05 ms: not kept" in summary_text(summary)


@pytest.mark.slow
def test_frames_that_a_live_source_drops_are_load(agents: Agents, tmp_path: Path) -> None:
    import cv2

    video = str(tmp_path / "fast.avi")
    writer = cv2.VideoWriter(video, cv2.VideoWriter.fourcc(*"MJPG"), 600.0, (64, 64))
    for picture in np.random.default_rng(0).integers(0, 256, (1800, 64, 64, 3)).astype(np.uint8):
        writer.write(picture)
    writer.release()
    bundle = make_bundle(tmp_path / "slow.bundle", model=slow_model())
    code, summary, said = agents.run(
        "--bundle", bundle, "--source", f"video:{video}?live=1", "--max-stride", "8", "--dwell", "0.5"
    )
    assert code == 0 and summary["drops"] > 100
    assert "stride_switch" in said and "of the frames dropped" in said


def test_a_gate_that_found_nothing_says_so(agents: Agents, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "one.bundle")
    code, summary, _said = agents.run("--bundle", bundle, "--source", "synthetic:", "--count", "5", "--gate")
    assert code == 0 and summary["gated"] == 0
    assert "gated 0 of 5 frames" in summary_text(summary)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-age", "3"), "max_age is a setting of the gate, and the gate is off"),
        (("--dwell", "3"), "the governor is off"),
        (("--cascade", "nothing:0.5"), "no usable variant 'nothing'"),
        (("--variant", "light", "--cascade", "0.5"), "no variant of the bundle is lighter than light"),
        (("--cascade", "7"), "not a confidence"),
        (("--accuracy-floor", "0.5"), "the governor is off"),
        (("--gate", "--audit-every", "0"), "audit_every must be"),
        (("--latency-budget", "-1"), "latency_budget must be"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(agents: Agents, two_variants: Path, arguments, message) -> None:
    agent = agents.start("--bundle", two_variants, "--source", "synthetic:", "--count", "3", *arguments)
    out, _ = agent.process.communicate(timeout=60)
    assert agent.process.returncode == 2 and message in (agent.said + out) and "Traceback" not in agent.said


def test_a_cascade_of_models_that_do_not_say_how_sure_they_are_is_refused(agents: Agents, tmp_path: Path) -> None:
    raw = replace(CONTRACT, output=OutputSpec("raw"))
    bundle = make_bundle(tmp_path / "raw.bundle", contract=raw)
    code, _, said = agents.run("--bundle", bundle, "--source", "synthetic:", "--count", "3", "--cascade", "0.5")
    assert code == 2
    assert "an output of kind raw does not say how sure it is\n  -> it is for classification and detection" in said


class FakePipeline:
    def __init__(self, name: str) -> None:
        self.name, self.closed = name, False

    def close(self) -> None:
        self.closed = True


def test_warm_models_stay_within_their_budget_and_the_longest_unused_goes() -> None:
    opened: list[FakePipeline] = []

    def open_one(name: str) -> Any:
        opened.append(FakePipeline(name))
        return opened[-1]

    models = WarmModels(open_one, {"a": 4, "b": 4, "c": 4}, budget_bytes=8)
    (a,) = models.use(["a"])
    (b,) = models.use(["b"])
    assert models.use(["a"]) == [a] and models.ready == {"a", "b"} and not models.fits("c")
    models.use(["c"])
    assert models.ready == {"a", "c"} and b.closed and not a.closed
    assert (models.hits, models.misses) == (1, 3)
    models.use(["a", "b", "c"])  # what is used at once stays, whatever the budget says
    assert models.ready == {"a", "b", "c"}
    models.close()
    assert all(p.closed for p in opened)


def test_a_variant_is_opened_beside_the_loop_and_one_that_cannot_be_is_no_crash() -> None:
    may_go_on = threading.Event()

    def open_one(name: str) -> Any:
        may_go_on.wait(60)
        if name == "broken":
            raise DelegateError("it does not open")
        return FakePipeline(name)

    models = WarmModels(open_one, {"a": 1, "broken": 1}, budget_bytes=8)
    models.preload(["a"])
    models.preload(["a"])  # one wish at a time
    assert models.ready == frozenset()
    may_go_on.set()
    models.wait()
    models.preload(["broken"])
    models.wait()
    assert models.ready == {"a"} and models.unusable == {"broken": "it does not open"}
    assert (models.hits, models.misses) == (0, 2)
