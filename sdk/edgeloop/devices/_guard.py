"""Runs on the device (its text is handed to the device's Python): owns the folder of one trial, and ends with the host.

argv: FOLDER. It makes the folder, says `ready [NAMES]` (stale folders beside it that it removed) and then reads lines
of JSON from stdin: a list starts that command, "stop" asks it to end, "kill" ends it. At the end of the command, at
SIGTERM, and when stdin ends (the host has gone: sshd then closes the channel), the command's processes and the folder
are removed. Its exit code is the command's, 128 + n for signal n. Standard library only, Python 3.10.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

LOCK = ".in-use"
STOP_TIMEOUT_S = 10.0
UNLOCKED_AGE_S = 3600.0  # a folder without a lock file: of an earlier version, or just being made


def take_folder(folder: Path) -> None:
    """Make `folder` appear with its lock already held; the lock goes with this process, however it ends."""
    fresh = folder.with_name(f".{folder.name}.new")
    fresh.mkdir(mode=0o700, parents=True)
    fcntl.flock(os.open(fresh / LOCK, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
    fresh.rename(folder)


def remove_stale(parent: Path) -> list[str]:
    """Folders in `parent` that no guard holds and no process was started with."""
    removed = []
    for path in sorted(parent.iterdir()):
        if path.is_dir() and not path.is_symlink() and not is_held(path) and not is_in_a_command_line(path):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path.name)
    return removed


def is_held(folder: Path) -> bool:
    try:
        if folder.name.startswith(".") or not (folder / LOCK).exists():
            return time.time() - folder.stat().st_mtime < UNLOCKED_AGE_S
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def is_in_a_command_line(folder: Path) -> bool:
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.fsencode(folder) in (process / "cmdline").read_bytes():
                    return True
    return False


def end_group(child: subprocess.Popen[bytes] | None) -> None:
    if child is not None:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def serve() -> int:
    """Until the command ends or the host has gone; the exit code."""
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    child: subprocess.Popen[bytes] | None = None
    deadline_s: float | None = None
    sources, rest = [0, wake], b""
    try:
        while child is None or child.poll() is None:
            timeout_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            ready, _, _ = select.select(sources, [], [], timeout_s)
            orders: list[object] = []
            if wake in ready and signal.SIGTERM in os.read(wake, 4096):
                orders.append("stop")
            if 0 in ready:
                data = os.read(0, 65536)
                if not data:
                    sources.remove(0)
                    orders.append("stop")
                *lines, rest = (rest + data).split(b"\n")
                orders += [json.loads(line) for line in lines]
            if deadline_s is not None and time.monotonic() >= deadline_s:
                orders.append("kill")
            for order in orders:
                if isinstance(order, list) and child is None:
                    child = subprocess.Popen(order, stdin=subprocess.DEVNULL, start_new_session=True)
                elif child is None:
                    return 128 + signal.SIGTERM
                elif order == "kill":
                    end_group(child)
                elif order == "stop" and deadline_s is None:
                    child.terminate()
                    deadline_s = time.monotonic() + STOP_TIMEOUT_S
        code = child.wait()
        return code if code >= 0 else 128 - code
    finally:
        end_group(child)


def main(folder: Path) -> int:
    # Handlers that do nothing, so that select() wakes up and a started command gets the defaults back.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    try:
        take_folder(folder)
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 1
    try:
        print("ready", json.dumps(remove_stale(folder.parent)), flush=True)
        return serve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
