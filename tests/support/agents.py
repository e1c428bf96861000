"""A small int8 model in a signed bundle, frames for it, and the agent as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from edgeloop.bundle import BundleDraft, Golden, VariantDraft, load_or_create_signing_key, write_bundle
from edgeloop.contract import Contract, InputSpec, OutputSpec

LABELS = tuple("0123456789")
CONTRACT = Contract(
    (InputSpec(kind="image", size=(8, 8), color="gray", std=(255.0,)),), OutputSpec("classification", LABELS)
)
PATIENCE_S = 120.0


def frames(count: int, seed: int = 0) -> np.ndarray:
    """uint8 gray [count, 8, 8]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8)).astype(np.uint8)


@lru_cache(maxsize=1)
def digits_int8() -> bytes:
    """The packaged digits model, all int8 (calibrated on noise: it computes, it does not recognise)."""
    return int8_of((resources.files("edgeloop_converters.demo") / "digits.tflite").read_bytes())


@lru_cache(maxsize=1)
def residual_int8() -> bytes:
    """A model of the same contract that has an ADD, all int8."""
    from support.tiny_models import tiny_residual

    return int8_of(tiny_residual(channels=1, classes=len(LABELS)))


@lru_cache(maxsize=1)
def slow_int8() -> bytes:
    """A model of the same contract that takes some 0.3 ms for an inference on a host, all int8."""
    from support.tiny_models import TinyBuilder

    builder = TinyBuilder(0)
    x = builder.input("image", (1, 8, 8, 1))
    for _ in range(10):
        x = builder.conv(x, 32)
    return int8_of(builder.finish(builder.softmax(builder.dense(builder.mean(x), len(LABELS)))).write())


def int8_of(model: bytes) -> bytes:
    """A float model for frames of 8 x 8, all int8."""
    from edgeloop_converters.calibration import calibrate
    from edgeloop_converters.quantization import quantize_int8

    samples = [(f[None, :, :, None] / 255).astype(np.float32) for f in frames(32)]
    return quantize_int8(model, calibrate(model, samples)).tflite


def make_bundle(
    path: Path,
    *,
    model: bytes | None = None,
    contract: Contract = CONTRACT,
    delegates: tuple[str, ...] = ("xnnpack", "cpu"),
    golden: Golden | None = None,
    signed: bool = True,
    runtime: Mapping[str, str] | None = None,
    name: str = "digits",
    version: int = 7,
    target: str = "generic-x86-64",
) -> Path:
    """A bundle with one variant "int8"."""
    variant = VariantDraft("int8", digits_int8() if model is None else model, "int8", delegates)
    draft = BundleDraft(name, version, target, contract, [variant], golden)
    draft = draft if runtime is None else replace(draft, runtime=runtime)
    write_bundle(path, draft, load_or_create_signing_key() if signed else None)
    return path


def _environment(changes: Mapping[str, str] | None) -> dict[str, str]:
    """This process's, but for what says that a CI runner is a systemd service."""
    return {**{k: v for k, v in os.environ.items() if k != "INVOCATION_ID"}, **(changes or {})}


@dataclass
class Agent:
    """A running `edgeloop-agent run`."""

    process: subprocess.Popen[str]
    stderr_path: Path

    @property
    def said(self) -> str:
        return self.stderr_path.read_text()

    @property
    def worker_pid(self) -> int | None:
        done = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        pids = done.stdout.split()
        return int(pids[0]) if pids else None

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        """The condition's first true value. Fails with what the agent said when it ends or takes for ever."""
        for _ in range(int(PATIENCE_S / 0.02)):
            value = condition()
            if value:
                return value
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"never {what}; exit code {self.process.poll()}; it said:\n{self.said}")

    def wait_until_said(self, text: str, times: int = 1) -> None:
        self.wait_until(lambda: self.said.count(text) >= times, f"said {text!r}")

    def stop(self) -> dict[str, Any]:
        """SIGTERM, then the summary."""
        self.process.send_signal(signal.SIGTERM)
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """Wait for the end; the `--json` object."""
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        assert out.count("\n") == 1, (out, self.said)
        return json.loads(out)


@dataclass
class Agents:
    """Starts agents and ends those which a failed test left behind."""

    folder: Path
    running: list[Agent] = field(default_factory=list)

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None, state: str = "state") -> Agent:
        """`edgeloop-agent run --json ARGUMENTS` with its state in this test's folder."""
        stderr_path = self.folder / f"agent-{len(self.running)}.err"
        command = [sys.executable, "-m", "edgeloop_agent.cli", "run", "--json", "--state", str(self.folder / state)]
        with stderr_path.open("w") as stderr:
            process = subprocess.Popen(
                [*command, *map(str, arguments)],
                stdout=subprocess.PIPE, stderr=stderr, text=True, env=_environment(env),
            )  # fmt: skip
        agent = Agent(process, stderr_path)
        self.running.append(agent)
        return agent

    def run(self, *arguments: str | Path, **options: Any) -> tuple[int, dict[str, Any], str]:
        """Run to the end: (exit code, --json object, stderr)."""
        agent = self.start(*arguments, **options)
        summary = agent.summary()
        return agent.process.returncode, summary, agent.said

    def close(self) -> None:
        for agent in self.running:
            if agent.process.poll() is None:
                agent.process.kill()
            agent.process.communicate()


def run_cli(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`edgeloop-agent ARGUMENTS`, whatever comes of it."""
    command: Sequence[str] = [sys.executable, "-m", "edgeloop_agent.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=_environment(env))


def golden_of(samples: np.ndarray, tolerance_steps: float = 2.0, model: bytes | None = None) -> Golden:
    """Golden samples of a model (default: the digits), what it answers here, for its variant "int8"."""
    from edgeloop.affine import dequantize
    from edgeloop.preprocess import compile_input
    from edgeloop.runtime import open_session, runtime_info

    with open_session(digits_int8() if model is None else model) as session:
        prepare = compile_input(CONTRACT.inputs[0], session.inputs[0])
        outputs = np.concatenate([dequantize(session.run(prepare(f))[0], session.outputs[0].affine) for f in samples])
    family = runtime_info().family
    return Golden({"input": samples[..., None]}, {"int8": {family: [outputs]}}, {family: tolerance_steps})
