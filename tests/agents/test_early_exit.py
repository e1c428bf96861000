"""Early exit: the model stops at its exit head where that is sure; both halves together compute what the whole does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.bundle import Bundle, BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.bundle.golden_maker import make_golden
from edgeloop.cli.main import main
from edgeloop.errors import ConfigError, UsageError
from edgeloop.graph import Graph
from edgeloop.graph.parts import halves, output_names
from edgeloop.postprocess import compile_output
from edgeloop.postprocess.confidence import confidence
from edgeloop.preprocess import compile_input
from edgeloop.runtime import open_session
from edgeloop.runtime.joined import open_halves
from edgeloop_agent.activation.early_exit import open_joined, with_exit
from edgeloop_agent.activation.levels import Law, Program
from edgeloop_agent.activation.programs import open_activation
from edgeloop_agent.activation.proposals import with_proposal
from edgeloop_agent.activation.settings import ActivationSettings, ExitSettings
from edgeloop_agent.activation.steering import TICK_NS, Activation
from edgeloop_agent.worker.pipeline import build_pipeline
from support.agents import CONTRACT, Agents, frames, make_bundle
from support.tiny_models import TinyBuilder

AT_SECOND = replace(CONTRACT, output=replace(CONTRACT.output, index=1))


def builder() -> tuple[TinyBuilder, int, int]:
    """A model with a head behind its first convolution: (builder, head, answer)."""
    b = TinyBuilder(5)
    x = b.conv(b.input("image", (1, 8, 8, 1)), 8)
    head = b.softmax(b.dense(b.mean(x), 10))
    for _ in range(6):
        x = b.conv(x, 48)
    return b, head, b.softmax(b.dense(b.mean(x), 10))


@lru_cache(maxsize=2)
def exit_model(kind: str) -> bytes:
    """Its outputs: the head, then the answer."""
    from edgeloop_converters.calibration import calibrate
    from edgeloop_converters.quantization import quantize_int8

    b, head, answer = builder()
    model = b.finish(head, answer).write()
    if kind == "float":
        return model
    samples = [(f[None, :, :, None] / 255).astype(np.float32) for f in frames(32)]
    return quantize_int8(model, calibrate(model, samples)).tflite


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


def head_of(model: bytes) -> str:
    return output_names(Graph.read(model))[0]


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_both_halves_together_compute_what_the_whole_does(kind: str) -> None:
    model = exit_model(kind)
    cut = halves(Graph.read(model), head_of(model))
    assert cut.exit == 0 and len(cut.first) < len(cut.second) < len(model)
    with open_session(model) as whole, open_halves(cut, open_session) as joined:
        prepare = compile_input(CONTRACT.inputs[0], whole.inputs[0])
        for frame in frames(8):
            expected = whole.run(prepare(frame))
            for a, b in zip(expected, joined.run(prepare(frame)), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6 if kind == "float" else 0)
        assert [o.shape for o in joined.outputs] == [o.shape for o in whole.outputs]


def test_a_model_that_cannot_be_cut_says_why() -> None:
    graph = Graph.read(exit_model("float"))
    with pytest.raises(UsageError, match="no exit head 'none'"):
        halves(graph, "none")
    b = TinyBuilder(5)
    x = b.mean(b.conv(b.input("image", (1, 8, 8, 1)), 4))
    on_the_way = b.finish(x, b.softmax(b.dense(x, 10)))
    with pytest.raises(UsageError, match="nothing is computed behind"):
        halves(on_the_way, output_names(on_the_way)[1])
    b = TinyBuilder(5)
    image = b.input("image", (1, 8, 8, 1))
    beside = b.finish(
        b.softmax(b.dense(b.mean(b.conv(image, 4)), 10)), b.softmax(b.dense(b.mean(b.conv(image, 8)), 10))
    )
    with pytest.raises(UsageError, match="takes the model's input itself"):
        halves(beside, output_names(beside)[0])


@pytest.mark.slow
def test_the_agent_stops_at_the_head_where_it_is_sure_and_self_tests_both_halves(
    agents: Agents, tmp_path: Path
) -> None:
    model, pictures = exit_model("int8"), frames(80)
    with open_session(model) as whole:
        prepare = compile_input(CONTRACT.inputs[0], whole.inputs[0])
        decode = compile_output(CONTRACT.output, whole.outputs)
        sure = [confidence(decode(whole.run(prepare(f)))) or 0.0 for f in pictures]
    threshold = float(np.median(sure))
    stopped = [s >= threshold for s in sure]
    bundle = make_bundle(
        tmp_path / "e.bundle", model=model, contract=AT_SECOND,
        golden=make_golden(AT_SECOND, list(pictures[:4]), {"int8": model}),
    )  # fmt: skip
    np.savez(tmp_path / "x.npz", x=pictures)
    out = tmp_path / "out.jsonl"
    code, summary, said = agents.run(
        "--bundle", bundle, "--source", f"npz:{tmp_path}/x.npz", "--sink", f"jsonl:{out}",
        "--exit-head", f"{head_of(model)}:{threshold!r}",
    )  # fmt: skip
    assert code == 0 and "golden self-test passed" in said, said
    name = f"int8@{head_of(model)}"
    assert summary["variants"] == {name: sum(stopped), "int8": 80 - sum(stopped)}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["variant"] == name for line in lines] == stopped
    plain = tmp_path / "plain.jsonl"
    agents.run("--bundle", bundle, "--source", f"npz:{tmp_path}/x.npz", "--sink", f"jsonl:{plain}")
    for line, full, early in zip(lines, map(json.loads, plain.read_text().splitlines()), stopped, strict=True):
        assert early or line["top"] == full["top"]


def test_the_library_stops_at_the_head_too(tmp_path: Path) -> None:
    model, pictures = exit_model("int8"), frames(40)
    golden = make_golden(AT_SECOND, list(pictures[:4]), {"int8": model})
    bundle = make_bundle(tmp_path / "e.bundle", model=model, contract=AT_SECOND, golden=golden)
    head = head_of(model)
    with edgeloop_agent.open(bundle) as plain, edgeloop_agent.open(bundle, exit_head=f"{head}:1") as never:
        assert [never(picture).top for picture in pictures] == [plain(picture).top for picture in pictures]
        assert {never(picture).variant for picture in pictures} == {"int8"}
    with edgeloop_agent.open(bundle, exit_head=f"{head}:0.0001") as always:
        assert {always(picture).variant for picture in pictures} == {f"int8@{head}"}
    for wrong, said in ((0.8, "exit_head must be a text"), ("0.8", "not an output and"), ("none:0.5", "no exit head")):
        with pytest.raises(UsageError, match=said):
            edgeloop_agent.open(bundle, exit_head=wrong)  # type: ignore[arg-type]


def proposing(tmp_path: Path, threshold: float | None) -> Path:
    """A bundle whose report proposes this confidence."""
    model = exit_model("int8")
    draft = BundleDraft(
        "digits", 7, "generic-x86-64", AT_SECOND, [VariantDraft("int8", model, "int8", ("xnnpack", "cpu"))],
        make_golden(AT_SECOND, list(frames(4)), {"int8": model}),
        report={"dynamic": {"exits": [{"head": head_of(model), "threshold": threshold}], "points": [
            {"variant": "int8", "head": head_of(model), "threshold": 0.0001, "accuracy": None, "agreement": 0.7}]}},
    )  # fmt: skip
    write_bundle(tmp_path / "p.bundle", draft, load_or_create_signing_key())
    return tmp_path / "p.bundle"


def test_without_a_number_the_confidence_is_the_one_that_the_bundle_proposes(agents: Agents, tmp_path: Path) -> None:
    head, bundle = head_of(exit_model("int8")), proposing(tmp_path, 0.0001)
    np.savez(tmp_path / "x.npz", x=frames(20))
    words = ("--bundle", bundle, "--source", f"npz:{tmp_path}/x.npz", "--exit-head", head)
    code, summary, said = agents.run(*words)
    assert code == 0 and summary["variants"] == {f"int8@{head}": 20}, said
    with edgeloop_agent.open(bundle, exit_head=head) as model:
        assert model(frames(1)[0]).variant == f"int8@{head}"
    code, summary, _said = agents.run(*words, "--latency-budget", "1000", "--accuracy-floor", "0.75")
    assert code == 2 and "measured metric of at least 0.75" in summary["error"]["message"]
    code, summary, said = agents.run(*words, "--latency-budget", "1000", "--accuracy-floor", "0.65")
    assert code == 0 and summary["variants"] == {f"int8@{head}": 20}, said


def test_the_governor_counts_what_inputs_take_of_a_model_that_may_stop_early(tmp_path: Path) -> None:
    model = exit_model("int8")
    manifest = Bundle.open(make_bundle(tmp_path / "e.bundle", model=model, contract=AT_SECOND)).manifest

    def opened(exits: ExitSettings) -> Activation:
        whole = build_pipeline(open_joined(model, exits, open_session), AT_SECOND)
        settings = ActivationSettings(law=Law(latency_budget_ms=1e6), exit_head=exits)
        return open_activation(
            settings, manifest, manifest.variants[0], with_exit(whole, AT_SECOND, exits, "int8"), lambda v: whole,
            is_bucketed=False, period_s=0.0,
        )  # fmt: skip

    def after(activation: Activation, frames_seen: int) -> Program:
        steps, now = activation.pipeline, time.perf_counter_ns()
        for _ in range(frames_seen):
            steps.set_input(steps.prepare(frames(1)[0]))
            steps.invoke()
        activation.worked(now, now + frames_seen * 1_000_000 * TICK_NS)  # later than what was told before
        return activation.level.program

    always = opened(ExitSettings(head_of(model), 0.0001))
    before = always.level.program
    assert before.work_ms == before.latency_ms, "nothing is known: all of it counts"
    one, many = after(always, 1), after(always, 200)
    assert one.latency_ms == before.latency_ms and one.work_ms < before.work_ms
    assert many.latency_ms < before.latency_ms and many.work_ms < one.work_ms
    never = opened(ExitSettings(head_of(model), 1.0, expected_share=0.0))
    start = never.level.program
    assert start.work_ms == start.latency_ms, "the bundle says that all stop"
    found = after(never, 200)
    assert found.latency_ms > start.latency_ms and found.work_ms > start.work_ms


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.95])
def test_what_is_expected_to_go_on_is_what_was_measured_at_the_next_higher_confidence(threshold: float) -> None:
    points = [{"variant": "int8", "head": "exit1", "threshold": t, "stopped": s} for t, s in ((0.6, 0.9), (0.9, 0.4))]
    report = {"dynamic": {"points": [*points, {"variant": "int8", "head": "", "threshold": None, "stopped": 0.0}]}}
    found = with_proposal(ExitSettings("exit1", threshold), "int8", report)
    assert found.expected_share == pytest.approx({0.5: 0.1, 0.7: 0.6, 0.95: 1.0}[threshold])
    assert with_proposal(ExitSettings("exit1", threshold), "int8", {}).expected_share == 1.0


@pytest.mark.parametrize("bundle", [None, "none proposed"])
def test_a_bundle_that_proposes_none_says_to_give_a_number(tmp_path: Path, bundle: str | None) -> None:
    made = proposing(tmp_path, None) if bundle else make_bundle(tmp_path / "e.bundle", model=exit_model("int8"))
    with pytest.raises(ConfigError, match="proposes no confidence"):
        edgeloop_agent.open(made, exit_head=head_of(exit_model("int8")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--exit-head", "none:0.5"), "no exit head 'none'"),
        (("--exit-head", "0.5"), "not an output and a confidence"),
        (("--exit-head", "head:0.5", "--cascade", "0.5"), "cascade and exit_head together"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(agents: Agents, tmp_path: Path, arguments, message) -> None:
    bundle = make_bundle(tmp_path / "e.bundle", model=exit_model("int8"), contract=AT_SECOND)
    agent = agents.start("--bundle", bundle, "--source", "synthetic:", "--count", "3", *arguments)
    out, _ = agent.process.communicate(timeout=60)
    assert agent.process.returncode == 2 and message in (agent.said + out) and "Traceback" not in agent.said


def test_a_head_that_is_the_contracts_own_output_is_refused(agents: Agents, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "e.bundle", model=exit_model("int8"))
    code, summary, _said = agents.run(
        "--bundle",
        bundle,
        "--source",
        "synthetic:",
        "--count",
        "3",
        "--exit-head",
        f"{head_of(exit_model('int8'))}:0.5",
    )
    assert code == 2 and "must be another one" in summary["error"]["message"]


@pytest.mark.slow
def test_the_trade_of_an_exit_head_is_measured(tmp_path: Path, capsys) -> None:
    model = exit_model("int8")
    bundle = make_bundle(tmp_path / "e.bundle", model=model, contract=AT_SECOND)
    np.savez(tmp_path / "x.npz", x=frames(64), y=np.arange(64) % 10)
    words = ["evaluate", str(bundle), "--data", str(tmp_path / "x.npz"), "--exit-head", head_of(model)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["cascade"]
    assert found["is_exit"] and found["light_ms"] < found["heavy_ms"]
    first, *_, last = found["points"]
    assert first["cost"] < 1.0 == last["cost"] and last["agreement"] == 1.0
    assert all(p["cost"] <= 1.0 + 1e-9 for p in found["points"])
    assert main([*words, "--report", str(tmp_path / "r")]) == 0 and "exit head " in capsys.readouterr().out
    assert "Early exit" in (tmp_path / "r" / "report.html").read_text()
