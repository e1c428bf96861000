"""Preprocessing compiled from the contract: raw frame in, the model's own dtype out, in one preallocated buffer.

Host (evaluation) and device (agent) run this same code, so what was evaluated is what runs. For images into an integer
model there is no float detour: a pixel has 256 values, so decode, scaling and quantization fold into a 256-entry table
per channel.

    model value = (pixel - mean) / std          code = round(model value / scale) + zero_point, saturating
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edgeloop.contract import InputSpec
from edgeloop.errors import ConfigError, DataError
from edgeloop.padding import Sample
from edgeloop.preprocess.model_input import Array, ModelInput, Preprocessor
from edgeloop.preprocess.pictures import PictureInput, resize
from edgeloop.preprocess.tensors import compile_tensor

__all__ = ["ModelInput", "Preprocessor", "SamplePreprocessor", "compile_input", "compile_inputs", "resize"]

SamplePreprocessor = Callable[[Sample], tuple[Array, ...]]


def compile_input(spec: InputSpec, tensor: ModelInput) -> Preprocessor:
    """A function frame -> [1, ...] array in the tensor's dtype. The array is reused: valid until the next call.

    kind "image": frame is uint8 [H, W, 3] BGR as `cv2.imread` gives it, or gray [H, W] or [H, W, 1], of any size.
    kind "tensor": frame has the sample's shape; missing or extra axes of length 1 are put right.
    Raises ConfigError when contract and model do not fit; the function raises DataError for a frame that does not fit.
    """
    if spec.kind == "image":
        return PictureInput(spec, tensor)
    return compile_tensor(spec, tensor)


def compile_inputs(specs: Sequence[InputSpec], tensors: Sequence[ModelInput]) -> SamplePreprocessor:
    """A function sample -> one array per input, as `compile_input` makes them. specs, tensors: in the model's order.

    A sample of a model with several inputs is a mapping of arrays by the contract's names. Raises as `compile_input`
    does; ConfigError, too, where their numbers differ.
    """
    if len(specs) != len(tensors):
        ours, theirs = ([repr(each.name) for each in group] for group in (specs, tensors))
        raise ConfigError(
            f"the contract describes {len(specs)} inputs ({', '.join(ours)}) and the model has {len(tensors)} "
            f"({', '.join(theirs)})",
            hint="one [input.NAME] table per input of the model",
        )
    pairs = [(spec.name, compile_input(spec, tensor)) for spec, tensor in zip(specs, tensors, strict=True)]
    if len(pairs) == 1:
        name, prepare = pairs[0]
        return lambda sample: (prepare(sample[name] if isinstance(sample, Mapping) else sample),)

    def run(sample: Sample) -> tuple[Array, ...]:
        if not isinstance(sample, Mapping):
            names = ", ".join(name for name, _ in pairs)
            raise DataError(f"the model has {len(pairs)} inputs ({names}); a sample needs an array for each, by name")
        missing = [name for name, _ in pairs if name not in sample]
        if missing:
            raise DataError(f"the sample has no array for input {missing[0]!r}")
        return tuple([prepare(sample[name]) for name, prepare in pairs])

    return run
