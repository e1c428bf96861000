"""This machine as a device: nothing is installed, the agent of this Python runs."""

from __future__ import annotations

import contextlib
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

    def start(
        self, argv: Sequence[str], on_line: Callable[[str], None], on_error: Callable[[str], None] | None = None
    ) -> Running:
        # A session of its own: a terminal's Ctrl-C is for this process, which then says what is to happen.
        process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        readers = [
            threading.Thread(target=_pass_on, args=(stream, sink), daemon=True)
            for stream, sink in ((process.stdout, on_line), (process.stderr, on_error or on_line))
        ]
        for reader in readers:
            reader.start()
        return LocalProcess(process, tuple(readers))

    def forward_to_host(self, host_port: int) -> int:
        return host_port

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True)
class LocalProcess:
    process: subprocess.Popen[bytes]
    readers: tuple[threading.Thread, ...]

    def poll(self) -> int | None:
        return self.process.poll()

    def wait(self, timeout_s: float) -> int | None:
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        for reader in self.readers:
            reader.join(1.0)
        return code

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


def _pass_on(lines: Iterable[bytes], on_line: Callable[[str], None]) -> None:
    for line in lines:
        on_line(line.decode("utf-8", "replace").rstrip("\n"))
