"""LiteRT's own profiler through its C library. There is no Python interface to it, and its structs are no promise: each
version that was tried is in LAYOUTS, and no other one is touched."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeloop.errors import DeviceError, UsageError

PACKAGE, _MODULE, _LIBRARY = "ai-edge-litert", "ai_edge_litert", "libLiteRt.so"
LAYOUTS: Mapping[str, int] = {"2.3.0": 3}
"""Version -> how many 64-bit numbers it keeps of the memory before and after an event."""

BUILTIN_OP, DELEGATED_OP = 2, 8
_RANKED_TYPE_BYTES = 512  # more than any version's LiteRtRankedTensorType
_ACCELERATOR_CPU = 1
_KERNEL_MODES = {"xnnpack": 0, "cpu": 2}


@dataclass(frozen=True)
class OpEvent:
    """One op once. kind: BUILTIN_OP or DELEGATED_OP; index: the op's, or of a node within what a delegate took."""

    name: str
    kind: int
    index: int
    us: int


def check_version() -> str:
    """The installed version. UsageError, in a plain sentence, where the profiler of it was never tried."""
    try:
        version = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        version = ""
    if version in LAYOUTS:
        return version
    here = f"this is {PACKAGE} {version}" if version else f"{PACKAGE} is not installed"
    raise UsageError(
        f"times per op are known how to read for {PACKAGE} {', '.join(LAYOUTS)} only, {here}",
        hint=f"pip install {PACKAGE}=={max(LAYOUTS)}",
    )


class Profiler:
    """A model, compiled with profiling on; one input of zeros. Use as a context manager."""

    def __init__(self, model: Path, *, delegate: str, threads: int) -> None:
        """Raises UsageError, and DeviceError for a model that LiteRT's compiled-model interface does not take."""
        if delegate not in _KERNEL_MODES:
            raise UsageError(f"no times per op on {delegate}", hint=f"on {' or '.join(_KERNEL_MODES)}")
        words = LAYOUTS[check_version()]
        spec = importlib.util.find_spec(_MODULE)
        assert spec is not None
        assert spec.submodule_search_locations
        self._library = ctypes.CDLL(str(Path(spec.submodule_search_locations[0]) / _LIBRARY))
        self._event = _event_struct(words)
        self._kept: list[Any] = []  # what the library has pointers to
        environment, handle, options = c_void_p(), c_void_p(), c_void_p()
        self._call("LiteRtCreateEnvironment", 0, None, byref(environment))
        self._call("LiteRtCreateModelFromFile", environment, str(model).encode(), byref(handle))
        self._call("LiteRtCreateOptions", byref(options))
        self._call("LiteRtSetOptionsHardwareAccelerators", options, _ACCELERATOR_CPU)
        self._add_options(options, b"runtime_options_string", "enable_profiling = true\n")
        cpu = f"kernel_mode = {_KERNEL_MODES[delegate]}\nnum_threads = {threads}\n"
        self._add_options(options, b"xnnpack", cpu)
        self._compiled, self._profiler = c_void_p(), c_void_p()
        self._call("LiteRtCreateCompiledModel", environment, handle, options, byref(self._compiled))
        self._call("LiteRtCompiledModelGetProfiler", self._compiled, byref(self._profiler))
        if not self._profiler:
            raise DeviceError("LiteRT gave no profiler for this model")
        signature = c_void_p()
        self._call("LiteRtGetModelSignature", handle, c_size_t(0), byref(signature))
        self._inputs = self._buffers(environment, signature, "Input")
        self._outputs = self._buffers(environment, signature, "Output")

    def run(self, count: int) -> None:
        """Without measuring."""
        for _ in range(count):
            self._call(
                "LiteRtRunCompiledModel", self._compiled, c_size_t(0),
                c_size_t(len(self._inputs)), self._inputs, c_size_t(len(self._outputs)), self._outputs,
            )  # fmt: skip

    def measure(self, count: int) -> Sequence[OpEvent]:
        """Run so often; every op's events, in the order in which they ran."""
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        self.run(count)
        self._call("LiteRtStopProfiler", self._profiler)
        number = c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, byref(number))
        room = (self._event * max(1, number.value))()
        self._call("LiteRtGetProfilerEvents", self._profiler, number.value, room)
        return [
            OpEvent((e.tag or b"").decode("utf-8", "replace"), e.kind, e.index, e.elapsed_us)
            for e in room[: number.value]
            if e.kind in (BUILTIN_OP, DELEGATED_OP)
        ]

    def _add_options(self, options: c_void_p, name: bytes, toml: str) -> None:
        buffer = ctypes.create_string_buffer(toml.encode())
        destructor = ctypes.CFUNCTYPE(None, c_void_p)
        nothing = destructor(lambda _pointer: None)
        self._kept += [buffer, nothing]
        made = c_void_p()
        create = self._library.LiteRtCreateOpaqueOptions
        create.argtypes = [c_char_p, c_void_p, destructor, POINTER(c_void_p)]
        self._call("LiteRtCreateOpaqueOptions", name, ctypes.cast(buffer, c_void_p), nothing, byref(made))
        self._call("LiteRtAddOpaqueOptions", options, made)

    def _buffers(self, environment: c_void_p, signature: c_void_p, side: str) -> Any:
        """Memory for the inputs or outputs, as the compiled model wants it."""
        count = c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, byref(count))
        buffers = (c_void_p * count.value)()
        for i in range(count.value):
            tensor, needs, made = c_void_p(), c_void_p(), c_void_p()
            ranked = ctypes.create_string_buffer(_RANKED_TYPE_BYTES)
            self._call(f"LiteRtGetSignature{side}TensorByIndex", signature, c_size_t(i), byref(tensor))
            self._call("LiteRtGetRankedTensorType", tensor, ranked)
            get = f"LiteRtGetCompiledModel{side}BufferRequirements"
            self._call(get, self._compiled, c_size_t(0), c_size_t(i), byref(needs))
            self._call("LiteRtCreateManagedTensorBufferFromRequirements", environment, ranked, needs, byref(made))
            buffers[i] = made.value
        return buffers

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise DeviceError(f"LiteRT's profiler does not take this model ({name}: status {status})")


def _event_struct(words: int) -> type[ctypes.Structure]:
    class Memory(ctypes.Structure):
        _fields_ = [(f"word{i}", c_int64) for i in range(words)]

    class Event(ctypes.Structure):
        _fields_ = [
            ("tag", c_char_p), ("kind", c_int), ("start_us", c_uint64), ("elapsed_us", c_uint64),
            ("before", Memory), ("after", Memory), ("index", c_uint64), ("subgraph", c_uint64), ("source", c_int),
        ]  # fmt: skip

    return Event
