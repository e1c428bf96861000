"""The vocabulary of `--scheme`: what each is, what it costs, and which target takes it. Data only; nothing heavy.

Speeds are ratios to int8 of the same model, measured on x86-64 with XNNPACK, one thread (docs/converting.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeloop.errors import UsageError
from edgeloop.targets import Target

if TYPE_CHECKING:
    from edgeloop_converters.schemes.job import Job
    from edgeloop_converters.schemes.verify import Made

    Maker = Callable[[Job], Made]

INT8, INT16, FLOAT = "int8", "int16", "float"
IO_KINDS = ("float", "int8", "uint8")


@dataclass(frozen=True)
class Scheme:
    """One way to store and compute a model.

    activations: what tensors between ops hold: "int8", "int16" or "float". weights: the dtype weights are stored in.
    cost: what the user should hear before it runs, "" where it costs nothing. edgetpu: whether an Edge TPU takes it.
    refined: whether passes may choose other ranges, codes and biases for it afterwards.
    load: imports and gives what makes it; None for "float", which is left as it is. options: of its own, name -> what
    may be chosen, the default first.
    """

    name: str
    summary: str
    activations: str
    weights: str
    load: Callable[[], Maker] | None
    cost: str = ""
    edgetpu: bool = False
    refined: bool = False
    options: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """Whether ranges must be measured first."""
        return self.activations != FLOAT

    @property
    def io(self) -> str:
        """The model's inputs and outputs where `--io` does not say otherwise: "float", "int8" or "int16"."""
        return self.activations


def _int8() -> Maker:
    from edgeloop_converters.schemes.native import int8

    return int8


def _int8_per_tensor() -> Maker:
    from edgeloop_converters.schemes.native import int8_per_tensor

    return int8_per_tensor


def _a16w8() -> Maker:
    from edgeloop_converters.schemes.native import a16w8

    return a16w8


def _int4() -> Maker:
    from edgeloop_converters.schemes.compact import int4

    return int4


def _fp16() -> Maker:
    from edgeloop_converters.schemes.native import fp16

    return fp16


def _dynamic() -> Maker:
    from edgeloop_converters.schemes.native import dynamic

    return dynamic


def _weight_only() -> Maker:
    from edgeloop_converters.schemes.native import weight_only

    return weight_only


def _fixed_point() -> Maker:
    from edgeloop_converters.schemes.fixed_point import fixed_point

    return fixed_point


def _int8_compact() -> Maker:
    from edgeloop_converters.schemes.compact import int8_compact

    return int8_compact


def _clustered() -> Maker:
    from edgeloop_converters.schemes.compact import clustered

    return clustered


def _mixed() -> Maker:
    from edgeloop_converters.schemes.mixed import mixed

    return mixed


_IN_FLOAT = "computes in float32: 1.2 to 3.2 times int8's latency were measured, and it takes the float model's memory"

