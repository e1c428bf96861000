"""What an export for a board with an Edge TPU must be, checked on the file; and its compilation where the compiler is
here.

The compiler takes fixed shapes, 8-bit tensors, one scale per FULLY_CONNECTED weight and the op versions it knows; it
ends its program at the first op it cannot take. Placement comes from `edgeloop.analysis`, which predicts.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.analysis import Analysis, Confirmation, analyze
from edgeloop.analysis.edgetpu_program import program_size
from edgeloop.errors import DeviceError, UsageError
from edgeloop.graph import Graph
from edgeloop.progress import Progress
from edgeloop.targets import Target
from edgeloop_converters.edgetpu_weights import one_scale_per_dense_layer

if TYPE_CHECKING:
    from edgeloop.edgetpu_compiler import CompilerLog

VARIANT = "edgetpu"
_OURS = {
    "a scale per channel": "leave --scheme at int8, whose dense layers get one scale",
    "cannot read the model": "leave --engine at aeq; if it is, build the model without that op",
    "the shape is not fixed": "make it static with --shape",
}
"""Reasons for which the compiler would take little or nothing of what was written, and what helps."""
_OTHER_NUMBERS = ("this has float", "this has int16", "its weights are ")
_FREE = ("QUANTIZE", "DEQUANTIZE")
_NAMED = 5


def prepared(tflite: bytes) -> bytes:
    """The model with every free batch fixed at what its shapes say, and one scale per dense layer."""
    graph = Graph.read(tflite)
    changes = graph.fix_shapes() + one_scale_per_dense_layer(graph)
    return graph.write() if changes else tflite


def check_export(tflite: bytes, target: Target) -> tuple[str, ...]:
    """What to say of an integer model that was made for an Edge TPU: how much of it is mapped, and what keeps the rest
    off.

    Raises UsageError where nothing would be mapped, or where the file is not what the compiler takes.
    """
    graph = Graph.read(tflite)
    analysis = analyze(graph, target)
    plan = analysis.delegates["edgetpu"]
    off = [(op.index, op.name, _reason(op.reason)) for op in analysis.ops if op.placement != "edgetpu"]
    for part, hint in _OURS.items():
        ours = [(index, name, reason) for index, name, reason in off if part in reason]
        if ours:
            named = _listed([(index, name) for index, name, _ in ours])
            raise UsageError(
                f"the Edge TPU compiler would not take what was exported: {named}: {ours[0][2]}", hint=hint
            )
    first = plan.preflight.first_off
    if first is not None and not plan.mapped_ops:
        raise UsageError(
            f"no op of this model would run on the Edge TPU: op {first.index} ({first.name}): {first.reason}",
            hint=_first_step(analysis) or "a target without an Edge TPU, such as --target rpi4",
        )
    notes = [_summary(analysis)]
    early = _early_floats(analysis, off)
    if early:
        notes.append(f"warning: {_listed(early)} compute in float or 16 bit: the Edge TPU's program ends there")
    end = plan.preflight.ends_at
    if end is not None:
        notes.append(f"warning: the Edge TPU's program ends at op {end.index} ({end.name}): {end.reason}")
        step = next((one.text for one in plan.preflight.rewrites if end.index in one.ops), "")
        notes += [f"to have more of it there: {step}"] if step else []
    return (*notes, *(f"warning: {text}" for text in plan.preflight.warnings))


def check_repaired(tflite: bytes, target: Target) -> tuple[str, ...]:
    """`check_export` of a file that was repaired since: nothing is refused any more, all is said."""
    try:
        said = check_export(tflite, target)
    except UsageError as error:
        return (f"warning: after repair: {error.message}",)
    return tuple(f"after repair: {text}" for text in said)


NOT_COMPILED = "int8, not compiled for the Edge TPU: until it is, it runs on the board's CPU"


def compile_steps(bundle: Path, name: str, variant: str) -> list[str]:
    """What to type on a machine that has the compiler."""
    from edgeloop.edgetpu_compiler import command_line

    plain, done = f"{name}_{variant}.tflite", f"{name}_{variant}_edgetpu.tflite"
    path = shlex.quote(str(bundle))
    return [
        f"edgeloop bundle extract {path} {variant} -o {plain}",
        command_line(plain),
        f"edgeloop bundle create {path} --add-variant {VARIANT}={done}",
    ]


@dataclass(frozen=True)
class CompiledVariant:
    """A variant as the Edge TPU compiler made it of another, `source`. What it computes was not measured here.

    confirmation: which ops of `source` it took. left: the others, with the compiler's words.
    """

    name: str
    model: bytes
    scheme: str
    source: str
    log: CompilerLog
    left: Sequence[str]
    confirmation: Confirmation

    def to_dict(self) -> dict[str, Any]:
        """As `convert --json` has a variant; None for what only a board with an Edge TPU can tell."""
        from edgeloop.bundle.limits import model_file

        mapped = self.log.mapped_ops
        return {
            "name": self.name,
            "file": model_file(self.name),
            "bytes": len(self.model),
            "xz_bytes": None,
            "scheme": self.scheme,
            "metrics": {
                "metric": None, "float": None, "this": None, "agreement": None, "n": 0, "agreement_kind": None,
            },
            "profile": None,
            "gate": {"passed": True, "reasons": []},
            "repairs": [],
            "float_ops": None,  # the compiler's own: what is inside its op cannot be seen
            "ops": None,
            "compiled_from": self.source,
            "compiler": self.log.version,
            "mapped_ops": mapped,
            "left_on_cpu": list(self.left),
            "on_chip_bytes": self.log.on_chip_bytes,
            "streamed_bytes": self.log.streamed_bytes,
        }  # fmt: skip

    def notes(self) -> tuple[str, ...]:
        left = f"; left on the CPU: {', '.join(self.left)}" if self.left else ""
        return (f"{self.name}: compiled by edgetpu_compiler {self.log.version}, confirmed{left}",)


def compile_variants(
    models: Sequence[tuple[str, bytes, str]], target: Target, progress: Progress
) -> tuple[tuple[CompiledVariant, ...], tuple[str, ...]]:
    """Compile (name, model, scheme) each, where the target has an Edge TPU and the compiler is here: the variants, and
    what to say where it failed.
    """
    from edgeloop.edgetpu_compiler import compile_model, find_compiler

    compiler = find_compiler() if target.has_edgetpu else None
    if compiler is None:
        return (), ()
    made, said = [], []
    for name, model, scheme in models:
        if Graph.read(model).numeric_kind() not in ("int8", "uint8", "mixed"):
            continue
        try:
            with progress.step(f"compiling {name} for the Edge TPU"):
                done = compile_model(model, compiler=compiler)
        except DeviceError as error:
            said.append(f"{name} is not compiled for the Edge TPU: {error.message}")
            continue
        ops = Graph.read(model).main.ops
        left = Counter(f"{ops[index].name} ({reason})" for index, reason in done.left.items())
        label = VARIANT if len(models) == 1 else f"{VARIANT}-{name}"
        texts = [f"{count} {text}" if count > 1 else text for text, count in left.items()]
        by = f"edgetpu_compiler {done.log.version}".rstrip()
        size = program_size(Graph.read(done.model))
        taken = Confirmation(frozenset(range(len(ops))) - done.left.keys(), by, done.left, size)
        made.append(CompiledVariant(label, done.model, f"{scheme}, compiled", name, done.log, texts, taken))
    return tuple(made), tuple(said)


def confirmed_by(compiled: Sequence[CompiledVariant], source: str) -> dict[str, Confirmation]:
    """What the compiler took of the variant `source`, as `analyze` wants it."""
    said = next((one.confirmation for one in compiled if one.source == source), None)
    return {} if said is None else {"edgetpu": said}


def _reason(text: str) -> str:
    return text.removeprefix("not edgetpu: ").partition("; not ")[0]


def _early_floats(analysis: Analysis, off: Sequence[tuple[int, str, str]]) -> list[tuple[int, str]]:
    """Ops in other numbers that stand before one which the Edge TPU would take by itself."""
    last = max((i for i, _, reason in off if reason.startswith("comes after op ")), default=-1)
    last = max([last, *(op.index for op in analysis.ops if op.placement == "edgetpu")])
    found = [(i, name) for i, name, reason in off if i < last and any(part in reason for part in _OTHER_NUMBERS)]
    return [(i, name) for i, name in found if name not in _FREE]


def _summary(analysis: Analysis) -> str:
    plan = analysis.delegates["edgetpu"]
    room = plan.preflight.fit
    streamed = ""
    if room is not None:
        streamed = f", about {room.on_chip_bytes / 2**20:.2f} MiB of parameters on the chip"
        if room.streamed_bytes:
            streamed += f" and {room.streamed_bytes / 2**20:.2f} MiB sent to it at every inference"
    return f"Edge TPU: {plan.mapped_ops} of {plan.total_ops} ops mapped ({plan.status}){streamed}"


def _first_step(analysis: Analysis) -> str:
    return next((one.text for one in analysis.delegates["edgetpu"].preflight.rewrites), "")


def _listed(ops: Sequence[tuple[int, str]]) -> str:
    shown = ", ".join(f"op {index} ({name})" for index, name in ops[:_NAMED])
    return shown if len(ops) <= _NAMED else f"{shown} and {len(ops) - _NAMED} more"
