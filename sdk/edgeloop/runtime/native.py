"""External delegates: a shared library with the two `tflite_plugin_*` functions, loaded by ctypes.

The interpreters' own `load_delegate` prints tracebacks from `__del__` when loading fails; this one only raises.
ABI: tensorflow/lite/delegates/external/external_delegate_interface.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

from edgeloop.errors import DelegateError
from edgeloop.runtime._stderr import captured_stderr
from edgeloop.runtime.delegates import KINDS, DelegateSpec

_REPORT = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_CREATE, _DESTROY = "tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"


class NativeDelegate:
    """Owns one TfLiteDelegate*. An interpreter that uses it must be gone before it is destroyed."""

    def __init__(self, library: ctypes.CDLL, pointer: int) -> None:
        self._destroy = getattr(library, _DESTROY)
        self._destroy.argtypes = [ctypes.c_void_p]
        self._destroy.restype = None
        self._pointer: int | None = pointer

    def _get_native_delegate_pointer(self) -> int | None:
        """What the interpreter's constructor asks a delegate for."""
        return self._pointer

    def __del__(self) -> None:
        if self._pointer is not None:
            self._destroy(self._pointer)
            self._pointer = None


def load_native(spec: DelegateSpec) -> NativeDelegate:
    """Load and create a library delegate. Raises DelegateError that says why and what to do."""
    said: list[str] = []
    library = _open_library(spec)
    try:
        with captured_stderr() as noise:
            pointer = _create(library, spec.options, said)
            if pointer is None:
                raise DelegateError("")
    except DelegateError:
        reason = _reason(said or noise)
        raise DelegateError(
            f"delegate {spec}: {reason or 'the library found no device it can use'}", hint=_no_device_fix(spec)
        ) from None
    return NativeDelegate(library, pointer)


def _create(library: ctypes.CDLL, options: Mapping[str, str], said: list[str]) -> int | None:
    report = _REPORT(lambda text: said.append((text or b"").decode("utf-8", "replace")))
    create = getattr(library, _CREATE)
    create.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(ctypes.c_char_p), ctypes.c_size_t, _REPORT]
    create.restype = ctypes.c_void_p
    text = ctypes.c_char_p * len(options)
    keys = text(*(key.encode() for key in options))
    values = text(*(value.encode() for value in options.values()))
    pointer: int | None = create(keys, values, len(options), report)
    return pointer


def _open_library(spec: DelegateSpec) -> ctypes.CDLL:
    path = spec.library
    # dlopen() searches the system's folders for a bare name; a name given by the user means a file here, if it exists.
    is_file = bool(spec.path) and Path(path).is_file()
    wanted = str(Path(path).resolve()) if is_file else path
    try:
        library = ctypes.CDLL(wanted)
    except OSError as error:
        raise DelegateError(
            f"delegate {spec}: {why_not_loaded(path, str(error), is_file)}", hint=KINDS[spec.name].fix
        ) from None
    missing = [name for name in (_CREATE, _DESTROY) if not hasattr(library, name)]
    if missing:
        raise DelegateError(
            f"delegate {spec}: {path} is a library, but not a TFLite delegate (no {missing[0]})",
            hint="name a library that exports the external delegate interface",
        )
    return library


def why_not_loaded(path: str, text: str, is_file: bool) -> str:
    """dlopen()'s message as one readable reason. `is_file`: there is a file at `path`."""
    named = text.partition(":")[0]
    if "No such file" in text and not named.endswith(path):
        return f"{path} needs {named}, which is not installed"
    if "wrong ELF class" in text or ("No such file" in text and is_file):  # glibc says so of a foreign architecture
        return f"{path} is built for another architecture"
    if "No such file" in text:
        return f"there is no file {path}" if "/" in path else f"{path} is not installed"
    if "invalid ELF header" in text or "file too short" in text:
        return f"{path} is not a shared library"
    return text.strip().splitlines()[0] if text.strip() else f"{path} cannot be loaded"


def _no_device_fix(spec: DelegateSpec) -> str:
    if spec.name == "edgetpu":
        return "plug in the Coral device, check that this user may open it (group plugdev), then: edgeloop doctor"
    if spec.options:
        return "check the options after '?' in the delegate's name, and that its device is connected"
    return "check that its device is connected and its driver loaded"


def _reason(lines: list[str]) -> str:
    text = "; ".join(line.strip().removeprefix("ERROR: ") for line in lines if line.strip())
    return text if len(text) <= 200 else text[:197] + "..."
