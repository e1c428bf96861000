"""onnx2tf knows more ONNX ops than onnx2torch, but pins its own TensorFlow and numpy: it lives in an environment of its
own in this host's cache, which is set up once, by one command or by `--install-engine`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections import deque
from pathlib import Path

from edgeloop.errors import DeviceError, UsageError
from edgeloop.paths import cache_dir
from edgeloop.progress import Progress, SilentProgress

VERSION = "1.29.24"
"""Of onnx2tf, which pins all that it needs. 2.6 GB installed."""
PYTHONS = ((3, 10), (3, 12))
"""TensorFlow 2.19, which it pins, has wheels for these."""
_TOLD = ("onnx2tf", "tensorflow", "onnx", "onnxruntime")


def env_folder() -> Path:
    return cache_dir() / "engines" / f"onnx2tf-{VERSION}"


def env_python() -> Path:
    return env_folder() / "bin" / "python"


def is_ready() -> bool:
    """Whether the environment is complete: pip installs onnx2tf itself last."""
    return bool(_dist_info("onnx2tf", VERSION)) and env_python().exists()


def setup_command() -> str:
    """What to type in a shell to set it up."""
    folder = shlex.quote(str(env_folder()))
    return f"{shlex.quote(sys.executable)} -m venv {folder} && {folder}/bin/pip install onnx2tf=={VERSION}"


def check_ready() -> None:
    """Raises UsageError with the command that sets it up."""
    if not is_ready():
        raise UsageError(
            "onnx2tf is not set up on this host: it takes an environment of its own (2.6 GB)",
            hint=f"--install-engine, or: {setup_command()}",
        )


def install(progress: Progress | None = None) -> None:
    """Make the environment where it is missing. Raises UsageError (Python, disk), DeviceError (what pip says)."""
    if is_ready():
        return
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise UsageError(
            f"onnx2tf {VERSION} has no wheels for Python {sys.version_info.major}.{sys.version_info.minor}",
            hint="run edgeloop with Python 3.10 to 3.12, or give the PyTorch or Keras model",
        )
    folder = env_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    pip = [str(folder / "bin" / "pip"), "install", "--no-input", "--disable-pip-version-check", f"onnx2tf=={VERSION}"]
    with (progress or SilentProgress()).step(f"setting up onnx2tf {VERSION} (2.6 GB)"):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run(pip)
    check_ready()


def versions() -> dict[str, str]:
    """Packages that make the model there -> their versions."""
    found = {}
    for name in _TOLD:
        for info in _dist_info(name, "*"):
            found[name] = info.name.removesuffix(".dist-info").rpartition("-")[2]
    return found


def _dist_info(name: str, version: str) -> list[Path]:
    return list(env_folder().glob(f"lib/python*/site-packages/{name}-{version}.dist-info"))


def _run(command: list[str]) -> None:
    """Raises DeviceError with the last line that says ERROR."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
        ) as process:
            assert process.stdout is not None
            try:
                last = deque((line.strip() for line in process.stdout if line.strip()), maxlen=20)
            except BaseException:
                process.kill()
                raise
    except OSError as error:
        raise UsageError(f"cannot run {command[0]}: {error.strerror}") from error
    if process.returncode != 0:
        why = [line for line in last if "ERROR" in line] or list(last) or ["no output"]
        raise DeviceError(f"onnx2tf could not be set up: {why[-1][:300]}", hint=f"try it in a shell: {setup_command()}")
