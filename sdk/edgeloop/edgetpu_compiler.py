"""Google's `edgetpu_compiler`, where it is installed: run it, read its log, and see which ops it left on the CPU.

It is a closed x86-64 Linux program and not part of edgeloop. The log's form is that of versions 14 to 16, as their
users published it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeloop.errors import DeviceError
from edgeloop.graph import Graph
from edgeloop.graph.kinds import EDGETPU_OP
from edgeloop.graph.naming import printable

COMMAND = "edgetpu_compiler"
TIMEOUT_S = 600.0
MAPPED = "Mapped to Edge TPU"
_MAX_OUTPUT_BYTES = 1 << 30
_MAX_LOG_BYTES = 4 << 20

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_VERSION = re.compile(r"^Edge TPU Compiler version (\S+)", re.MULTILINE)
_SIZE = r": *(\d{1,9}(?:\.\d{1,9})?) *(B|KiB|MiB|GiB)\b"
_CACHED = re.compile(r"^On-chip memory used for caching model parameters" + _SIZE, re.MULTILINE)
_REMAINING = re.compile(r"^On-chip memory (?:remaining|available) for caching model parameters" + _SIZE, re.MULTILINE)
_STREAMED = re.compile(r"^Off-chip memory used for streaming uncached model parameters" + _SIZE, re.MULTILINE)
_SUBGRAPHS = re.compile(r"^Number of Edge TPU subgraphs: *(\d{1,9})", re.MULTILINE)
_TOTAL = re.compile(r"^Total number of operations: *(\d{1,9})", re.MULTILINE)
_ROW = re.compile(r"^([A-Z][A-Z0-9_]*) +(\d{1,9}) +(\S.*?) *$", re.MULTILINE)
_FAILURE = re.compile(r"ERROR: |Compilation failed|Internal compiler error|Model (?:not quantized|could not be parsed)")


@dataclass(frozen=True)
class OpStatus:
    """A row of the log's table: `count` ops of that builtin name with that status."""

    name: str
    count: int
    status: str

    @property
    def is_mapped(self) -> bool:
        return self.status == MAPPED


@dataclass(frozen=True)
class CompilerLog:
    """What a log says; None for what it does not. Sizes are as exact as it prints them."""

    version: str = ""
    ops: tuple[OpStatus, ...] = ()
    total_ops: int | None = None
    subgraphs: int | None = None
    on_chip_bytes: int | None = None
    remaining_bytes: int | None = None
    streamed_bytes: int | None = None
    failure: str = ""

    @property
    def mapped_ops(self) -> int:
        return sum(op.count for op in self.ops if op.is_mapped)

    def statuses(self, name: str) -> tuple[str, ...]:
        """Why ops of that name were not mapped: each status once."""
        return tuple(dict.fromkeys(op.status for op in self.ops if op.name == name and not op.is_mapped))


@dataclass(frozen=True)
class Compiled:
    """`model`: the compiled .tflite. `left`: index of each op that is not in the program -> why."""

    model: bytes
    log: CompilerLog
    left: dict[int, str] = field(default_factory=dict)


def find_compiler() -> str | None:
    """Its path, where it is on the PATH."""
    return shutil.which(COMMAND)


def command_line(model: str) -> str:
    """What to type on a machine that has it."""
    return f"{COMMAND} -s {model}"


