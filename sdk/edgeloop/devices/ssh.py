"""A device over SSH (asyncssh), as a blocking interface: the event loop lives in a thread of its own.

Host keys: the user's `~/.ssh/known_hosts` and edgeloop's own are respected. A host seen for the first time is shown
with its fingerprint and recorded; a host whose key has changed is refused (exit 4).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import shlex
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from edgeloop import paths
from edgeloop.devices.connection import Completed, Running
from edgeloop.errors import ConfigError, DeviceError, MissingExtraError, RefusedError, UsageError

T = TypeVar("T")
Note = Callable[[str], None]

PATIENCE = "EDGELOOP_PATIENCE"
"""Environment: how many times as long as usual a device may take for an answer."""
_CONNECT_TIMEOUT_S = 15.0
_STDIN_PIECE_BYTES = 1 << 18


def connect_ssh(url: str, identity: Path | None, note: Note) -> SshDevice:
    """`ssh://[user@]host[:port]`. Raises DeviceError, RefusedError (changed host key), MissingExtraError."""
    try:
        import asyncssh
    except ImportError as error:
        raise MissingExtraError("reaching a device over SSH", "ssh") from error
    parts = urlsplit(url)
    if not parts.hostname or parts.path.strip("/") or parts.password:
        raise UsageError(f"device {url!r} is not understood", hint="ssh://user@host[:port], keys instead of passwords")
    host, where = parts.hostname, parts.netloc.rpartition("@")[2]
    config = user_config()
    host_keys = _HostKeys(note)
    options: dict[str, Any] = {"known_hosts": host_keys.known(), "client_factory": host_keys.client_factory()}
    options["request_pty"] = False  # whatever the configuration asks for: data go through as they are
    options["config"] = [str(config)] if config else None
    if parts.port is not None:  # else what the configuration says, else 22
        options["port"] = parts.port
    if parts.username:
        options["username"] = unquote(parts.username)
    if identity is not None:
        if not identity.is_file():
            raise UsageError(f"SSH key {identity} is not there")
        options["client_keys"] = [str(identity)]
    loop = _LoopThread(_patience())
    try:
        connection = loop.call(_awaited(asyncssh.connect(host, **options)), _CONNECT_TIMEOUT_S)
    except asyncssh.ConfigParseError as error:
        loop.stop()
        raise ConfigError(f"SSH configuration: {error}", hint="ssh -G HOST shows what ssh makes of it") from error
    except (OSError, ValueError, asyncio.TimeoutError, asyncssh.Error, DeviceError) as error:
        loop.stop()
        if host_keys.changed:
            raise RefusedError(
                f"the host key of {where} is not the one known for it ({host_keys.changed})",
                hint=f"if the device was set up anew: {host_keys.forget_command()}",
            ) from error
        if isinstance(error, asyncssh.KeyImportError):
            raise UsageError(f"SSH key: {error}", hint="a key with a passphrase: ssh-add it first") from error
        if isinstance(error, FileNotFoundError) and error.filename:
            raise ConfigError(f"{config} names {error.filename}, which is not there") from error
        if isinstance(error, asyncssh.PermissionDenied):
            raise DeviceError(
                f"{where} refused the login", hint="check the user name; give a key with --identity FILE"
            ) from error
        reason = str(error) or "no answer"
        raise DeviceError(f"{where} cannot be reached: {reason}", hint="is it on, and is SSH enabled there?") from error
    except BaseException:  # Ctrl-C
        loop.stop()
        raise
    host_keys.record_first_contact()
    return SshDevice(url, loop, connection)


async def _awaited(opening: Awaitable[T]) -> T:
    """A coroutine of what is none itself."""
    return await opening


def _patience() -> float:
    """At least 1. Raises UsageError."""
    text = os.environ.get(PATIENCE, "1")
    with contextlib.suppress(ValueError):
        if 1.0 <= float(text) <= 1000.0:
            return float(text)
    raise UsageError(f"{PATIENCE} must be 1 to 1000, got '{text}'")


class SshDevice:
    """An open SSH connection. Made by `connect_ssh`."""

    is_local = False

    def __init__(self, url: str, loop: _LoopThread, connection: Any) -> None:
        self.url = url
        self._loop = loop
        self._connection = connection

    def run(self, argv: Sequence[str], *, stdin: Iterable[bytes] = (), timeout_s: float = 60.0) -> Completed:
        async def work() -> Completed:
            async with self._connection.create_process(shlex.join(argv), encoding=None) as process:
                output = asyncio.gather(process.stdout.read(), process.stderr.read())
                # A command that ends early closes its input; what it says on stderr is the real answer.
                with contextlib.suppress(BrokenPipeError, ConnectionError):
                    for chunk in stdin:
                        for start in range(0, len(chunk), _STDIN_PIECE_BYTES):
                            process.stdin.write(chunk[start : start + _STDIN_PIECE_BYTES])
                            await process.stdin.drain()
                    process.stdin.write_eof()
                stdout, stderr = await output
                await process.wait_closed()
                return Completed(_exit_code(process), stdout, stderr)

        return self._call(work(), timeout_s, argv[0])

    def start(
        self, argv: Sequence[str], on_line: Callable[[str], None], on_error: Callable[[str], None] | None = None
    ) -> Running:
        async def work() -> Any:
            return await self._connection.create_process(shlex.join(argv), encoding=None)

        process = self._call(work(), _CONNECT_TIMEOUT_S, argv[0])
        return SshProcess(self._loop, process, on_line, on_error or on_line)

    def forward_to_host(self, host_port: int) -> int:
        async def work() -> Any:
            return await self._connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", host_port)

        listener = self._call(work(), _CONNECT_TIMEOUT_S, "port forwarding")
        return int(listener.get_port())

    def close(self) -> None:
        async def work() -> None:
            self._connection.close()
            await self._connection.wait_closed()

        with contextlib.suppress(DeviceError):
            self._call(work(), 5.0, "close")
        self._loop.stop()

    def _call(self, work: Coroutine[Any, Any, T], timeout_s: float, what: str) -> T:
        import asyncssh

        try:
            return self._loop.call(work, timeout_s)
        except (asyncssh.Error, OSError) as error:
            raise DeviceError(f"{self.url}: {what}: {error or 'the connection was lost'}") from error


class SshProcess:
    """A process over SSH; its lines are read on the event loop's thread."""

    def __init__(self, loop: _LoopThread, process: Any, on_line: Note, on_error: Note) -> None:
        self._loop = loop
        self._process = process
        self._ended = threading.Event()
        loop.submit(self._read(on_line, on_error))

    async def _read(self, on_line: Note, on_error: Note) -> None:
        try:
            await asyncio.gather(_lines(self._process.stdout, on_line), _lines(self._process.stderr, on_error))
            await self._process.wait_closed()
        finally:
            self._ended.set()

    def poll(self) -> int | None:
        return _exit_code(self._process) if self._ended.is_set() else None

    def wait(self, timeout_s: float) -> int | None:
        self._ended.wait(timeout_s)
        return self.poll()

    def send(self, data: bytes) -> None:
        self._loop.submit(self._input(data))

    def end_input(self) -> None:
        self._loop.submit(self._input(None))

    async def _input(self, data: bytes | None) -> None:
        with contextlib.suppress(OSError):
            if data is None:
                self._process.stdin.write_eof()
            else:
                self._process.stdin.write(data)


