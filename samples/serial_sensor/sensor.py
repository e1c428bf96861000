"""A made-up accelerometer on a motor: three values a line, over a pseudo-terminal that looks like any serial port.

    python samples/serial_sensor/sensor.py --port /tmp/edgeloop-sensor --seconds 60

Every ten seconds the motor is in another state: sound, out of balance, with a worn bearing.
"""

from __future__ import annotations

import argparse
import os
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LABELS = ("sound", "unbalanced", "bearing")
RATE_HZ = 200
WINDOW = 64
TURNS_HZ = 25.0
STATE_S = 10.0


def shake(state: int, count: int, random: np.random.Generator, start: int = 0) -> np.ndarray:
    """float32 [count, 3]: x, y, z in g. A shaft that turns; unbalanced it shakes harder, a worn bearing knocks."""
    t = (start + np.arange(count)) / RATE_HZ
    phase, load = random.uniform(0, 2 * np.pi), random.uniform(0.8, 1.2)
    across = (0.6 if state == 1 else 0.1) * load
    out = np.stack(
        [
            across * np.sin(2 * np.pi * TURNS_HZ * t + phase),
            across * np.cos(2 * np.pi * TURNS_HZ * t + phase),
            1.0 + 0.03 * np.sin(2 * np.pi * 2 * TURNS_HZ * t),
        ],
        axis=1,
    )
    if state == 2:
        since = np.mod(t + phase, 1 / 11.0)  # a knock 11 times a second, which rings at 80 Hz
        knock = 0.9 * load * np.exp(-since * 60) * np.sin(2 * np.pi * 80 * since)
        out += knock[:, None] * np.array([0.5, 0.5, 1.0])
    return (out + random.normal(0, 0.05, out.shape)).astype(np.float32)


def windows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [n, 64, 3], states [n]), every state as often."""
    random = np.random.default_rng(seed)
    states = np.arange(count) % len(LABELS)
    return np.stack([shake(int(s), WINDOW, random) for s in states]), states


def lines(seconds: float, seed: int = 0) -> Iterator[bytes]:
    random = np.random.default_rng(seed)
    per_state = int(STATE_S * RATE_HZ)
    for start in range(0, int(seconds * RATE_HZ), per_state):
        count = min(per_state, int(seconds * RATE_HZ) - start)
        for x, y, z in shake(start // per_state % len(LABELS), count, random, start):
            yield f"{x:.3f},{y:.3f},{z:.3f}\n".encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--port", type=Path, default=Path("/tmp/edgeloop-sensor"), help="a link to the port is put there"
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--speed", type=float, default=1.0, help="so many times faster than a real one")
    args = parser.parse_args()
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    args.port.unlink(missing_ok=True)
    args.port.symlink_to(os.ttyname(theirs))
    print(f"{args.port}: {RATE_HZ * args.speed:g} lines a second for {args.seconds / args.speed:g} s", flush=True)
    try:
        began = time.monotonic()
        for i, line in enumerate(lines(args.seconds)):
            time.sleep(max(0.0, began + i / (RATE_HZ * args.speed) - time.monotonic()))
            os.write(ours, line)  # waits where nobody reads
    finally:
        args.port.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
