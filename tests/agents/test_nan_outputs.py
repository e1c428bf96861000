"""A model whose output is not a number gives no result: it is counted, said once, and the loop lives on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgeloop_agent
from edgeloop.contract import Contract, InputSpec, OutputSpec
from edgeloop.errors import DataError
from edgeloop.graph import make_options
from support.agents import Agents, make_bundle
from support.tiny_models import TinyBuilder

CONTRACT = Contract((InputSpec(kind="tensor", shape=(4,)),), OutputSpec("classification"))


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    found = Agents(tmp_path)
    yield found
    found.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A float model: three of its weights are so large that what goes in decides whether the sums are numbers."""
    b = TinyBuilder(0)
    x = b.input("x", (1, 4))
    weights = b.constant("w", np.array([[3e38, -3e38, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]], np.float32))
    bias = b.constant("b", np.zeros(3, np.float32))
    options = make_options("FullyConnectedOptions", fusedActivationFunction=0)
    y = b.op("FULLY_CONNECTED", [x, weights, bias], (1, 3), options)
    return make_bundle(tmp_path / "nan.bundle", model=b.finish(b.softmax(y)).write(), contract=CONTRACT)


def test_frames_with_no_answer_are_errors_said_once(tmp_path: Path, bundle: Path, agents: Agents) -> None:
    good, bad = np.array([0, 0, 0, 1], np.float32), np.array([1e30, 1e30, 0, 0], np.float32)
    np.savez(tmp_path / "x.npz", x=np.stack([good, bad, good, bad]))
    out = tmp_path / "out.jsonl"
    code, summary, said = agents.run(
        "--bundle", bundle, "--source", f"npz:{tmp_path / 'x.npz'}", "--sink", f"jsonl:{out}"
    )
    assert (code, summary["inferences"], summary["errors"]) == (0, 2, 2), said
    assert len(out.read_text().splitlines()) == 2
    assert said.count("bad_output") == 1 and "is not a number (NaN)" in said


def test_the_library_raises(bundle: Path) -> None:
    with edgeloop_agent.open(bundle) as model, pytest.raises(DataError, match="is not a number"):
        model(np.array([1e30, 1e30, 0, 0], np.float32))