async def _lines(stream: Any, on_line: Note) -> None:
    while line := await stream.readline():
        on_line(line.decode("utf-8", "replace").rstrip("\n"))


def _exit_code(process: Any) -> int:
    """255, as ssh itself gives it, when the connection ended before the command did."""
    code = process.returncode
    return 255 if code is None else int(code)


class _LoopThread:
    """An asyncio event loop in a daemon thread. patience: times the timeout of each call."""

    def __init__(self, patience: float = 1.0) -> None:
        self._patience = patience
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="edgeloop-ssh", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        timeout_s *= self._patience
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise DeviceError(f"no answer within {timeout_s:.0f} s") from error
        except BaseException:  # Ctrl-C
            future.cancel()
            raise

    def submit(self, work: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        with contextlib.suppress(concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result(5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)


async def _cancel_others() -> None:
    """A loop that stops with tasks in it has them complain on stderr."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _pattern(host: str, port: int) -> str:
    return host if port == 22 else f"[{host}]:{port}"


def user_config() -> Path | None:
    """`~/.ssh/config`, None when there is none. Raises ConfigError when it cannot be read."""
    path = Path("~/.ssh/config").expanduser()
    try:
        path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"SSH configuration {path}: {error}") from error
    return path


class _HostKeys:
    """Known hosts, and what happened to the key that the host showed."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._own_file = paths.config_dir() / "known_hosts"
        self._files = (Path("~/.ssh/known_hosts").expanduser(), self._own_file)
        self._first_contact: tuple[str, Any] | None = None
        self._forget: list[str] = []
        self.changed = ""

    def known(self) -> Any:
        import asyncssh

        merged = asyncssh.import_known_hosts("")
        for path in self._files:
            if path.is_file():
                try:
                    merged.load(path.read_text(encoding="utf-8", errors="replace"))
                except ValueError as error:
                    raise DeviceError(f"{path}: {error}") from error
        return merged

    def client_factory(self) -> Callable[[], Any]:
        import asyncssh

        host_keys = self
        known = self.known()

        class Client(asyncssh.SSHClient):  # type: ignore[misc]
            def validate_host_public_key(self, host: str, addr: str, port: int, key: Any) -> bool:
                return host_keys._decide(known, host, addr, port, key)

        return Client

    def _decide(self, known: Any, host: str, addr: str, port: int, key: Any) -> bool:
        """Only asked for keys that are not among the known ones: new host -> yes, known host -> its key changed.

        `host` and `port` are what the SSH configuration made of the URL's.
        """
        if known.match(host, addr, port)[0]:
            self.changed = str(key.get_fingerprint())
            self._forget = self._commands(host, addr, port)
            return False
        self._first_contact = (_pattern(host, port), key)
        return True

    def _commands(self, host: str, addr: str, port: int) -> list[str]:
        """What removes the recorded keys: for each file that has one, under each name that it has it under."""
        import asyncssh

        names = dict.fromkeys((_pattern(host, port), _pattern(addr, port), host, addr))
        return [
            f"ssh-keygen -f {shlex.quote(str(path))} -R {shlex.quote(name)}"
            for path in self._files
            if path.is_file()
            for name in names
            if name and asyncssh.read_known_hosts(str(path)).match(name, "", None)[0]
        ]

    def forget_command(self) -> str:
        return " && ".join(self._forget)

    def record_first_contact(self) -> None:
        if self._first_contact is None:
            return
        pattern, key = self._first_contact
        self._own_file.parent.mkdir(parents=True, exist_ok=True)
        with self._own_file.open("a", encoding="utf-8") as file:
            file.write(f"{pattern} {key.export_public_key().decode().strip()}\n")
        self._note(f"first contact with {pattern}: host key {key.get_fingerprint()} recorded")
