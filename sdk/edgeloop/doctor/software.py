"""Checks of what is installed: Python, C library, interpreter, numpy, OpenCV, extras, space on the disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgeloop import paths
from edgeloop.doctor.finding import FAIL, OK, WARN, Finding
from edgeloop.doctor.system import System, run_python
from edgeloop.errors import install_hint
from edgeloop.runtime.delegates import parse_delegate
from edgeloop.runtime.interpreter import RuntimeInfo, numpy_clash
from edgeloop.runtime.probe import probe_delegate
from edgeloop.version import version_tuple

_OLDEST_PYTHON = (3, 10)
_TFLITE_RUNTIME_LAST_PYTHON = (3, 11)
_LITERT_AARCH64_GLIBC = (2, 34)  # what its 2.3.0 wheel really needs; the file name promises 2.27
_DISK_FAIL_BYTES, _DISK_WARN_BYTES = 100 << 20, 1 << 30

EXTRAS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    # extra: (what it is for, its (module, distribution) pairs)
    "convert": ("converting models", (("ai_edge_quantizer", "ai-edge-quantizer"), ("sklearn", "scikit-learn"))),
    "keras": ("Keras and SavedModel files", (("tensorflow", "tensorflow"), ("tf_keras", "tf-keras"))),
    "torch": ("PyTorch models", (("torch", "torch"), ("litert_torch", "litert-torch"))),
    "onnx": ("ONNX files", (("onnx", "onnx"), ("onnx2torch", "onnx2torch"))),
    "keys": ("signing bundles", (("cryptography", "cryptography"),)),
    "serial": ("telemetry over a serial line", (("serial", "pyserial"),)),
    "ssh": ("devices by ssh://", (("asyncssh", "asyncssh"),)),
    "collector": (
        "collecting telemetry",
        (("starlette", "starlette"), ("uvicorn", "uvicorn"), ("sqlalchemy", "sqlalchemy")),
    ),
}


def check_python(system: System) -> Iterator[Finding]:
    version = ".".join(map(str, system.python))
    what = f"Python {version}, {system.pointer_bits}-bit on {system.machine}"
    if system.python[:2] < _OLDEST_PYTHON:
        yield Finding("python", FAIL, f"{what} is too old", "Python 3.10 or newer (Raspberry Pi OS Bookworm has 3.11)")
    elif system.pointer_bits == 32:
        fix = "use a 64-bit system: LiteRT has no 32-bit wheel, and tflite-runtime runs int8 4 to 12 times slower"
        if system.python[:2] > _TFLITE_RUNTIME_LAST_PYTHON:
            yield Finding("python", FAIL, f"{what}: no interpreter exists (tflite-runtime stops at 3.11)", fix)
        else:
            yield Finding("python", WARN, f"{what}: only tflite-runtime exists there", fix)
    else:
        yield Finding("python", OK, what)


def check_glibc(system: System) -> Iterator[Finding]:
    name, text = system.libc
    if name != "glibc":
        yield Finding(
            "glibc", FAIL, "the C library is not glibc", "use Debian, Ubuntu or Raspberry Pi OS: wheels need it"
        )
        return
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if system.machine == "aarch64" and system.pointer_bits == 64 and version < _LITERT_AARCH64_GLIBC:
        installed = system.version("ai-edge-litert") or "2.3.0"
        if version_tuple(installed) > (2, 1, 99):
            fix = "update to Debian 12 or Raspberry Pi OS Bookworm, or: pip install 'ai-edge-litert==2.1.0'"
            yield Finding(
                "glibc", FAIL, f"glibc {text}: ai-edge-litert {installed} needs 2.34 and fails at import", fix
            )
            return
    yield Finding("glibc", OK, f"glibc {text}")


def check_runtime(system: System) -> Iterator[Finding]:
    """Loads the interpreter in a child: some builds crash on some machines."""
    if not system.is_this_one:
        return
    probe = probe_delegate(parse_delegate("xnnpack"))
    runtime = probe.why.removeprefix("built into ")
    if not probe.ok:
        yield Finding("runtime", FAIL, probe.why, probe.fix)
    elif system.machine.startswith(("aarch64", "arm")) and system.text("sys/devices/system/cpu/possible") is None:
        fix = "make /sys visible here: without it XNNPACK is silently left out, and models run several times slower"
        yield Finding("runtime", WARN, f"{runtime} loads, but /sys/devices/system/cpu is not there", fix)
    else:
        yield Finding("runtime", OK, f"{runtime} loads")


def check_numpy(system: System) -> Iterator[Finding]:
    version = system.version("numpy")
    if version is None:
        yield Finding("numpy", FAIL, "numpy is not installed", "pip install numpy")
        return
    old_runtime = system.version("tflite-runtime")
    if old_runtime and not system.version("ai-edge-litert"):
        clash = numpy_clash(RuntimeInfo("tflite-runtime", old_runtime, "tflite-runtime"), version)
        if clash:
            yield Finding("numpy", FAIL, f"tflite-runtime {old_runtime} {clash}", "pip install 'numpy<2'")
            return
    if version_tuple(version) >= (2,) and system.has_module("picamera2", "picamera2"):
        fix = "install numpy 1 where picamera2 is used (pip install 'numpy<2'), or read the camera through rpicam-vid"
        yield Finding("numpy", WARN, f"numpy {version} breaks Debian's picamera2, which is installed", fix)
        return
    yield Finding("numpy", OK, f"numpy {version}")


def check_opencv(system: System) -> Iterator[Finding]:
    get = "pip install 'edgeloop[agent]'"
    if not system.has_module("cv2", "opencv-python-headless"):
        yield Finding("opencv", WARN, "OpenCV is not installed: no images and no video, only arrays (.npz)", get)
        return
    if not system.is_this_one:
        return
    code, version, complaint = run_python("import cv2; print(cv2.__version__)")
    if code == 0:
        yield Finding("opencv", OK, f"OpenCV {version}")
    elif "libGL" in complaint or "libgthread" in complaint:
        fix = "pip uninstall opencv-python && pip install opencv-python-headless"
        yield Finding("opencv", FAIL, f"OpenCV does not import: {complaint}", fix)
    else:
        what = f"crashed (signal {-code})" if code < 0 else complaint
        yield Finding("opencv", FAIL, f"OpenCV does not import: {what}", "pip install -U opencv-python-headless")


def check_extras(system: System) -> Iterator[Finding]:
    """What the host can do with what is installed. A missing extra is no fault."""
    for extra, (purpose, packages) in EXTRAS.items():
        there = [d for module, d in packages if system.has_module(module, d)]
        missing = [d for _module, d in packages if d not in there]
        get = install_hint(extra)
        if not missing:
            versions = ", ".join(f"{d} {system.version(d) or ''}".strip() for d in there)
            yield Finding("extras", OK, f"{purpose}: {versions}")
        elif there:
            yield Finding("extras", WARN, f"{purpose}: {', '.join(there)} without {', '.join(missing)}", get)
        else:
            yield Finding("extras", OK, f"{purpose}: not installed", get)


def check_disk(system: System) -> Iterator[Finding]:
    if not system.is_this_one:
        return
    for what, folder in {"state": paths.state_dir(), "cache": paths.cache_dir()}.items():
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        yield _space(f"{what} in {existing}", existing)


def _space(what: str, folder: Path) -> Finding:
    try:  # tried, not asked: a read-only file system lets root pass every question
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("disk", FAIL, f"{what}: cannot be written: {error.strerror}", "make it writable, or set HOME")
    free = shutil.disk_usage(folder).free
    text = f"{what}: {free / (1 << 30):.1f} GiB free"
    if free < _DISK_FAIL_BYTES:
        return Finding("disk", FAIL, text, "make room: below 100 MiB bundles and telemetry cannot be kept safely")
    if free < _DISK_WARN_BYTES:
        return Finding("disk", WARN, text, "make room: wheels, bundles and telemetry want 1 GiB")
    return Finding("disk", OK, text)