_ALL = (
    Scheme("int8", "int8 weights, one scale per channel; int8 activations", INT8, "int8", _int8, edgetpu=True,
           refined=True),
    Scheme("int8-per-tensor", "int8 with one scale per weight tensor, for chips without per-channel scales",
           INT8, "int8", _int8_per_tensor, edgetpu=True, refined=True),
    Scheme("a16w8", "int8 weights, int16 activations: nearly the float model's accuracy", INT16, "int8", _a16w8,
           cost="16-bit activations have no fast kernels: 60 to 200 times int8's latency were measured"),
    Scheme("int4", "int4 weights in CONV_2D and FULLY_CONNECTED, all else int8", INT8, "int4", _int4,
           cost="most int4 convolutions run on slower kernels: 1.7 to 4.3 times int8's latency were measured; "
                "int8-compact keeps the speed"),
    Scheme("fp16", "float16 weights, computed in float32", FLOAT, "float16", _fp16,
           cost=_IN_FLOAT),
    Scheme("dynamic", "int8 weights; activations stay float and are quantized on the fly", FLOAT, "int8", _dynamic,
           cost="quantizes activations at every inference: 1.1 to 17 times int8's latency were measured"),
    Scheme("weight-only", "int8 weights, unpacked to float32 when the model is loaded", FLOAT, "int8", _weight_only,
           cost=_IN_FLOAT),
    Scheme("fixed-point", "int8 with power-of-two scales only: rescaling is a shift", INT8, "int8", _fixed_point,
           edgetpu=True),
    Scheme("int8-compact", "int8 kernels, weights on a 5- or 4-bit grid: int8's speed, 0.65 of its compressed size",
           INT8, "int8", _int8_compact, edgetpu=True, options={"bits": (5, 4)}),
    Scheme("clustered", "int8 kernels, few different weights per layer, found by k-means or logarithmic",
           INT8, "int8", _clustered, edgetpu=True,
           options={"clusters": (16, 8, 24, 32), "codebook": ("k-means", "logarithmic")}),
    Scheme("mixed", "int8 kernels, 4 to 8 bits per layer, by its measured effect on the answers", INT8, "int8", _mixed,
           edgetpu=True, options={"budget": (4, 1, 2, 8)}),
    Scheme("float", "the float model as it is", FLOAT, "float32", None),
)  # fmt: skip

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in _ALL}
ALIASES = {"16x8": "a16w8"}
NAMES = (*SCHEMES, *ALIASES)
SCHEME_OPTIONS: dict[str, type] = {key: type(values[0]) for scheme in _ALL for key, values in scheme.options.items()}
"""Every option that some scheme has -> int or str."""


def scheme_named(name: str) -> Scheme:
    """The scheme of that name or alias. Raises UsageError that lists them."""
    found = SCHEMES.get(ALIASES.get(name, name))
    if found is None:
        raise UsageError(f"scheme {name!r} is not known", hint=f"one of: {', '.join(SCHEMES)}")
    return found


def check_options(scheme: Scheme, options: Mapping[str, str | int]) -> None:
    """Raises UsageError for an option the scheme does not have, or a value it cannot take."""
    for key, value in options.items():
        if key not in scheme.options:
            having = ", ".join(s.name for s in SCHEMES.values() if key in s.options)
            raise UsageError(f"--scheme {scheme.name} has no option {key!r}", hint=f"it belongs to: {having or 'none'}")
        allowed = scheme.options[key]
        if value not in allowed:
            raise UsageError(
                f"--scheme {scheme.name}: {key} cannot be {value!r}", hint=f"one of: {', '.join(map(str, allowed))}"
            )


def check_io(scheme: Scheme, io: str) -> None:
    """Raises UsageError where the model of `scheme` cannot have inputs and outputs of kind `io` ("": its own)."""
    if io in ("", scheme.io, FLOAT):
        return
    if io not in IO_KINDS:
        raise UsageError(f"--io {io!r} is not known", hint=f"one of: {', '.join(IO_KINDS)}")
    if scheme.activations == INT16:
        raise UsageError(
            f"--scheme {scheme.name} computes in 16 bit: {io} at its inputs would throw that away",
            hint="--io float, or no --io for int16 inputs and outputs",
        )
    if scheme.activations == FLOAT:
        raise UsageError(
            f"--scheme {scheme.name} computes in float: its inputs and outputs are float",
            hint="leave --io out, or take --scheme int8",
        )


def check_target(scheme: Scheme, target: Target, io: str = "") -> None:
    """Before any work: raises UsageError, with what to take instead, where the target cannot run the scheme."""
    if not target.has_edgetpu or scheme.name == FLOAT:
        return
    if not scheme.edgetpu:
        takes = ", ".join(s.name for s in SCHEMES.values() if s.edgetpu)
        raise UsageError(
            f"{target.name}: the Edge TPU computes in int8 only and cannot take --scheme {scheme.name}",
            hint=f"--scheme int8 (it takes {takes}), or a target without an Edge TPU",
        )


def cost_notes(scheme: Scheme, target: Target) -> tuple[str, ...]:
    """What to say before the scheme runs, for the target."""
    return (f"scheme {scheme.name} on {target.id}: {scheme.cost}",) if scheme.cost else ()
