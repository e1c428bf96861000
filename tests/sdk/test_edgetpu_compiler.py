"""Running `edgetpu_compiler` and reading its log: with a stand-in, and on logs in the form that its users published."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.analysis.edgetpu_program import ProgramSize, program_size
from edgeloop.edgetpu_compiler import compile_model, find_compiler, left_on_cpu, parse_log
from edgeloop.errors import DeviceError
from edgeloop.graph import Graph, Op, Subgraph
from support.edgetpu import compiled, custom_options, log_text, stand_in
from support.tiny_models import tiny_cnn, tiny_mlp

OTHERWISE = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
EFFICIENTDET = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 1524 ms.

Input model: detector.tflite
Input size: 4.24MiB
Output model: detector_edgetpu.tflite
Output size: 5.57MiB
On-chip memory used for caching model parameters: 4.21MiB
On-chip memory remaining for caching model parameters: 3.29MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 267
Operation log: detector_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will \
instead run on the CPU, which is slower. If possible, consider updating your model to use only operations supported \
by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 264
Number of operations that will run on CPU: 3

Operator                       Count      Status

ADD                            42         Mapped to Edge TPU
CUSTOM                         1          Operation is working on an unsupported data type
RESHAPE                        10         Mapped to Edge TPU
CONCATENATION                  2          Mapped to Edge TPU
RESIZE_NEAREST_NEIGHBOR        12         Mapped to Edge TPU
DEPTHWISE_CONV_2D              80         Mapped to Edge TPU
DEQUANTIZE                     2          Operation is working on an unsupported data type
CONV_2D                        102        Mapped to Edge TPU
QUANTIZE                       1          Mapped to Edge TPU
LOGISTIC                       1          Mapped to Edge TPU
MAX_POOL_2D                    14         Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
"""
"""Figures and table of an EfficientDet-Lite0, as published."""


def test_a_log_is_read() -> None:
    log = parse_log(EFFICIENTDET)
    assert (log.version, log.total_ops, log.subgraphs, log.mapped_ops) == ("16.0.384591198", 267, 1, 264)
    assert (log.on_chip_bytes, log.remaining_bytes, log.streamed_bytes) == (
        round(4.21 * 2**20), round(3.29 * 2**20), 0,
    )  # fmt: skip
    assert sum(op.count for op in log.ops) == 267
    assert log.statuses("DEQUANTIZE") == ("Operation is working on an unsupported data type",)
    assert log.statuses("ADD") == () and log.failure == ""


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("Edge TPU Compiler version 15.0.340273435\n\nInternal compiler error. Aborting! \n",
         "Internal compiler error. Aborting!"),
        ("Invalid model: my.tflite\nModel not quantized\n", "Model not quantized"),
        ("ERROR: Didn't find op for builtin opcode 'REVERSE_V2' version '3'\n\nERROR: Registration failed.\n\n"
         "Invalid model: m.tflite\nModel could not be parsed\n",
         "ERROR: Didn't find op for builtin opcode 'REVERSE_V2' version '3'; ERROR: Registration failed.; "
         "Model could not be parsed"),
        ("Compilation failed: Compilation failed due to large activation tensors in model.\nCompilation child process "
         "completed within timeout period.\nCompilation failed! \n",
         "Compilation failed: Compilation failed due to large activation tensors in model."),
        ("Compilation child process completed within timeout period.\nCompilation failed! \n", "Compilation failed!"),
    ],
)  # fmt: skip
def test_its_complaints_are_found(text: str, failure: str) -> None:
    assert parse_log(text).failure == failure


def test_text_that_is_no_log_says_nothing() -> None:
    log = parse_log("bash: edgetpu_compiler: command not found\n\x1b[2J 12 CONV_2D\n")
    assert log.ops == () and log.total_ops is None and log.failure == "" and log.version == ""


def test_what_was_left_on_the_cpu_is_known_by_op(tmp_path: Path) -> None:
    model = tiny_cnn()
    done = compile_model(model, compiler=str(stand_in(tmp_path, {4: OTHERWISE})))
    assert done.left == {4: OTHERWISE}
    assert done.log.version == "16.0.384591198" and done.log.mapped_ops == 4
    assert program_size(Graph.read(done.model)) == ProgramSize(66 << 10, 0)


