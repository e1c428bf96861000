"""Sessions: a model opened on a delegate, ready to run."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeloop.affine import Affine
from edgeloop.errors import DataError, DelegateError, DeviceError, RefusedError, UsageError
from edgeloop.lookups import index_ranges
from edgeloop.paths import is_utf8
from edgeloop.runtime._stderr import captured_stderr
from edgeloop.runtime.delegates import DelegateFailure, DelegateSpec, parse_delegate
from edgeloop.runtime.interpreter import Backend, load_backend
from edgeloop.runtime.native import load_native
from edgeloop.runtime.plan import Node, RanOn, claimed_ops, describe_run
from edgeloop.runtime.trouble import delegate_refused, invoke_failed, model_refused

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of the main subgraph. `affine` is not quantized for float and for per-channel tensors.

    index_range: of an input whose numbers choose rows of a table, the lowest and highest (`edgeloop.lookups`).
    """

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: Affine
    index_range: tuple[int, int] | None = None


class Session:
    """One opened model; not for use by two threads at once.

    `set_input(i, array)` takes an array of exactly the input's shape and dtype and copies it in; `invoke()` runs;
    `output(i)` gives a copy. They are the hot path and check nothing: a wrong shape or dtype is the interpreter's
    ValueError. `invoke` raises DelegateError when the delegate fails while running.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ran_on: RanOn
    delegated: frozenset[int]
    """Ops of the main subgraph that delegates took, as indices into the file's."""
    set_input: Callable[[int, Array], None]
    invoke: Callable[[], None]
    output: Callable[[int], Array]

    def __init__(
        self, interpreter: Any, ran_on: RanOn, *, keep_tensors: bool = False, delegated: frozenset[int] = frozenset()
    ) -> None:
        self._interpreter = interpreter
        self._keep_tensors = keep_tensors
        self.ran_on = ran_on
        self.delegated = delegated
        self.inputs = _with_index_ranges(tuple(_tensor_info(d) for d in interpreter.get_input_details()), interpreter)
        self.outputs = tuple(_tensor_info(d) for d in interpreter.get_output_details())
        self._bind(interpreter)

    def _bind(self, interpreter: Any) -> None:
        """Closures over the interpreter's own methods: no attribute look-ups per frame."""
        set_tensor, get_tensor, native_invoke = interpreter.set_tensor, interpreter.get_tensor, interpreter.invoke
        input_index = tuple(t.index for t in self.inputs)
        output_index = tuple(t.index for t in self.outputs)
        ran_on = self.ran_on

        def set_input(i: int, array: Array) -> None:
            set_tensor(input_index[i], array)

        def invoke() -> None:
            try:
                native_invoke()
            except RuntimeError as error:
                raise invoke_failed(str(error), ran_on) from None

        def output(i: int) -> Array:
            array: Array = get_tensor(output_index[i])
            return array

        self.set_input, self.invoke, self.output = set_input, invoke, output

    def run(self, *arrays: npt.ArrayLike) -> list[Array]:
        """All inputs in, all outputs out, with checks. Raises DataError for a wrong count, shape or dtype."""
        if len(arrays) != len(self.inputs):
            raise DataError(f"the model has {len(self.inputs)} inputs, got {len(arrays)}")
        for i, (info, given) in enumerate(zip(self.inputs, arrays, strict=True)):
            array = np.asarray(given)
            if array.shape != info.shape or array.dtype != info.dtype:
                want = f"{info.dtype} {list(info.shape)}"
                raise DataError(f"input {i} ({info.name}) is {want}, got {array.dtype} {list(array.shape)}")
            self.set_input(i, array)
        self.invoke()
        return [self.output(i) for i in range(len(self.outputs))]

    def tensors(self) -> tuple[TensorInfo, ...]:
        """All tensors of the main subgraph that have a name, in the file's order."""
        return tuple(_tensor_info(d) for d in self._interpreter.get_tensor_details() if d["name"])

    def tensor(self, index: int) -> Array:
        """A copy of any tensor after `invoke`. Raises UsageError when the session was not opened with keep_tensors."""
        if not self._keep_tensors:
            raise UsageError("inner tensors were not kept", hint="open_session(..., keep_tensors=True)")
        try:
            array: Array = self._interpreter.get_tensor(index)
        except ValueError as error:  # optional or never computed
            raise DataError(f"tensor {index} has no data: {error}") from None
        return array

    def close(self) -> None:
        """Free the interpreter, then the delegate and its device. Safe to call twice."""

        def closed(*_args: Any) -> Any:
            raise UsageError("the session is closed")

        self.set_input = self.invoke = self.output = closed
        self._interpreter = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def open_session(
    model: bytes | Path, *, delegate: DelegateSpec | str = "xnnpack", threads: int = 1, keep_tensors: bool = False
) -> Session:
    """Open a .tflite on one delegate. `Session.ran_on` tells what it really runs on.

    A `Path` is memory-mapped by the runtime; bytes are held. `keep_tensors` makes inner tensors readable: more memory,
    no measured time on LiteRT; tflite-runtime 2.14 then leaves XNNPACK out. Raises RefusedError (corrupt), UsageError
    (wrong use, no runtime, an op this runtime does not know), DelegateError (the delegate cannot be loaded or cannot
    run the model), DeviceError (not enough memory).
    """
    spec = parse_delegate(delegate)
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    if isinstance(model, bytes):
        if not model:
            raise RefusedError("the model is empty (0 bytes)")
    elif not model.is_file():
        raise UsageError(f"there is no model file {model}")
    backend = load_backend()
    native = load_native(spec) if spec.library else None
    name = "the model" if isinstance(model, bytes) else str(model)
    interpreter = _create(backend, model, spec, threads, keep_tensors, name)
    own = _nodes(interpreter)
    with captured_stderr():
        if native is not None:
            try:
                interpreter._interpreter.ModifyGraphWithDelegate(native._get_native_delegate_pointer())
            except (RuntimeError, ValueError) as error:
                raise delegate_refused(spec, str(error)) from None
            finally:
                interpreter._delegates = [native]  # the interpreter frees it, after itself
        with_library = _nodes(interpreter)
        try:
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            if len(with_library) > len(own) and native is not None and "custom op" not in str(error):
                raise delegate_refused(spec, str(error)) from None
            raise model_refused(name, str(error), spec, backend.info) from None
        except MemoryError:
            raise DeviceError(f"not enough memory to run {name}", hint="use a smaller model or input") from None
        every = _nodes(interpreter)
    ran_on = describe_run(
        str(spec), spec.name, own, with_library[len(own) :], every[len(with_library) :], str(backend.info),
        _why_no_xnnpack(),
    )  # fmt: skip
    try:
        return Session(interpreter, ran_on, keep_tensors=keep_tensors, delegated=claimed_ops(own, every[len(own) :]))
    except ValueError as error:  # a tensor's name that is no UTF-8
        raise model_refused(name, str(error), spec, backend.info) from None


