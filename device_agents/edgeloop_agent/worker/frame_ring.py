"""Frames of one model's source for other models of the agent: a ring in shared memory. One writes, any number read.

Nobody waits for anybody: the writer overwrites the oldest frame, a reader takes the newest and sees when it was
overwritten meanwhile. The memory is sparse: only what frames touch is taken.

    page 0     number of the newest frame (0: none yet), whether there will be no more
    slot i     number (0 while it is written), capture time, axes, shape, dtype, name; then the array's bytes
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeloop.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_FRAME_BYTES = 32 << 20  # a 4K picture has 25 MB
_SLOTS = 3
_HEAD_BYTES = 4096
_SLOT_BYTES = _HEAD_BYTES + MAX_FRAME_BYTES
_NEWEST, _OVER = 0, 1  # 64-bit words of page 0
_META = struct.Struct("<QB4Q8s256s")  # capture time in ns, axes, shape, dtype, name
_MAX_AXES = 4


@dataclass(frozen=True)
class RingFrame:
    """captured_ns: of `time.perf_counter_ns`, which all processes of a machine share on Linux."""

    number: int
    array: npt.NDArray[Any]
    name: str
    captured_ns: int


class FrameRing:
    """Made by the supervisor, mapped again by workers from its descriptor."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = os.memfd_create("edgeloop-frames") if fd is None else fd
        size = _HEAD_BYTES + _SLOTS * _SLOT_BYTES
        if fd is None:
            os.ftruncate(self.fd, size)
        self._map = mmap.mmap(self.fd, size)
        self._words = memoryview(self._map).cast("Q")

    @property
    def newest(self) -> int:
        """The number of the newest frame, from 1."""
        return self._words[_NEWEST]

    @property
    def is_over(self) -> bool:
        return bool(self._words[_OVER])

    def end(self) -> None:
        """There will be no more frames."""
        self._words[_OVER] = 1

    def put(self, array: npt.NDArray[Any], name: str, captured_ns: int) -> None:
        """Raises DataError for what no slot holds."""
        import numpy as np

        if array.nbytes > MAX_FRAME_BYTES or array.ndim > _MAX_AXES:
            raise DataError(f"{name}: {list(array.shape)} {array.dtype} is too large to be shared between models")
        number = self.newest + 1
        at = _HEAD_BYTES + number % _SLOTS * _SLOT_BYTES
        self._words[at // 8] = 0
        _fence()
        shape = (*array.shape, 0, 0, 0, 0)[:_MAX_AXES]
        label = name.encode("utf-8", "replace")[-256:]
        _META.pack_into(self._map, at + 8, captured_ns, array.ndim, *shape, array.dtype.str.encode(), label)
        np.ndarray(array.shape, array.dtype, self._map, at + _HEAD_BYTES)[...] = array
        _fence()
        self._words[at // 8] = number
        _fence()
        self._words[_NEWEST] = number

    def take(self) -> RingFrame | None:
        """A copy of the newest frame; None where there is none, or it was overwritten while it was copied."""
        import numpy as np

        number = self.newest
        at = _HEAD_BYTES + number % _SLOTS * _SLOT_BYTES
        if not number or not self._holds(at, number):
            return None
        captured_ns, axes, *shape, dtype, name = _META.unpack_from(self._map, at + 8)
        if not self._holds(at, number):
            return None
        kind: np.dtype[Any] = np.dtype(dtype.rstrip(b"\0").decode())
        array = np.ndarray(shape[:axes], kind, self._map, at + _HEAD_BYTES).copy()
        if not self._holds(at, number):
            return None
        return RingFrame(number, array, name.rstrip(b"\0").decode("utf-8", "replace"), captured_ns)

    def _holds(self, at: int, number: int) -> bool:
        """Whether the slot there still is this frame's: what was read of it before is whole."""
        _fence()
        return self._words[at // 8] == number

    def close(self) -> None:
        self._words.release()
        os.close(self.fd)


def _fence() -> None:
    """What was stored before is seen before what is stored after, on Arm as well: the scheduler's lock is a full
    barrier (smp_mb__after_spinlock in the kernel's __schedule)."""
    os.sched_yield()
