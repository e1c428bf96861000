"""Devices as processes of their own, for what is killed beside them."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.faults import environment, python_module


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], said: Path) -> Iterator[subprocess.Popen[str]]:
    """Ends with the block, if not before. What it says on stderr is added to a file."""
    with said.open("a") as stderr:
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment())
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def device_command(folder: Path, url: str, reports: int) -> list[str]:
    ledger, spool = folder / "ledger", folder / "spool.db"
    return python_module("support.device_side", ledger, spool, url, "pi-1", reports, 250)


def made(folder: Path) -> int:
    """Reports so far, by the ledger."""
    ledger = folder / "ledger"
    return ledger.read_text().count("made") if ledger.exists() else 0


def finish(device: subprocess.Popen[str], folder: Path, timeout_s: float = 120.0) -> None:
    """Wait until the device has delivered everything."""
    out, _ = device.communicate(timeout=timeout_s)
    assert out == "all delivered\n", (folder / "device.err").read_text()[-2000:]
