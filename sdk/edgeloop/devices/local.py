"""This machine as a device: nothing is installed, the agent of this Python runs."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgeloop.devices.connection import Completed, Running
from edgeloop.errors import DeviceError


class LocalDevice:
    url = "local:"
    is_local = True

    def run(self, argv: Sequence[str], *, stdin: Iterable[bytes] = (), timeout_s: float = 60.0) -> Completed:
        try:
            done = subprocess.run(
                list(argv), input=b"".join(stdin), capture_output=True, timeout=timeout_s, check=False
            )
        except FileNotFoundError as error:
            raise DeviceError(f"{argv[0]} is not here") from error
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"{argv[0]} took longer than {timeout_s:.0f} s") from error
        return Completed(done.returncode, done.stdout, done.stderr)

    def start(self, argv: Sequence[str], on_line: Callable[[str], None]) -> Running:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        reader = threading.Thread(target=_pass_on, args=(process.stdout, on_line), daemon=True)
        reader.start()
        return LocalProcess(process, reader)

    def forward_to_host(self, host_port: int) -> int:
        return host_port

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True)
class LocalProcess:
    process: subprocess.Popen[str]
    reader: threading.Thread

    def poll(self) -> int | None:
        return self.process.poll()

    def wait(self, timeout_s: float) -> int | None:
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self.reader.join(1.0)
        return code

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


def _pass_on(lines: Iterable[str], on_line: Callable[[str], None]) -> None:
    for line in lines:
        on_line(line.rstrip("\n"))
