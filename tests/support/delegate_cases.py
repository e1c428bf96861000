"""What a delegate may do, and what the agent makes of it: one table, run on this machine and on emulated ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgeloop.bundle import BundleDraft, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec
from support.agents import frames, golden_of, make_bundle, residual_int8
from support.delegate_lib import ADD, external

FRAMES = 100
MOST_FRAMES = 400
GOOD_FRAMES = 30
"""A delegate that breaks while it runs does so after about as many (its self-test's invokes count, too)."""
_RATE = 100
_FIRST = {"claim_op": ADD}
_LATER = {"claim_op": ADD, "after": GOOD_FRAMES}

Run = Callable[..., tuple[int, dict[str, Any], str]]
"""Arguments of `edgeloop-agent run` -> (exit code, the --json object, stderr)."""


@dataclass(frozen=True)
class Case:
    """options: of the test delegate. says: part of the one fallback's reason, "" where it keeps running.

    took: ops it took, where it keeps running; ran: what the last frames ran on. is_late: it gave results before.
    frames: how many it is given, MOST_FRAMES at most.
    """

    name: str
    options: Mapping[str, object]
    says: str = ""
    took: int = 0
    is_late: bool = False
    settings: Sequence[object] = field(default=())
    frames: int = FRAMES

    @property
    def ran(self) -> str:
        return "cpu" if self.says else "external" if self.took else "xnnpack"


CASES = (
    Case("claims nothing", {}),
    Case("claims ADD", _FIRST, took=1),
    Case("refuses at create", {"device": "none"}, "xdelegate: no device none"),
    Case("crashes at create", {"crash_create": 1}, "worker died of SIGSEGV"),
    Case("hangs at create", {"hang_create": 1}, "not ready", settings=("--load-timeout", 15)),
    Case("refuses in Prepare", {"fail_prepare": 1}, "xdelegate: graph refused by option"),
    Case("refuses in the kernel's prepare", {**_FIRST, "fail_kernel": 1}, "xdelegate: kernel refused by option"),
    Case("gives wrong numbers", {**_FIRST, "wrong": 1}, "failed its golden self-test"),
    Case("fails at the n-th invoke", {**_LATER, "fail_invoke": 1}, "xdelegate: device lost", is_late=True),
    Case("segfaults at the n-th invoke", {**_LATER, "crash_invoke": 1}, "worker died of SIGSEGV", is_late=True),
    Case("illegal instruction", {**_LATER, "ill_invoke": 1}, "worker died of SIGILL", is_late=True),
    Case("hangs at the n-th invoke", {**_LATER, "hang_invoke": 1}, "hung: one frame took more than", is_late=True,
         settings=("--frame-timeout", 4)),
    Case("leaks", {**_LATER, "leak_mib": 20}, "MiB, more than its limit of 512 MiB", is_late=True,
         settings=("--memory-limit", 512, "--rate", 50)),
    Case("gives wrong numbers later", {**_LATER, "wrong": 1}, "failed its golden self-test", is_late=True,
         settings=("--recheck", 0.1)),
)  # fmt: skip
KNOWN_HANG = Case(
    "hangs once it is known, with the defaults", {"claim_op": ADD, "after": 250, "hang_invoke": 1}, "hung",
    is_late=True, frames=MOST_FRAMES,
)  # fmt: skip
"""Takes 5 s, so only a benchmark runs it."""


@dataclass(frozen=True)
class Seen:
    """gap_s: between the last result of one worker and the first of the next, None where there was one worker."""

    summary: Mapping[str, Any]
    gap_s: float | None


def make_inputs(folder: Path) -> tuple[Path, Path]:
    """(bundle of a small int8 model with an ADD and golden samples, .npz of frames for it)."""
    model = residual_int8()
    bundle = make_bundle(folder / "residual.bundle", model=model, golden=golden_of(frames(4), model=model))
    np.savez(folder / "frames.npz", x=frames(MOST_FRAMES))
    return bundle, folder / "frames.npz"


def make_coral_bundle(folder: Path, model: bytes) -> tuple[Path, Path]:
    """The same of Coral's compiled MobileNetV1 (0.25, 128 pixels), which runs nowhere without its op."""
    labels = tuple(map(str, range(1001)))
    contract = Contract((InputSpec(kind="image", size=(128, 128), color="rgb"),), OutputSpec("classification", labels))
    draft = VariantDraft("edgetpu", model, "uint8, compiled", ("edgetpu",))
    bundle = folder / "coral.bundle"
    write_bundle(bundle, BundleDraft("coral", 1, "coral-usb", contract, [draft]), load_or_create_signing_key())
    images = np.random.default_rng(0).integers(0, 256, (5, 128, 128, 3)).astype(np.uint8)
    np.savez(folder / "images.npz", x=images)
    return bundle, folder / "images.npz"


def check_case(case: Case, run: Run, library: Path, inputs: tuple[Path, Path], folder: Path) -> Seen:
    """Run the agent on the delegate with the CPU behind it, and assert what the case says."""
    bundle, data = inputs
    code, summary, said = run(
        "--bundle", bundle, "--source", f"npz:{data}", "--rate", _RATE, "--count", case.frames,
        "--sink", f"jsonl:{folder}/out.jsonl",
        "--delegate", external(library, **case.options), "--delegate", "cpu", *case.settings,
    )  # fmt: skip
    assert code == 0, said
    assert "Traceback" not in said
    written = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    names = [line["source"] for line in written]
    assert len(names) == len(set(names)), "no frame was run twice"
    assert summary["frames"] == summary["inferences"] + summary["drops"] == case.frames
    assert summary["drops"] <= 1
    assert summary["delegate_ran"] == case.ran
    if not case.says:
        assert (summary["fallbacks"], summary["restarts"]) == ([], 0)
        if case.took:
            assert summary["delegated_ops"] == case.took
        return Seen(summary, None)
    (fallback,) = summary["fallbacks"]
    assert "-> cpu: " in fallback
    assert case.says in fallback
    assert [e["kind"] for e in summary["events"] if e["kind"] != "results_lost"] == ["quarantine", "fallback"]
    if not case.is_late:
        return Seen(summary, None)
    assert summary["inferences"] - summary["sink_errors"] == len(written) > GOOD_FRAMES
    times = [line["time"] for line in written]
    gap_s = max(after - before for before, after in pairwise(times))
    assert gap_s > 2 / _RATE, "two workers gave results"
    return Seen(summary, gap_s)


def check_coral(run: Run, library: Path, inputs: tuple[Path, Path]) -> None:
    """A real compiled model on a delegate that brings its op; and without it, named and explained."""
    bundle, data = inputs
    where = ("--bundle", bundle, "--source", f"npz:{data}")
    code, summary, said = run(*where, "--delegate", external(library, claim_custom="edgetpu-custom-op"))
    assert code == 0, said
    assert (summary["delegate_ran"], summary["delegated_ops"], summary["total_ops"]) == ("external", 1, 1)
    assert summary["inferences"] == 5
    code, summary, said = run(*where, "--delegate", external(library))
    assert code == 3
    assert "compiled for the Edge TPU (edgetpu-custom-op)" in summary["error"]["message"]
