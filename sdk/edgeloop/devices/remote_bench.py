"""`bench --device ssh://...`: measure models on the device itself, with the agent's own interpreter there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex

from edgeloop.bench import CASE_MARK, BenchReport, BenchRequest
from edgeloop.devices.connection import DEVICE_PYTHON, Device, read_platform
from edgeloop.devices.install import choose_layout, install_agent, put_file, remove
from edgeloop.errors import DelegateError
from edgeloop.progress import Progress

_TIMEOUT_S = 900.0
_SIGNAL_EXIT = 128
_RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from edgeloop.bench import main; sys.exit(main())"


def bench_on_device(
    device: Device, models: Mapping[str, bytes | Path], request: BenchRequest, *, progress: Progress, prefix: str | None
) -> BenchReport:
    """Install the agent where it is missing, copy the models, measure, remove the models. Raises DeviceError."""
    platform = read_platform(device)
    layout = choose_layout(device, platform, prefix)
    with progress.step("install the agent") as advance:
        agent = install_agent(device, platform, layout, advance)
    folder = layout.state / "trials" / token_hex(4)
    with ExitStack() as cleanup:
        cleanup.callback(remove, device, folder)
        targets = []
        for name, model in models.items():
            targets.append(str(folder / f"{name}.tflite"))
            if isinstance(model, Path):
                put_file(device, model, folder / f"{name}.tflite")
                continue
            with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
                file.write(model)
                file.flush()
                put_file(device, Path(file.name), folder / f"{name}.tflite")
        with progress.step("measure on the device"):
            site = str(agent.layout.site(agent.version))
            done = device.run([DEVICE_PYTHON, "-I", "-c", _RUN, site, *request.argv(targets)], timeout_s=_TIMEOUT_S)
    said = done.stderr.decode("utf-8", "replace").splitlines()
    if done.exit_code < 0 or done.exit_code > _SIGNAL_EXIT:
        cases = [line.removeprefix(CASE_MARK) for line in said if line.startswith(CASE_MARK)] or ["the model"]
        raise DelegateError(
            f"{cases[-1]} crashed on {device.url} (exit code {done.exit_code})",
            hint="its library does not fit: run `edgeloop-agent doctor` there",
        )
    for line in said:
        if not line.startswith(CASE_MARK):
            progress.note(line)
    return BenchReport.from_json(done.stdout.replace(f"{folder}/".encode(), b""))