def test_ops_in_front_of_the_program_and_behind_it(tmp_path: Path) -> None:
    done = compile_model(tiny_cnn(), compiler=str(stand_in(tmp_path, {0: "a", 3: "b", 4: "c"})))
    assert done.left == {0: "a", 3: "b", 4: "c"}
    assert [op.name for op in Graph.read(done.model).main.ops] == [
        "CONV_2D", "edgetpu-custom-op", "FULLY_CONNECTED", "SOFTMAX",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (
            {"says": "Edge TPU Compiler version 16.0\nInternal compiler error. Aborting!", "code": 1},
            "Internal compiler",
        ),
        ({"says": "Model not quantized", "code": 0}, "Model not quantized"),
        ({"says": "what is this?", "code": 3}, "what is this?"),
        ({"left": {0: "x", 1: "x", 2: "x", 3: "x", 4: "x"}, "says": "nothing mapped"}, "nothing mapped"),
    ],
)
def test_a_failure_is_one_line(how: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=says) as caught:
        compile_model(tiny_cnn(), compiler=str(stand_in(tmp_path, **how)))  # type: ignore[arg-type]
    assert "\n" not in caught.value.message


def test_a_compiler_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    program = tmp_path / "edgetpu_compiler"
    program.write_text("#!/bin/sh\nsleep 100 &\nsleep 100\n")
    program.chmod(0o755)
    began = time.monotonic()
    with pytest.raises(DeviceError, match=r"did not end within 0\.3 s"):
        compile_model(tiny_cnn(), compiler=str(program), timeout_s=0.3)
    assert time.monotonic() - began < 80


def test_a_compiler_that_crashes_or_cannot_be_run(tmp_path: Path) -> None:
    program = tmp_path / "edgetpu_compiler"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    with pytest.raises(DeviceError, match="crashed \\(SIGSEGV\\)"):
        compile_model(tiny_cnn(), compiler=str(program))
    program.chmod(0o644)
    with pytest.raises(DeviceError, match="cannot be run"):
        compile_model(tiny_cnn(), compiler=str(program))


def test_without_a_compiler_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler() is None
    with pytest.raises(DeviceError, match="not installed"):
        compile_model(tiny_cnn())


def test_a_compiled_file_of_another_model_is_noticed() -> None:
    with pytest.raises(DeviceError, match="not one of this model"):
        left_on_cpu(Graph.read(tiny_mlp()), Graph.read(compiled(tiny_cnn(), {0, 1, 4})))
    with pytest.raises(DeviceError, match="mapped no op"):
        left_on_cpu(Graph.read(tiny_cnn()), Graph.read(tiny_cnn()))


@pytest.mark.parametrize("cut", [0, 1, 2, 5, 40, 400, 4000])
def test_a_damaged_program_has_no_size(cut: int) -> None:
    graph = Graph.read(compiled(tiny_cnn(), cached=3000))
    op = graph.main.ops[0]
    whole = bytes(op.custom_options or b"")
    op.custom_options = whole[: max(0, len(whole) - cut)] if cut else b""
    assert program_size(graph) in (None, ProgramSize(0, 0))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_hostile_program_costs_nothing_and_raises_nothing(data: st.DataObject) -> None:
    whole = bytearray(custom_options(500, 70))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(1, min(len(whole), 200))) * data.draw(st.sampled_from([1, -1]))
        whole[at % len(whole)] = data.draw(st.integers(0, 255))
    op = Op("edgetpu-custom-op", [], [], custom=True, custom_options=bytes(whole))
    size = program_size(Graph([Subgraph("main", [], [], [], [op])]))
    assert size is None or size.cached_bytes + size.streamed_bytes <= 64 * len(whole)


@given(st.binary(max_size=300))
def test_any_bytes_are_no_program(raw: bytes) -> None:
    op = Op("edgetpu-custom-op", [], [], custom=True, custom_options=raw)
    size = program_size(Graph([Subgraph("main", [], [], [], [op])]))
    assert size is None or size.cached_bytes <= 64 * len(raw)


@given(st.text(max_size=500))
def test_any_text_can_be_read_as_a_log(text: str) -> None:
    assert parse_log(text).mapped_ops >= 0


def test_a_log_made_here_is_read_like_a_published_one() -> None:
    log = parse_log(log_text(tiny_cnn(), {4: OTHERWISE}, cached=10 << 10, streamed=0))
    assert (log.total_ops, log.mapped_ops, log.on_chip_bytes, log.streamed_bytes) == (5, 4, 10 << 10, 0)
