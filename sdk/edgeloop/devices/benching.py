"""Measure models on a device: on this machine in a process of its own, elsewhere with the agent's interpreter there."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex

from edgeloop.bench import CASE_MARK, BenchReport, BenchRequest
from edgeloop.devices.connection import DEVICE_PYTHON, Completed, Device, read_platform
from edgeloop.devices.guarded import GuardedFolder, note_removed
from edgeloop.devices.install import choose_layout, install_agent, put_file
from edgeloop.errors import DelegateError, DeviceError, UsageError
from edgeloop.progress import Progress
from edgeloop.runtime.child import child_command

Models = Mapping[str, "bytes | Path"]

_TIMEOUT_S = 900.0
_SHELL_SIGNAL = 128
_RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from edgeloop.bench import main; sys.exit(main())"


def load_models(
    path: Path, variants: Sequence[str] = (), *, allow_unsigned: bool = False
) -> tuple[Models, tuple[str, ...]]:
    """(models by name, the delegates that the first of them wishes for). A file that is no zip is a .tflite.

    Raises UsageError for an absent file or unknown variant, RefusedError for a bundle that cannot be trusted.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        if not is_zip and path.suffix != ".bundle":
            if variants:
                raise UsageError(f"{path} is a model, only bundles have variants")
            return {path.stem: path}, ()
    except OSError as error:
        raise UsageError(f"model {path}: {error.strerror or error}") from error
    from edgeloop.bundle import Bundle

    bundle = Bundle.open(path, allow_unsigned=allow_unsigned)
    known = {variant.name: variant for variant in bundle.manifest.variants}
    names = variants or [bundle.manifest.variants[0].name]
    for name in names:
        if name not in known:
            raise UsageError(f"{path} has no variant {name!r}", hint=f"it has: {', '.join(known)}")
    return {name: bundle.model(name) for name in names}, known[names[0]].delegates


def bench_on_device(
    device: Device, models: Models, request: BenchRequest, *, progress: Progress, prefix: str | None = None
) -> BenchReport:
    """Measure `models` on `device`; the agent is installed where it is missing, the models are removed at the end.

    A delegate that crashes is a DelegateError naming its case. Raises DeviceError.
    """
    done, folder = (
        _locally(models, request) if device.is_local else _remotely(device, models, request, progress, prefix)
    )
    said = done.stderr.decode("utf-8", "replace").splitlines()
    number = _signal_of(done.exit_code)
    if number:
        cases = [line.removeprefix(CASE_MARK) for line in said if line.startswith(CASE_MARK)] or ["the model"]
        hint = (
            "was there too little memory?" if number == signal.SIGKILL else "its library does not fit: edgeloop doctor"
        )
        raise DelegateError(f"{cases[-1]} crashed (signal {number}) on {device.url}", hint=hint)
    for line in said:
        if not line.startswith(CASE_MARK):
            progress.note(line)
    return BenchReport.from_json(done.stdout.replace(f"{folder}/".encode(), b""))


def _signal_of(exit_code: int) -> int:
    """The signal that ended a process, as Python (-n) or a shell (128 + n) tells it; 0 for none."""
    if exit_code < 0:
        return -exit_code
    return exit_code - _SHELL_SIGNAL if _SHELL_SIGNAL < exit_code < _SHELL_SIGNAL + 65 else 0


def _locally(models: Models, request: BenchRequest) -> tuple[Completed, str]:
    """A crash is that process's, and memory is the model's, not this one's."""
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as folder:
        paths = []
        for name, model in models.items():
            path = model if isinstance(model, Path) else Path(folder) / f"{name}.tflite"
            if isinstance(model, bytes):
                path.write_bytes(model)
            paths.append(str(path))
        command = child_command("from edgeloop.bench import main; sys.exit(main())", *request.argv(paths))
        done = subprocess.run(command, capture_output=True, check=False)
    return Completed(done.returncode, done.stdout, done.stderr), folder


def _remotely(
    device: Device, models: Models, request: BenchRequest, progress: Progress, prefix: str | None
) -> tuple[Completed, str]:
    platform = read_platform(device)
    layout = choose_layout(device, platform, prefix)
    with progress.step("install the agent") as advance:
        agent = install_agent(device, platform, layout, advance)
    with GuardedFolder(device, layout.state / "trials" / token_hex(4)) as folder:
        note_removed(folder, progress)
        targets = []
        for name, model in models.items():
            targets.append(str(folder.path / f"{name}.tflite"))
            with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
                file.write(model.read_bytes() if isinstance(model, Path) else model)
                file.flush()
                put_file(device, Path(file.name), folder.path / f"{name}.tflite", within=folder.path)
        site = str(agent.layout.site(agent.version))
        out: list[str] = []
        said: list[str] = []
        command = [DEVICE_PYTHON, "-I", "-c", _RUN, site, *request.argv(targets)]
        folder.start(command, out.append, said.append)
        code = folder.wait(_TIMEOUT_S)
        if code is None:
            raise DeviceError(f"{device.url}: measuring took longer than {_TIMEOUT_S:.0f} s")
        return Completed(code, "\n".join(out).encode(), "\n".join(said).encode()), str(folder.path)
