"""What all decoders share, and the table of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine
from edgeloop.contract import OutputSpec
from edgeloop.decoding import AnomalySettings
from edgeloop.errors import ConfigError
from edgeloop.geometry import WHOLE, Placement
from edgeloop.postprocess.results import Result

Array = npt.NDArray[Any]


class ModelOutput(Protocol):
    """What is read of a tensor: `edgeloop.runtime.TensorInfo` fits."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def affine(self) -> Affine: ...


class Seen(NamedTuple):
    """What was seen beside the outputs: where the picture lay, and the model's inputs in real values (float32)."""

    placement: Placement = WHOLE
    inputs: Sequence[npt.NDArray[np.float32]] = ()


NOTHING_SEEN = Seen()


class Decoder(Protocol):
    """Raw outputs, in the model's order, to a Result. Without `seen` places are fractions of the model's input."""

    def __call__(self, raw: Sequence[Array], seen: Seen = NOTHING_SEEN, /) -> Result: ...


DECODERS: Mapping[str, str] = {
    "classification": "edgeloop.postprocess.classification:classification",
    "detection": "edgeloop.postprocess.detection:detection",
    "segmentation": "edgeloop.postprocess.segmentation:segmentation",
    "keypoints": "edgeloop.postprocess.keypoints:keypoints",
    "embedding": "edgeloop.postprocess.embedding:embedding",
    "anomaly": "edgeloop.postprocess.anomaly:anomaly",
    "raw": "edgeloop.postprocess.raw:raw_values",
}
"""By output kind: "module:function", called as (spec, outputs)."""


def compile_output(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> Decoder:
    """The decoder of the contract's kind. Raises ConfigError when contract and outputs do not fit.

    It may remember earlier calls (smoothing): one for each stream of samples.
    """
    if spec.index >= len(outputs):
        raise ConfigError(f"the contract decodes output {spec.index} and the model has {len(outputs)}, counted from 0")
    module, _, name = DECODERS[spec.kind].partition(":")
    decoder: Decoder = getattr(importlib.import_module(module), name)(spec, outputs)
    return decoder


def decoded_outputs(spec: OutputSpec, outputs: Sequence[ModelOutput]) -> tuple[int, ...]:
    """Which outputs the decoder turns into its result; the others come along as `values`. Raises ConfigError."""
    if spec.kind != "detection":
        return (spec.index,)
    from edgeloop.postprocess.detection import find_parts

    return tuple(find_parts(spec.settings, outputs).values())


def needs_inputs(spec: OutputSpec) -> bool:
    """Whether the decoder asks for `Seen.inputs`."""
    return isinstance(spec.settings, AnomalySettings) and spec.settings.anomaly_score == "reconstruction"


def other_values(outputs: Sequence[ModelOutput], decoded: Sequence[int]) -> Any:
    """A function raw outputs -> tuple of those that are not decoded, dequantized."""
    from edgeloop.affine import dequantize

    rest = [(i, output.affine) for i, output in enumerate(outputs) if i not in decoded]
    if not rest:
        return lambda _raw: ()
    return lambda raw: tuple([dequantize(raw[i], affine) for i, affine in rest])


def misfit(kind: str, output: ModelOutput, wanted: str) -> ConfigError:
    """The error of an output that is not what its kind decodes."""
    return ConfigError(
        f"a {kind} output is {wanted}, and output {output.name!r} is {list(output.shape)}",
        hint="set kind, and name where there are several outputs, in [output] of the contract",
    )
