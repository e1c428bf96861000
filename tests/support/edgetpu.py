"""What the Edge TPU compiler would write and print, made here: it is a closed program and not at hand. Nothing made so
is evidence of what the real one does.
"""

from __future__ import annotations

import stat
import sys
import textwrap
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from edgeloop.graph import Graph, Op

MAPPED = "Mapped to Edge TPU"


def compiled(model: bytes, left: Collection[int] = (), *, cached: int = 66 << 10, streamed: int = 0) -> bytes:
    """The model with all ops but `left` (indices into the main subgraph) as one `edgetpu-custom-op` of those sizes."""
    graph = Graph.read(model)
    main = graph.main
    rest = [main.ops[i] for i in sorted(left)]
    inside = [op for i, op in enumerate(main.ops) if i not in left]
    made = {t for op in inside for t in op.outputs}
    before = {t for op in rest for t in op.outputs} | set(main.inputs)
    wanted = {t for op in rest for t in op.inputs} | set(main.outputs)
    inputs = sorted({t for op in inside for t in op.inputs} & before)
    program = Op("edgetpu-custom-op", inputs, sorted(made & wanted), custom=True)
    program.custom_options = custom_options(cached, streamed)
    front = [op for op in rest if made.isdisjoint(_reached(graph, op))]
    main.ops = [*front, program, *(op for op in rest if op not in front)]
    return graph.write()


def _reached(graph: Graph, op: Op) -> set[int]:
    """Tensors that `op` depends on."""
    producers = {t: other for other in graph.main.ops for t in other.outputs}
    seen: set[int] = set()
    waiting = list(op.inputs)
    while waiting:
        tensor = waiting.pop()
        if tensor not in seen:
            seen.add(tensor)
            waiting += producers[tensor].inputs if tensor in producers else []
    return seen


def custom_options(cached: int, streamed: int) -> bytes:
    """The op's data: a FlexBuffers map whose "4" holds Package > MultiExecutable > Executables, all flatbuffers."""
    from flatbuffers import flexbuffers

    executables = [_executable(0 if not cached else 2, streamed)]
    if cached:
        executables.append(_executable(1, cached))
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Int("1", 1)
        builder.Blob("4", _package(_multi(executables)))
    return bytes(builder.Finish())


def _executable(kind: int, parameters: int) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(0)
    data = builder.CreateByteVector(bytes(parameters)) if parameters else None
    builder.StartObject(15)
    if data is not None:
        builder.PrependUOffsetTRelativeSlot(6, data, 0)
    builder.PrependInt16Slot(13, kind, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _multi(executables: list[bytes]) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(0)
    offsets = [builder.CreateString(raw) for raw in executables]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _package(multi: bytes) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(0)
    data = builder.CreateByteVector(multi)
    builder.StartObject(5)
    builder.PrependInt32Slot(0, 13, 0)
    builder.PrependUOffsetTRelativeSlot(1, data, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"DWN1")
    return bytes(builder.Output())


def log_text(model: bytes, left: dict[int, str], cached: int = 66 << 10, streamed: int = 0) -> str:
    """What version 16 prints with -s for such a compilation, in its own words and columns."""
    ops = Graph.read(model).main.ops
    rows = Counter((("CUSTOM" if op.custom else op.name), left.get(i, MAPPED)) for i, op in enumerate(ops))
    table = "\n".join(f"{name:<30} {count:<10} {status}" for (name, status), count in rows.items())
    partly = ""
    if left:
        partly = (
            "\nModel successfully compiled but not all operations are supported by the Edge TPU. A percentage of the "
            "model will instead run on the CPU, which is slower. If possible, consider updating your model to use "
            "only operations supported by the Edge TPU. For details, visit g.co/coral/model-reqs.\n"
            f"Number of operations that will run on Edge TPU: {len(ops) - len(left)}\n"
            f"Number of operations that will run on CPU: {len(left)}\n"
        )
    return f"""Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 397 ms.

Input model: model.tflite
Input size: {len(model) / 1024:.2f}KiB
Output model: model_edgetpu.tflite
Output size: {len(model) / 1024:.2f}KiB
On-chip memory used for caching model parameters: {cached / 1024:.2f}KiB
On-chip memory remaining for caching model parameters: 7.67MiB
Off-chip memory used for streaming uncached model parameters: {streamed:.2f}B
Number of Edge TPU subgraphs: 1
Total number of operations: {len(ops)}
Operation log: model_edgetpu.log
{partly}
Operator                       Count      Status

{table}
Compilation child process completed within timeout period.
Compilation succeeded!\x20
"""


def stand_in(
    folder: Path, left: dict[int, str] | None = None, *, says: str = "", code: int = 0, sleeps: int = 0
) -> Path:
    """An executable `edgetpu_compiler` in `folder` that "compiles" all ops but `left`; with `says` it prints that
    instead and writes nothing.
    """
    program = folder / "edgetpu_compiler"
    program.write_text(
        textwrap.dedent(
            f"""\
            #!{sys.executable}
            import sys, time
            sys.path[:] = {sys.path!r}
            from pathlib import Path
            from support.edgetpu import compiled, log_text
            assert sys.argv[1:3] == ["-s", "-o"], sys.argv
            out, source = Path(sys.argv[3]), Path(sys.argv[4])
            time.sleep({sleeps})
            if {says!r}:
                print({says!r})
                sys.exit({code})
            model, left = source.read_bytes(), {left or {}!r}
            (out / (source.stem + "_edgetpu.tflite")).write_bytes(compiled(model, left))
            print(log_text(model, left))
            sys.exit({code})
            """
        )
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program
