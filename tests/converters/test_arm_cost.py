"""The int8 twin of a float graph, and the core that stands for a target."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeloop.errors import UsageError
from edgeloop.graph import Graph
from edgeloop.runtime import open_session
from edgeloop.targets import load_target
from edgeloop_converters.arm_cost import core_of, int8_twin


def test_the_twin_is_an_int8_model_that_runs_and_the_graph_stays_as_it_is(digits_tflite: Path) -> None:
    graph = Graph.read(digits_tflite)
    before = graph.content_hash()
    twin = int8_twin(graph)
    assert twin.numeric_kind() == "int8"
    assert [op.name for op in twin.main.ops] == [op.name for op in graph.main.ops]
    with open_session(twin.write()) as session:
        assert session.ran_on.delegated_ops > 0
    assert graph.content_hash() == before


@pytest.mark.parametrize(
    ("target", "core"),
    [("rpi3", "cortex-a53"), ("rpi4", "cortex-a72"), ("rpi5", "cortex-a76"), ("generic-aarch64", "cortex-a53")],
)
def test_a_board_is_its_core(target: str, core: str) -> None:
    assert core_of(load_target(target)).name == core


def test_a_target_without_an_emulated_core_is_said() -> None:
    with pytest.raises(UsageError, match="not emulated"):
        core_of(load_target("generic-x86-64"))
