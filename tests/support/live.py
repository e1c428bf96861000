"""What tests of live sources share."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edgeloop.contract import InputSpec
from edgeloop_agent.sources import Wanted
from edgeloop_agent.sources.live import LiveSource

IMAGE = Wanted(InputSpec(kind="image", size=(48, 64)), (1, 48, 64, 3), np.dtype(np.uint8), 0.0, 1.0)
TENSOR = Wanted(InputSpec("x", shape=(3,)), (1, 3), np.dtype(np.float32), -1.0, 1.0)


def take(source: LiveSource, timeout_s: float = 60.0) -> tuple[Any, str] | None:
    deadline_s = time.monotonic() + timeout_s
    while not source.wait(0.05):
        assert time.monotonic() < deadline_s
    return source.read()


def first_event(source: Any) -> str:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        source.wait(0.02)
        for _, detail in source.take_events():
            source.close()
            return str(detail)
    raise AssertionError("it said nothing")
