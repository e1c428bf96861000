"""Starting a conversion early and collecting the float .tflite when it is needed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeloop.errors import UsageError
from edgeloop.progress import Progress, SilentProgress
from edgeloop_converters.child import Child
from edgeloop_converters.frontends.ahead import native_child
from edgeloop_converters.frontends.floats import normalize
from edgeloop_converters.frontends.given_shape import GivenShape
from edgeloop_converters.frontends.size_limit import check_source_size
from edgeloop_converters.frontends.table import FRONTENDS, detect


@dataclass(frozen=True)
class FloatModel:
    """A float .tflite, batch 1, with a signature.

    frontend: key of FRONTENDS. versions: packages that made it. notes: what the user should know. seconds: by stage.
    warnings: what it has lost already.
    """

    tflite: bytes
    frontend: str
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


GivenSizes = Sequence[int] | Mapping[str, Sequence[int]]
"""Sizes of one sample: for every input that they fit, or by input name."""


@dataclass(frozen=True)
class ConversionOptions:
    """What a conversion may be told.

    signature: which one to take of a SavedModel or .tflite that has several. shape: of one sample as the source's own
    input has it (PyTorch and ONNX: channels first), for a model whose own input shape has free dimensions.
    sample_shape: the same by contract and data, channels last, where `shape` does not say it. onnx_engine:
    "onnx2torch", "onnx2tf", or "": the first, and the second where it is set up and the first cannot. further: other
    shapes to convert to as well.
    """

    trust_code: bool = False
    batch: int = 1
    signature: str | None = None
    shape: GivenSizes | None = None
    sample_shape: GivenSizes | None = None
    onnx_engine: str = ""
    further: tuple[GivenSizes, ...] = ()


DEFAULTS = ConversionOptions()


class Conversion:
    """A conversion under way. `result` waits; `close`, or leaving the `with` block, stops what still runs."""

    def __init__(self, source: Path, frontend: str, child: Child | None, options: ConversionOptions) -> None:
        self.source = source
        self.frontend = frontend
        self._child = child
        self._options = options
        self._done: tuple[FloatModel, ...] = ()

    def result(self, progress: Progress | None = None) -> FloatModel:
        """The float model; the same one when asked again. Raises as `start_conversion` says."""
        return self.results(progress)[0]

    def results(self, progress: Progress | None = None) -> tuple[FloatModel, ...]:
        """The float model, and one for each of the further shapes."""
        if not self._done:
            with (progress or SilentProgress()).step(f"converting {self.source.name}"):
                self._done = self._collect()
            self.close()
        return self._done

    def close(self) -> None:
        """Stop the child and remove its files. Safe to call twice."""
        if self._child is not None:
            self._child.close()

    def __enter__(self) -> Conversion:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _collect(self) -> tuple[FloatModel, ...]:
        options = self._options
        if self._child is None:
            shapes = (options.shape, *options.further)
            return tuple(self._normalized(self.source, {}, replace(options, shape=shape)) for shape in shapes)
        answer, folder = self._child.result(), self._child.folder
        answers = [(folder, answer), *((folder / str(i), more) for i, more in enumerate(answer["further"], 1))]
        return tuple(self._normalized(at / "out.tflite", one, None) for at, one in answers)

    def _normalized(self, data: Path, answer: Mapping[str, Any], own: ConversionOptions | None) -> FloatModel:
        """answer: the child's. own: for a .tflite of the user's, whose free sizes are settled here."""
        start = time.perf_counter()
        made = normalize(
            data, self.source, self._options.batch, answer.get("inputs", ()), answer.get("outputs", ()),
            output_order=answer.get("output_order", ()), signature=self._options.signature,
            given=None if own is None else GivenShape(_sizes(own)),
        )  # fmt: skip
        seconds = {**answer.get("seconds", {}), "normalize": round(time.perf_counter() - start, 3)}
        notes = (*answer.get("notes", ()), *made.notes)
        return FloatModel(made.tflite, self.frontend, answer.get("versions", {}), notes, seconds, made.warnings)


def start_conversion(source: Path, options: ConversionOptions = DEFAULTS, *, child: Child | None = None) -> Conversion:
    """Detect the format and start converting; returns at once. child: one that `head_start` began for this source.

    Raises UsageError (not a supported model); `Conversion.result` raises MissingExtraError, RefusedError (code inside
    the model, corrupt file) and UsageError (what the converter cannot do).
    """
    name = detect(source)
    check_source_size(source)
    if options.signature is not None and name not in ("saved_model", "tflite"):
        raise UsageError(
            f"--signature {options.signature}: a {FRONTENDS[name].title} has no signatures",
            hint="leave --signature out",
        )
    if FRONTENDS[name].native:
        return Conversion(source, name, start_native("float", source, name, options, child=child), options)
    return Conversion(source, name, None, options)


def _sizes(options: ConversionOptions) -> dict[str, Any]:
    """As `GivenShape` reads them."""
    shape = options.shape
    return {
        "shape": None if shape is None or isinstance(shape, Mapping) else [int(d) for d in shape],
        "shapes": dict(shape) if isinstance(shape, Mapping) else None,
        "sample_shape": options.sample_shape,
    }


def start_native(
    task: str,
    source: Path,
    frontend: str,
    options: ConversionOptions,
    *,
    child: Child | None = None,
    **more: Any,
) -> Child:
    """The child for `task` ("float" or "int8"); it writes `out.tflite` into its folder."""
    request = {
        "task": task,
        "source": str(source if FRONTENDS[frontend].is_code else source.absolute()),
        "cwd": str(Path.cwd()),
        "frontend": frontend,
        "trust_code": options.trust_code,
        "batch": options.batch,
        "signature": options.signature,
        **_sizes(options),
        "further": [_sizes(replace(options, shape=shape)) for shape in options.further],
        "onnx_engine": options.onnx_engine,
        **more,
    }
    return (child or native_child(source, frontend, trust_code=options.trust_code)).ask(request)


def to_float_tflite(
    source: Path, options: ConversionOptions = DEFAULTS, *, progress: Progress | None = None
) -> FloatModel:
    """`start_conversion(...).result()`."""
    with start_conversion(source, options) as conversion:
        return conversion.result(progress)
