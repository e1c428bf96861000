"""A serial cable with a speed: two pty ports that bytes go between at a line's rate, in a process of its own.

    cable = Cable(folder, bytes_per_s=11_520); cable.host, cable.device are ports to open; cable.unplug(), cable.plug()

python -m support.throttled HOST_LINK DEVICE_LINK BYTES_PER_S FAULTS_PER_BYTE: the process. A pty has no baud itself.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
import tty
from pathlib import Path

from edgeloop.runtime.child import die_with_parent
from support.faults import environment, python_module
from support.noise import noisy

_TURN_S = 0.002
_SAVED_S = 0.1
"""So much of the line's time is made up for where this process was late."""


class Cable:
    """`faults`: flips, losses and doublings for each byte, both ways."""

    def __init__(self, folder: Path, *, bytes_per_s: float, faults: float = 0.0) -> None:
        self.host, self.device = folder / "host-port", folder / "device-port"
        self.bytes_per_s, self.faults = bytes_per_s, faults
        self._process: subprocess.Popen[str] | None = None
        self.plug()

    def plug(self) -> None:
        """Both ends are there, also as new ports after `unplug`."""
        command = python_module("support.throttled", self.host, self.device, self.bytes_per_s, self.faults)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def unplug(self) -> None:
        """Both ports are gone, with what was on the way."""
        process, self._process = self._process, None
        for link in (self.host, self.device):
            link.unlink(missing_ok=True)
        if process is not None:
            process.kill()
            process.communicate()

    close = unplug


class _Port:
    def __init__(self, link: str) -> None:
        self.master, self._slave = os.openpty()  # held open: who uses it may come and go
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        Path(link).symlink_to(os.ttyname(self._slave))


def main(host_link: str, device_link: str, bytes_per_s: str, faults: str) -> None:
    die_with_parent()
    host, device = _Port(host_link), _Port(device_link)
    print("ready", flush=True)
    rate, noise, rng = float(bytes_per_s), float(faults), random.Random(7)
    ways = [(host.master, device.master), (device.master, host.master)]
    allowed = [0.0, 0.0]
    before_s = time.monotonic()
    while True:
        time.sleep(_TURN_S)
        now_s = time.monotonic()
        for number, (source, sink) in enumerate(ways):
            allowed[number] = min(allowed[number] + rate * (now_s - before_s), rate * _SAVED_S)
            count = int(allowed[number])
            if count < 1:
                continue
            if not select.select([source], [], [], 0)[0]:
                allowed[number] = min(allowed[number], 2 * rate * _TURN_S)  # an idle line saves nothing up
                continue
            data = os.read(source, count)
            allowed[number] -= len(data)
            if noise:
                data, _hits = noisy(data, noise, rng)
            try:
                os.write(sink, data)
            except BlockingIOError:
                continue  # nobody reads there: lost, as on a line
        before_s = now_s


if __name__ == "__main__":
    main(*sys.argv[1:])
