"""systemd's notify protocol: datagrams of `KEY=value` lines to the socket that it names in the environment.

Source: sd_notify(3). Outside a service, where there is no such socket, everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping

_PINGS_PER_TIMEOUT = 4
BUSY_S = 600.0


class Notifier:
    """The watchdog is fed by whoever calls `alive` in its main loop: when it stands still, systemd restarts us."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._ping_every_s = _ping_interval_s(environment)
        self._pinged_s = -float("inf")
        self._status = ""

    @property
    def is_wanted(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    def ready(self) -> None:
        """Started, or done with reloading."""
        self._send("READY=1")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent when it changes."""
        if text != self._status:
            self._status = text
            self._send("STATUS=" + " ".join(text.split()))

    def alive(self, now_s: float) -> None:
        """now_s: on the monotonic clock. Cheap: sends only when a ping is due."""
        if self._ping_every_s is not None and now_s - self._pinged_s >= self._ping_every_s:
            self._pinged_s = now_s
            self._send("WATCHDOG=1")

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """For work in the main loop that may take longer than the watchdog's patience: it waits BUSY_S then."""
        if self._ping_every_s is None:
            yield
            return
        self._send(f"WATCHDOG_USEC={int(BUSY_S * 1e6)}")
        try:
            yield
        finally:
            self._send(f"WATCHDOG_USEC={int(self._ping_every_s * _PINGS_PER_TIMEOUT * 1e6)}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # systemd being restarted itself is no reason for this program to end.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(text.encode(errors="replace"), self._address)


def _ping_interval_s(environment: Mapping[str, str]) -> float | None:
    timeout_us = environment.get("WATCHDOG_USEC", "")
    is_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    if not timeout_us.isdigit() or not is_for_us or int(timeout_us) == 0:
        return None
    return int(timeout_us) / 1e6 / _PINGS_PER_TIMEOUT
