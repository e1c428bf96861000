"""One suite for every sink: what the frame loop may rely on, whether the far end is there or not.

A new sink gets a line in MAKERS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from edgeloop.postprocess import ClassScore, Result
from edgeloop_agent.sinks import SINKS, Sink, open_sink
from support import cameras

RESULT = Result("classification", (ClassScore(1, "cat", 0.5),))
FRAME = np.zeros((48, 64, 3), np.uint8)

Maker = Callable[[Path, ExitStack], str]


def serial(folder: Path, stack: ExitStack) -> str:
    sensor = cameras.Sensor()
    stack.callback(sensor.close)
    return f"serial://{sensor.path}"


MAKERS: dict[str, list[tuple[str, Maker]]] = {
    "jsonl": [("a file", lambda folder, _: f"jsonl:{folder}/out.jsonl"), ("a full disk", lambda *_: "jsonl:/dev/full")],
    "mqtt": [
        ("nobody there", lambda *_: "mqtt://127.0.0.1:9/topic?queue=3")
    ],  # with a broker: tests/agents/test_sinks.py
    "mqtts": [("nobody there", lambda *_: "mqtts://127.0.0.1:9/topic?queue=3")],
    "serial": [("a port", serial), ("no port", lambda *_: "serial:///dev/ttyNONE?queue=3")],
    "snapshots": [
        ("a folder", lambda folder, _: f"snapshots:{folder}/s?every=0&free=0"),
        ("a full disk", lambda folder, _: f"snapshots:{folder}/s?every=0&free=1000000"),
    ],
    "call": [("a function", lambda *_: "call:builtins:repr"), ("one that fails", lambda *_: "call:builtins:len")],
}


@pytest.fixture(params=[(s, *c) for s, cases in MAKERS.items() for c in cases], ids=lambda p: f"{p[0]} {p[1]}")
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    with ExitStack() as stack:
        yield open_sink(request.param[2](tmp_path, stack))


def test_every_sink_is_under_test() -> None:
    assert set(MAKERS) == set(SINKS)


def test_every_result_is_done_or_lost_by_the_end_and_nothing_blocks(sink: Sink) -> None:
    began_s = time.monotonic()
    for i in range(8):
        sink.write(f"camera#{i}", 1000.0 + i, RESULT, 1.0, FRAME)
        sink.flush()
    assert time.monotonic() - began_s < 10
    sink.close()
    assert time.monotonic() - began_s < 60
    assert sink.lines + sink.lost == 8
    assert bool(sink.lost) <= bool(sink.problem) or "queue" in type(sink).__module__


def test_a_sink_without_results_closes(sink: Sink) -> None:
    sink.flush()
    sink.close()
    assert (sink.lines, sink.lost, sink.closed) == (0, 0, False)
