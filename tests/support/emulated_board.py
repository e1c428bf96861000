"""A Raspberry Pi class board that boots a card: qemu-system-aarch64 with a serial line and a network.

This module is the board's firmware, too: it takes kernel, initramfs and cmdline.txt from the card's boot partition.
`-cpu` is named because qemu's default computes wrong results; pci-serial because it is the port that loses nothing.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeloop.deploy.image.os_image import open_image
from support.board_image import INITRAMFS, KERNEL

BOOT_PATIENCE_S = 1800.0
_QEMU = "qemu-system-aarch64"
_AS_ON_A_PI = ("nokaslr", "kpti=off", "mitigations=off")
"""Debian's kernel would isolate page tables for the sake of a random address, which a Pi's has not: a third of all
time."""
_PTY = re.compile(r"redirected to (/dev/pts/\d+)")


class EmulatedBoard:
    """One board with its card. line: on the host, the other end of its serial line, at every boot. clock: what it says
    at power-on, in ISO 8601; "utc": the right time."""

    def __init__(self, card: Path, folder: Path, clock: str = "utc") -> None:
        if shutil.which(_QEMU) is None:
            pytest.skip(f"{_QEMU} is missing: apt-get install qemu-system-arm")
        folder.mkdir(parents=True, exist_ok=True)
        self.card, self.folder, self.clock = card, folder, clock
        self.line = folder / "line"
        self.ssh_port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._boots = 0

    def power_on(self) -> None:
        """Returns at once; what the system says is in `console`."""
        command = self._command()
        log = self.folder / f"qemu-{self._boots}.log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        said = self.wait_until(lambda: _PTY.search(log.read_text()), "a serial line", 30.0)
        fresh = self.folder / "line.new"
        fresh.symlink_to(said[1])
        fresh.replace(self.line)

    def power_off(self) -> None:
        """As a plug is pulled: kill -9, no goodbye."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def copy_card(self, copy: Path) -> Path:
        """The card as it would be if the power went now: the board stands still meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            return clone(self.card, copy)
        finally:
            self._process.send_signal(signal.SIGCONT)

    @property
    def console(self) -> str:
        """What kernel and systemd said since the last power-on."""
        path = self.folder / f"console-{self._boots}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_until(self, condition: Callable[[], object], what: str, patience_s: float = BOOT_PATIENCE_S) -> object:
        """The condition's first true value. Fails with the console's end when the board is off or takes for ever."""
        give_up_s = time.monotonic() + patience_s
        while time.monotonic() < give_up_s:
            value = condition()
            if value:
                return value
            if self._process is None or self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"never happened: {what}; the board said:\n{self.console[-4000:]}")

    def _command(self) -> list[str]:
        self._boots += 1
        boot = open_image(self.card).boot
        parts = {}
        for name in (KERNEL, INITRAMFS):
            parts[name] = self.folder / name
            parts[name].write_bytes(boot.read(f"/{name}") or b"")
        words = (boot.read("/cmdline.txt") or b"").decode().split()
        words = [word.replace("serial0", "ttyS0").replace("/dev/mmcblk0p", "/dev/vda") for word in words]
        words += ["console=ttyAMA0", "systemd.show_status=1"]  # the first port is for whoever watches
        words += ["systemd.default_timeout_start_sec=600"]  # it is slow
        words += _AS_ON_A_PI
        return [
            _QEMU, "-M", "virt", "-cpu", "cortex-a72", "-accel", "tcg", "-smp", "2", "-m", "1024",
            "-display", "none", "-monitor", "none", "-no-reboot",
            "-rtc", f"base={self.clock}",
            "-kernel", str(parts[KERNEL]), "-initrd", str(parts[INITRAMFS]), "-append", " ".join(words),
            "-drive", f"if=none,id=card,file={self.card},format=raw,cache=unsafe",
            "-device", "virtio-blk-pci,drive=card",
            "-serial", f"file:{self.folder / f'console-{self._boots}.log'}",
            "-chardev", "pty,id=line", "-device", "pci-serial,chardev=line",
            "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22",
            "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
        ]  # fmt: skip


@contextlib.contextmanager
def booted(card: Path, folder: Path, clock: str = "utc") -> Iterator[EmulatedBoard]:
    """Powered on; off at the end."""
    board = EmulatedBoard(card, folder, clock)
    board.power_on()
    try:
        yield board
    finally:
        board.power_off()


def clone(card: Path, copy: Path) -> Path:
    """The same bytes on another card; holes stay holes."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(card), str(copy)], check=True)
    return copy


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
