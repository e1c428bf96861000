"""What telemetry, gate and governor cost at 200 frames a second: CPU time per frame, blocks of frames in turn.

One side is the bare pipeline (prepare, invoke, decode); the other the agent's loop over the same pipeline with its
recorder, a gate that finds nothing to reuse and a governor that finds nothing to do. CPU time of the loop's thread, so
that other work on the machine counts for little. Then the supervisor: CPU time of its process while a real agent runs
200 frames a second and reports every 10 s. Bound from the design: at most 3 % of 5 ms, all together.
"""

from __future__ import annotations

import argparse
import itertools
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _timing import REPOSITORY, host, shared_data

sys.path.insert(0, str(REPOSITORY / "tests"))

from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.runtime import open_session
from edgeloop_agent.activation.cache import WarmModels
from edgeloop_agent.activation.levels import Law, Program
from edgeloop_agent.activation.settings import ActivationSettings, GateSettings
from edgeloop_agent.activation.steering import Activation
from edgeloop_agent.ipc import Channel, Page
from edgeloop_agent.worker.board_watch import BoardWatch
from edgeloop_agent.worker.loop import Control, Recorder, run_loop
from edgeloop_agent.worker.pipeline import Pipeline, build_pipeline

FRAME_MS = 5.0
BLOCK = 60
SUPERVISED_S = 30.0


class Pictures:
    """A source of so many different pictures, again and again."""

    def __init__(self, pictures: list[Any]) -> None:
        self._next = itertools.cycle(pictures).__next__

    def read(self) -> tuple[Any, str]:
        return self._next(), "picture"

    def close(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    data = shared_data()
    names = sorted((data / "images/imagenet_sample").glob("*.JPEG"))[:24]
    pictures = [cv2.resize(cv2.imread(str(name)), (640, 480)) for name in names]
    contract = Contract((InputSpec(kind="image", size=(224, 224)),), OutputSpec("classification"))
    model = data / "models/coral/mobilenet_v2_1.0_224_quant.tflite"
    pipeline = build_pipeline(open_session(model.read_bytes(), delegate="xnnpack"), contract)
    source = Pictures(pictures)

    def bare() -> None:
        for _ in range(BLOCK):
            frame, _name = source.read()
            pipeline.set_input(pipeline.prepare(frame))
            pipeline.invoke()
            pipeline.decode(pipeline.collect())

    seconds: dict[str, list[float]] = {"bare": [], "telemetry": [], "telemetry, gate, governor": []}
    sides = {"bare": bare, "telemetry": looped(pipeline, source, None),
             "telemetry, gate, governor": looped(pipeline, source, activation_of(pipeline))}  # fmt: skip
    for run in range(runs + 1):
        for name, side in sides.items():
            began = time.thread_time()
            side()
            if run:
                seconds[name].append((time.thread_time() - began) / BLOCK)
    frame_ms = statistics.median(seconds["bare"]) * 1e3
    for name in list(sides)[1:]:
        extra = [b - a for a, b in zip(seconds["bare"], seconds[name], strict=True)]
        extra_ms = statistics.median(extra) * 1e3
        print(
            f"{name}: {extra_ms * 1e3:.0f} us a frame of 640x480, {extra_ms / FRAME_MS:.1%} of {FRAME_MS:g} ms; "
            f"ratio {statistics.median(b / a for a, b in zip(seconds['bare'], seconds[name], strict=True)):.3f} over a "
            f"bare frame of {frame_ms:.2f} ms (n = {runs} x {BLOCK} frames, CPU time, {host()})"
        )
    supervision()


def supervision() -> None:
    """The supervisor's share, of a real agent with gate, governor and HTTP telemetry that nobody takes."""
    from edgeloop.probes import cpu_seconds
    from support.agents import Agents, make_bundle

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["EDGELOOP_HOME"] = f"{scratch}/home"
        agents = Agents(Path(scratch))
        try:
            agent = agents.start(
                "--bundle", make_bundle(Path(scratch) / "b.bundle"), "--source", "synthetic:", "--rate", "200",
                "--gate", "--latency-budget", "10000", "--max-stride", "4", "--telemetry", "http://127.0.0.1:9",
            )  # fmt: skip
            agent.wait_until_said(" runs on ")
            time.sleep(2)
            began, used = time.monotonic(), cpu_seconds(agent.process.pid)
            time.sleep(SUPERVISED_S)
            after, seconds = cpu_seconds(agent.process.pid), time.monotonic() - began
            assert used is not None and after is not None
            share = (after - used) / seconds
            per_frame_us = share / 200 * 1e6
            print(f"supervisor: {share:.2%} of a core, {per_frame_us:.0f} us a frame at 200 frames/s ({seconds:.0f} s)")
        finally:
            agents.close()


def looped(pipeline: Pipeline, source: Pictures, activation: Activation | None) -> Callable[[], None]:
    """The agent's loop with its recorder; somebody reads what it says."""
    ours, theirs = socket.socketpair()
    channel, page, control = Channel(ours), Page(), Control()
    threading.Thread(target=_drain, args=(theirs,), daemon=True).start()
    statistics_of = dict if activation is None else activation.statistics
    recorder = Recorder(channel, page.slots, [], control, None, statistics_of)
    steps = pipeline if activation is None else activation.pipeline

    def block() -> None:
        run_loop(steps, source, [], recorder, page.slots, control, count=BLOCK, activation=activation)
        if activation is not None:
            activation.ran.clear()
            if page.slots[6]:
                raise SystemExit("the gate reused a result: this measures something else")

    return block


def activation_of(pipeline: Pipeline) -> Activation:
    """Everything on, with limits that are never met."""
    law = Law(latency_budget_ms=10_000, temperature_limit_c=110, max_stride=4)
    models = WarmModels(lambda _name: pipeline, {"int8": 1}, 1 << 30)
    models.put("int8", pipeline)
    program = Program("int8", FRAME_MS, FRAME_MS)
    settings = ActivationSettings(GateSettings(), law)
    return Activation(
        settings, models, [program], {"int8": ("int8",)}, {"int8": FRAME_MS}, period_s=1.0, board=BoardWatch()
    )  # fmt: skip


def _drain(sock: socket.socket) -> None:
    while sock.recv(1 << 16):
        pass


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