def compile_model(model: bytes, *, compiler: str | None = None, timeout_s: float = TIMEOUT_S) -> Compiled:
    """Compile a .tflite. compiler: default the one on the PATH.

    Raises DeviceError, one line with the compiler's own words, where it is not there, fails, hangs, or writes
    something else than a compiled model of this one.
    """
    program = compiler or find_compiler()
    if program is None:
        raise DeviceError(f"{COMMAND} is not installed here", hint="it runs on x86-64 Linux: docs/coral.md")
    with tempfile.TemporaryDirectory(prefix="edgeloop-edgetpu-") as folder:
        source = Path(folder) / "model.tflite"
        source.write_bytes(model)
        text, code = _run([program, "-s", "-o", folder, str(source)], folder, timeout_s)
        log = parse_log(text)
        result = Path(folder) / "model_edgetpu.tflite"
        if code or not result.is_file():
            raise DeviceError(f"{COMMAND} failed: {log.failure or _last_line(text) or f'exit code {code}'}")
        if result.stat().st_size > _MAX_OUTPUT_BYTES:
            raise DeviceError(f"{COMMAND} wrote more than {_MAX_OUTPUT_BYTES >> 20} MiB")
        compiled = result.read_bytes()
    return Compiled(compiled, log, left_on_cpu(Graph.read(model), Graph.read(compiled), log))


def _run(command: Sequence[str], folder: str, timeout_s: float) -> tuple[str, int]:
    """What it printed, and its exit code. It starts processes of its own, which end with it."""
    with (Path(folder) / "log").open("w+b") as log:
        try:
            child = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise DeviceError(f"{COMMAND} cannot be run: {error.strerror}") from error
        try:
            code = child.wait(timeout_s)
        except BaseException as error:  # also Ctrl-C: its own children must not stay
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise DeviceError(f"{COMMAND} did not end within {timeout_s:g} s") from None
            raise
        if code < 0:
            raise DeviceError(f"{COMMAND} crashed ({signal.Signals(-code).name})")
        log.seek(0)
        return log.read(_MAX_LOG_BYTES).decode("utf-8", "replace"), code


def parse_log(text: str) -> CompilerLog:
    """Read what the compiler prints with `-s`. Anything may be missing."""
    return CompilerLog(
        version=_first(_VERSION, text),
        ops=tuple(OpStatus(name, int(count), status) for name, count, status in _ROW.findall(text)),
        total_ops=_integer(_TOTAL, text),
        subgraphs=_integer(_SUBGRAPHS, text),
        on_chip_bytes=_bytes(_CACHED, text),
        remaining_bytes=_bytes(_REMAINING, text),
        streamed_bytes=_bytes(_STREAMED, text),
        failure=_failure(text),
    )


def left_on_cpu(graph: Graph, compiled: Graph, log: CompilerLog | None = None) -> dict[int, str]:
    """Ops of `graph` that still stand beside the program in `compiled`: index -> the log's status, or what is known.

    Tensors keep their names, so an op is known by its outputs. Raises DeviceError where there is no program, or one
    of another model.
    """
    if not any(op.name == EDGETPU_OP for op in compiled.main.ops):
        raise DeviceError(f"{COMMAND} mapped no op: there is no {EDGETPU_OP} in what it wrote")
    rest = [op for op in compiled.main.ops if op.name != EDGETPU_OP]
    written = {compiled.main.tensors[i].name for op in rest for i in op.outputs if i >= 0}
    left = {}
    for index, op in enumerate(graph.main.ops):
        if any(graph.main.tensors[i].name in written for i in op.outputs if i >= 0):
            known = log.statuses("CUSTOM" if op.custom else op.name) if log is not None else ()
            left[index] = "; ".join(known) or "left on the CPU by the Edge TPU compiler"
    if len(left) != len(rest):
        raise DeviceError("the compiled model is not one of this model: its ops have other names")
    return left


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group(1) if found else ""


def _integer(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(found.group(1)) if found else None


def _bytes(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return round(float(found.group(1)) * _UNITS[found.group(2)]) if found else None


def _failure(text: str) -> str:
    """Its complaints in one line, the general one only where there is no other."""
    lines = [line.strip() for line in text.splitlines() if _FAILURE.match(line)]
    telling = [line for line in dict.fromkeys(lines) if line.rstrip("!") != "Compilation failed"]
    return printable("; ".join(telling or lines[:1]), limit=300)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return printable(lines[-1], limit=300) if lines else ""
