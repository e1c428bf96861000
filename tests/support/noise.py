"""A bad line: bytes flipped, lost and doubled."""

from __future__ import annotations

import random


def noisy(data: bytes, rate: float, rng: random.Random) -> tuple[bytes, int]:
    """`data` with about `rate` faults per byte, a third each of flipped, lost and doubled; and how many there were."""
    out = bytearray()
    position = faults = 0
    while True:
        reach = int(rng.expovariate(rate))  # bytes until the next fault
        out += data[position : position + reach]
        position += reach
        if position >= len(data):
            return bytes(out), faults
        faults += 1
        kind = rng.randrange(3)
        if kind == 0:
            out.append(data[position] ^ (1 << rng.randrange(8)))
        elif kind == 1:
            out += data[position : position + 1] * 2
        position += 1