def open_first(
    model: bytes | Path, delegates: Sequence[DelegateSpec | str], *, threads: int = 1, keep_tensors: bool = False
) -> tuple[Session, tuple[DelegateFailure, ...]]:
    """The first delegate of a fallback order that opens, and why those before it did not.

    Raises DelegateError when none does; other errors (a corrupt model) at once.
    """
    failures: list[DelegateFailure] = []
    if not delegates:
        raise UsageError("no delegate was named", hint="for example xnnpack or cpu")
    for delegate in delegates:
        try:
            session = open_session(model, delegate=delegate, threads=threads, keep_tensors=keep_tensors)
        except DelegateError as error:
            failures.append(DelegateFailure(str(parse_delegate(delegate)), error.message, error.hint or ""))
            continue
        return session, tuple(failures)
    raise DelegateError("; ".join(f.reason for f in failures), hint=failures[-1].fix or None)


def _create(
    backend: Backend, model: bytes | Path, spec: DelegateSpec, threads: int, keep_tensors: bool, name: str
) -> Any:
    resolver = backend.module.OpResolverType
    if isinstance(model, Path) and not is_utf8(model):  # all that an interpreter takes as a name
        model = model.read_bytes()
    source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    try:
        with captured_stderr(), _no_warnings():
            return backend.module.Interpreter(
                **source,
                num_threads=threads,
                experimental_op_resolver_type=resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                if spec.name == "cpu"
                else resolver.AUTO,
                experimental_preserve_all_tensors=keep_tensors,
            )
    except (ValueError, RuntimeError) as error:
        raise model_refused(name, str(error), spec, backend.info) from None


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _nodes(interpreter: Any) -> tuple[Node, ...]:
    """All nodes, delegate kernels last. Names, inputs and outputs only: type details of every tensor cost time."""
    native = interpreter._interpreter
    return tuple(
        Node(native.NodeName(i), tuple(map(int, native.NodeInputs(i))), tuple(map(int, native.NodeOutputs(i))))
        for i in range(native.NumNodes())
    )


def _tensor_info(details: Any) -> TensorInfo:
    quantization = details["quantization_parameters"]
    scales, zero_points = quantization["scales"], quantization["zero_points"]
    affine = Affine(float(scales[0]), int(zero_points[0])) if len(scales) == 1 and len(zero_points) == 1 else Affine()
    shape = tuple(int(x) for x in details["shape"])
    return TensorInfo(str(details["name"]), int(details["index"]), shape, np.dtype(details["dtype"]), affine)


def _with_index_ranges(inputs: tuple[TensorInfo, ...], interpreter: Any) -> tuple[TensorInfo, ...]:
    whole = [info.index for info in inputs if info.dtype.kind in "iu" and not info.affine.is_quantized]
    if not whole:
        return inputs
    size_of = interpreter._interpreter.TensorSize

    def shape_of(index: int) -> tuple[int, ...]:
        try:
            found = size_of(index, 0)
        except TypeError:  # runtimes before signatures know one subgraph
            found = size_of(index)
        except ValueError:  # a tensor without a shape
            return ()
        return tuple(int(n) for n in found)

    ranges = index_ranges(whole, _nodes(interpreter), shape_of)
    return tuple(replace(info, index_range=ranges.get(info.index)) for info in inputs)


def _why_no_xnnpack() -> str:
    # XNNPACK's CPU detection reads this folder; where it is missing (qemu-user), TFLite drops XNNPACK silently.
    return "" if Path("/sys/devices/system/cpu/possible").exists() else ": /sys/devices/system/cpu is missing here"
