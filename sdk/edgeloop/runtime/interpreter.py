"""The one module that imports an interpreter: ai_edge_litert, else tflite_runtime, else tf.lite."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

from edgeloop.errors import MissingExtraError, UsageError
from edgeloop.runtime._stderr import captured_stderr


@dataclass(frozen=True)
class RuntimeInfo:
    """`family` says whose kernels round alike: "litert" or "tflite-runtime"."""

    package: str
    version: str
    family: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class Backend:
    """An imported interpreter module: it has `Interpreter` and `OpResolverType`."""

    info: RuntimeInfo
    module: Any


@dataclass(frozen=True)
class _Candidate:
    root: str  # import root, which tells whether it is there without importing it
    module: str
    distribution: str
    family: str


CANDIDATES = (
    _Candidate("ai_edge_litert", "ai_edge_litert.interpreter", "ai-edge-litert", "litert"),
    _Candidate("tflite_runtime", "tflite_runtime.interpreter", "tflite-runtime", "tflite-runtime"),
    _Candidate("tensorflow", "tensorflow.lite.python.interpreter", "tensorflow", "litert"),
)


@lru_cache(maxsize=1)
def load_backend() -> Backend:
    """The first interpreter that imports. Raises MissingExtraError when none is installed, UsageError when all fail."""
    broken: list[tuple[str, str]] = []
    for candidate in CANDIDATES:
        if importlib.util.find_spec(candidate.root) is None:
            continue
        info = RuntimeInfo(candidate.distribution, _version(candidate), candidate.family)
        clash = numpy_clash(info, _numpy_version())
        if clash:
            broken.append((f"{info} {clash}", "pip install 'numpy<2'"))
            continue
        try:
            with captured_stderr(replay=False):  # TensorFlow's import alone says six lines
                return Backend(info, importlib.import_module(candidate.module))
        except (ImportError, SystemError, AttributeError) as error:
            broken.append(import_trouble(info, str(error)))
    if broken:
        raise UsageError("; ".join(what for what, _ in broken), hint=broken[0][1])
    raise MissingExtraError("running a model", "agent")


def runtime_info() -> RuntimeInfo:
    """Which interpreter is used here. Raises like `load_backend`."""
    return load_backend().info


def installed_runtime() -> str:
    """As `str(runtime_info())` would have it, without importing anything; "" where there is none."""
    for candidate in CANDIDATES:
        if importlib.util.find_spec(candidate.root) is not None:
            return str(RuntimeInfo(candidate.distribution, _version(candidate), candidate.family))
    return ""


def numpy_clash(info: RuntimeInfo, numpy_version: str) -> str:
    """Why this runtime cannot work with this numpy, or "". tflite-runtime 2.14 is the last and knows only numpy 1."""
    if info.package == "tflite-runtime" and _major(numpy_version) >= 2:
        return f"was built for numpy 1 and dies with numpy {numpy_version}"
    return ""


def import_trouble(info: RuntimeInfo, text: str) -> tuple[str, str]:
    """(what, fix) for an interpreter that is installed but does not import."""
    line = text.strip().splitlines()[-1] if text.strip() else "no reason given"
    if "GLIBC" in text:
        wanted = text.partition("`")[2].partition("'")[0] or "a newer glibc"
        fix = "use a newer system (Debian 12, Raspberry Pi OS Bookworm) or pip install 'ai-edge-litert==2.1.0'"
        return f"{info} needs {wanted}, which this system lacks", fix
    return f"{info} is installed but does not import: {line}", f"pip install --force-reinstall {info.package}"


def _version(candidate: _Candidate) -> str:
    try:
        return metadata.version(candidate.distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _numpy_version() -> str:
    try:
        return metadata.version("numpy")
    except metadata.PackageNotFoundError:
        return "0"


def _major(version: str) -> int:
    head = version.partition(".")[0]
    return int(head) if head.isdigit() else 0
