"""Measure models on a device: on this machine in a process of its own, elsewhere with the agent's interpreter there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex

from edgeloop.bench import BenchReport, BenchRequest
from edgeloop.bench.local import Models, bench_here, judged, load_models, raise_for_crash, unpacked
from edgeloop.bench.per_op import OpProfile, profile_here, read_profiles
from edgeloop.devices.connection import DEVICE_PYTHON, Completed, Device, read_platform
from edgeloop.devices.guarded import GuardedFolder, note_removed
from edgeloop.devices.install import choose_layout, install_agent, put_file
from edgeloop.errors import DeviceError
from edgeloop.progress import Progress

__all__ = ["bench_on_device", "load_models", "profile_on_device"]

_TIMEOUT_S = 900.0
_RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from edgeloop.{module} import main; sys.exit(main())"


def bench_on_device(
    device: Device, models: Models, request: BenchRequest, *, progress: Progress, prefix: str | None = None
) -> BenchReport:
    """Measure `models` on `device`; the agent is installed where it is missing, the models are removed at the end.

    A delegate that crashes is a DelegateError naming its case. Raises DeviceError.
    """
    if device.is_local:
        return bench_here(models, request, note=progress.note)
    done, folder = _remotely(device, models, "bench", request.argv, progress, prefix)
    return judged(done.exit_code, done.stdout, done.stderr, where=device.url, folder=folder, note=progress.note)


def profile_on_device(
    device: Device, models: Models, request: BenchRequest, *, progress: Progress, prefix: str | None = None
) -> tuple[OpProfile, ...]:
    """Each model's ops on the first delegate of `request`, see `per_op.profile_model`. Raises as `bench_on_device`."""
    first = request.delegates[0]
    if device.is_local:
        with unpacked(models) as (_folder, paths):
            return tuple(profile_here(path, delegate=first, threads=request.threads, n=request.n) for path in paths)

    def argv(paths: Sequence[str]) -> list[str]:
        return ["--delegate", first, "--threads", str(request.threads), "-n", str(request.n), "--", *paths]

    done, _folder = _remotely(device, models, "bench.per_op", argv, progress, prefix)
    raise_for_crash(done.exit_code, done.stderr, where=device.url)
    return read_profiles(done.stdout)


def _remotely(
    device: Device,
    models: Models,
    module: str,
    argv: Callable[[Sequence[str]], list[str]],
    progress: Progress,
    prefix: str | None,
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
        command = [DEVICE_PYTHON, "-I", "-c", _RUN.format(module=module), site, *argv(targets)]
        folder.start(command, out.append, said.append)
        code = folder.wait(_TIMEOUT_S)
        if code is None:
            raise DeviceError(f"{device.url}: measuring took longer than {_TIMEOUT_S:.0f} s")
        return Completed(code, "\n".join(out).encode(), "\n".join(said).encode()), str(folder.path)
