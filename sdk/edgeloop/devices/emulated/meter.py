"""The instruction meter: models in, instructions per inference out, on a CPU that qemu-user emulates."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeloop import paths
from edgeloop.bench.counted import MARKS_PER_MODEL
from edgeloop.bench.instructions import Counted, Instructions
from edgeloop.devices.agent_site import build_agent_site
from edgeloop.devices.connection import DevicePlatform
from edgeloop.devices.emulated.cpus import SCHEME, Cpu
from edgeloop.devices.emulated.debian import PYTHON, debian_tree, only_one
from edgeloop.errors import DeviceError, UsageError
from edgeloop.progress import Progress, SilentProgress

_PLATFORM = DevicePlatform("aarch64", (3, 11), (2, 36), "emulated", "root", True, "/root")
"""Debian 12's Python and glibc."""
_QEMU = "qemu-aarch64"
"""The dynamic one: qemu-aarch64-static takes no plugins."""
_SOURCE = "instruction_counter.c"
_COMPILER = "cc", "gcc libc6-dev"
"""The program, and its Debian packages."""
_PROGRAM = "import sys; from edgeloop.bench.counted import main; sys.exit(main())"
_KEPT_S = 7 * 86400.0


def _base() -> Path:
    return paths.cache_dir() / "emulated"


def is_built() -> bool:
    """Whether the arm64 system is in the cache already: without it, the first measurement downloads 75 MB."""
    return (_base() / "arm64/root/complete").is_file()


class InstructionMeter:
    """A process with LiteRT on one emulated CPU, for as many models as one likes. A context manager.

    What it needs (a tree of Debian packages, wheels, the plugin) is made in the user's cache at first use, which
    `progress` says. Raises DeviceError where something for it is missing.
    """

    def __init__(self, cpu: Cpu, progress: Progress | None = None) -> None:
        self.cpu = cpu
        self._progress = progress or SilentProgress()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._read = 0

    @property
    def device(self) -> str:
        return f"{SCHEME}{self.cpu.name}"

    def __enter__(self) -> InstructionMeter:
        base = _base()
        qemu = _tool(_QEMU, "qemu-user")
        if not _plugin_file(base).is_file():
            _tool(*_COMPILER)  # said before anything large is fetched
        if not is_built():
            self._progress.note(f"building an arm64 system from Debian's packages in {base} (75 MB, once)")
        with self._progress.step("emulated system"):
            tree = debian_tree(base / "arm64", "arm64", PYTHON)
            with only_one(base):
                site, plugin, view = _site(base), _plugin(base), _view(base, tree, self.cpu)
        self._folder = tempfile.TemporaryDirectory(prefix="edgeloop-meter-")
        self._marks = Path(self._folder.name) / "marks"
        command = [
            qemu, "-cpu", self.cpu.name, "-plugin", f"{plugin},marks={self._marks}", "-L", str(view),
            "-E", f"PYTHONPATH={site}", "-E", "PYTHONHASHSEED=0", str(tree / "usr/bin/python3.11"), "-c", _PROGRAM,
        ]  # fmt: skip
        self._log = (Path(self._folder.name) / "stderr").open("w+")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
        )  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._log.close()
        if self._folder is not None:
            self._folder.cleanup()

    def measure(self, model: bytes | Path, name: str = "model") -> Counted:
        """Instructions of one inference on random input, 1 thread, XNNPACK where it takes ops.

        Raises UsageError for a model that the runtime refuses, DeviceError where the emulation ends.
        """
        assert self._folder is not None, "the meter is a context manager"
        path = model if isinstance(model, Path) else Path(self._folder.name) / "model.tflite"
        if isinstance(model, bytes):
            path.write_bytes(model)
        answer = self._ask(str(path.resolve()), name)
        if "error" in answer:
            raise UsageError(f"{name}: {answer['error']}", hint=answer["hint"] or None)
        return Counted(
            name, self.device, str(answer["runtime"]), int(answer["delegated_ops"]), int(answer["total_ops"]),
            self._cost(),
        )  # fmt: skip

    def _ask(self, path: str, name: str) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(path + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            said = (self._log.read().strip().splitlines() or [f"exit code {process.poll()}"])[-1]
            raise DeviceError(
                f"{self.device} ended while it ran {name}: {said[:200]}",
                hint=f"where it does so with any model, remove {_base()}: it is made anew",
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _cost(self) -> Instructions:
        """Of the marks that came last: what lies between the second and the third, without a mark's own."""
        lines = self._marks.read_text().splitlines()[self._read :]
        self._read += len(lines)
        if len(lines) != MARKS_PER_MODEL:
            raise DeviceError(f"{self.device}: {len(lines)} marks instead of {MARKS_PER_MODEL}")
        first, second, third = (Instructions(*map(int, line.split())) for line in lines)
        return (third - second) - (second - first)


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise DeviceError(f"{name} is missing, which emulates the CPU", hint=f"sudo apt-get install {package}")
    return found


def _site(base: Path) -> Path:
    """The agent's own code and its wheels without OpenCV, unpacked: the runtime that devices get."""
    site = build_agent_site(_PLATFORM, slim=True)
    target = base / f"site-{site.version.partition('+')[2]}"
    if not target.is_dir():
        partial = base / "site.partial"
        shutil.rmtree(partial, ignore_errors=True)
        parts: list[Path | io.BytesIO] = [*site.wheels, io.BytesIO(site.own)]
        for part in parts:
            with zipfile.ZipFile(part) as archive:
                archive.extractall(partial)
        for older in base.glob("site-*"):
            if time.time() - older.stat().st_mtime > _KEPT_S:  # a younger one may be in use
                shutil.rmtree(older, ignore_errors=True)
        partial.rename(target)
    return target


def _plugin(base: Path) -> Path:
    """Compiled from its source here, once per version of it."""
    target = _plugin_file(base)
    if not target.is_file():
        compiler, source = _tool(*_COMPILER), _source()
        partial = target.with_suffix(".partial")
        command = [compiler, "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(partial)]
        done = subprocess.run(command, input=source, capture_output=True, check=False)
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise DeviceError(f"the instruction counter does not compile: {(said or ['?'])[0][:200]}",
                              hint="sudo apt-get install gcc libc6-dev")  # fmt: skip
        partial.rename(target)
    return target


def _source() -> bytes:
    return resources.files("edgeloop.devices.emulated").joinpath(_SOURCE).read_bytes()


def _plugin_file(base: Path) -> Path:
    return base / f"counter-{hashlib.sha256(_source()).hexdigest()[:10]}.so"


def _view(base: Path, tree: Path, cpu: Cpu) -> Path:
    """The tree as one CPU sees it: its own /proc/cpuinfo, all else by links."""
    view = base / cpu.name
    (view / "proc").mkdir(parents=True, exist_ok=True)
    (view / "proc/cpuinfo").write_text(cpu.cpuinfo())
    for name in ("usr", "lib"):
        link = view / name
        if not link.is_symlink():
            link.symlink_to(tree / name)
    return view
