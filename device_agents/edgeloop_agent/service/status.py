"""`edgeloop-agent status`: the supervisor answers on a socket in its state folder. Nothing is written to the card.

Who connects gets one JSON object and the end of the stream; nothing is read from it. Who connects during a reload waits
for the models that start then.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeloop.errors import EXIT_DEVICE, EXIT_DONE, EXIT_GOAL_NOT_MET, DeviceError

SOCKET = "agent.sock"
MAX_STATUS_BYTES = 128 << 10
_TIMEOUT_S = 15.0
"""More than a reload takes: models end, their last report goes out."""
_RETRY_S = 0.05
_BACKLOG = 64


class StatusSocket:
    """The server's side, in a supervisor's selector while one runs. Where none can be made (a read-only disk), that is
    said once.

    `state` makes the object that is sent; the folder must be locked by this process.
    """

    def __init__(self, folder: Path, state: Callable[[], Mapping[str, Any]], tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._state = state
        self._socket: socket.socket | None = None
        try:
            self._socket = _listen(folder)
        except OSError as error:
            tell(f"warning: {folder / SOCKET}: {error.strerror}; `edgeloop-agent status` cannot see this agent")

    @contextlib.contextmanager
    def answering(self, selector: selectors.BaseSelector) -> Iterator[None]:
        if self._socket is None:
            yield
            return
        selector.register(self._socket, selectors.EVENT_READ, self._answer)
        try:
            yield
        finally:
            selector.unregister(self._socket)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                (self._folder / SOCKET).unlink()

    def _answer(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError):
            connection, _ = self._socket.accept()
            with connection:
                # It fits into the socket's buffer: a reader that does not read holds nobody up.
                connection.setblocking(False)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_STATUS_BYTES)
                connection.sendall(json.dumps(self._state(), default=str).encode())


def _listen(folder: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):  # of an agent that was killed
        (folder / SOCKET).unlink()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _short_path(folder) as path:
            server.bind(path)
        (folder / SOCKET).chmod(0o666)  # what it tells is no secret to users of this machine
        server.listen(_BACKLOG)
    except OSError:
        server.close()
        raise
    return server


@contextlib.contextmanager
def _short_path(folder: Path) -> Any:
    """A name for the socket that is short enough for its address (108 bytes), however deep the folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


def ask(folder: Path) -> dict[str, Any]:
    """The state of the agent that runs on a state folder. Raises DeviceError where none does."""
    none_runs = DeviceError(
        f"no agent runs on {folder}", hint="--state DIR or --config FILE names another; edgeloop-agent logs says more"
    )
    pieces: list[bytes] = []
    try:
        with _short_path(folder) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_TIMEOUT_S)
            _connect(client, path)
            while piece := client.recv(1 << 16):
                pieces.append(piece)
    except PermissionError as error:
        raise DeviceError(f"{folder / SOCKET}: {error.strerror}", hint="sudo, or as the agent's user") from error
    except TimeoutError as error:
        raise DeviceError(f"the agent on {folder} does not answer", hint="edgeloop-agent logs says more") from error
    except OSError as error:
        raise none_runs from error
    try:
        state = json.loads(b"".join(pieces))
    except ValueError as error:
        raise DeviceError(f"the agent on {folder} answered something else than its state") from error
    if not isinstance(state, dict):
        raise DeviceError(f"the agent on {folder} answered something else than its state")
    return state


def _connect(client: socket.socket, path: str) -> None:
    """Many may ask at once: a Unix socket whose queue is full says so at once instead of letting wait."""
    until_s = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            return client.connect(path)
        except BlockingIOError as error:
            if time.monotonic() > until_s:
                raise TimeoutError from error
            time.sleep(_RETRY_S)


def exit_code(state: Mapping[str, Any] | None) -> int:
    """0 all is well, 1 it runs with alerts, 3 it does not run."""
    if state is None:
        return EXIT_DEVICE
    return EXIT_GOAL_NOT_MET if state.get("alerts") else EXIT_DONE
