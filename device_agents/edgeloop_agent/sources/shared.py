"""One source for several models: the worker that owns it puts each frame it reads into a ring, others take the newest.

`source = "model:NAME"` in a [model.*] table. Frames are those that the model NAME reads, as it reads them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from edgeloop.errors import DataError, UsageError
from edgeloop_agent.sources import Source, Wanted, open_source, parse_source
from edgeloop_agent.sources.live import LiveSource
from edgeloop_agent.worker.frame_ring import FrameRing

_POLL_S = 0.004


def open_frames(start: Mapping[str, Any], wanted: Wanted) -> Source:
    """The source of a worker's start message. Raises as `open_source`."""
    if start["takes_fd"] is not None:
        return RingSource(FrameRing(start["takes_fd"]), wanted)
    source = open_source(parse_source(start["source"]), wanted, skip=start["skip"], loop=start["loop"])
    if start["gives_fd"] is None:
        return source
    ring = FrameRing(start["gives_fd"])
    return SharingLive(source, ring) if isinstance(source, LiveSource) else Sharing(source, ring)


class RingSource(LiveSource):
    """Frames that another model's worker reads. It may come later, and be another one after a crash."""

    def __init__(self, ring: FrameRing, wanted: Wanted) -> None:
        self._ring = ring
        self._is_color = wanted.input.kind == "image" and wanted.input.color != "gray"
        self._seen = ring.newest

    def wait(self, timeout_s: float) -> bool:
        until_s = time.monotonic() + timeout_s
        while self._ring.newest == self._seen and not self._ring.is_over:
            if time.monotonic() >= until_s:
                return False
            time.sleep(_POLL_S)
        return True

    def read(self) -> tuple[Any, str] | None:
        while True:
            self.wait(0.5)
            if self._ring.newest == self._seen:
                if self._ring.is_over:
                    return None
                continue
            frame = self._ring.take()
            if frame is None:  # overwritten meanwhile: there is a newer one
                continue
            self.dropped += frame.number - self._seen - 1
            self._seen, self.captured_ns = frame.number, frame.captured_ns
            if self._is_color and frame.array.dtype == "uint8" and frame.array.ndim == 2:
                raise DataError(f"{frame.name}: the model that reads the source takes gray pictures, this one color")
            return frame.array, frame.name

    def close(self) -> None:
        self._seen = self._ring.newest


class Sharing:
    """A source whose frames other models get, too."""

    def __init__(self, source: Source, ring: FrameRing) -> None:
        self._source = source
        self._ring = ring

    def read(self) -> tuple[Any, str] | None:
        """See Source.read."""
        item = self._source.read()
        if item is not None:
            _share(self._ring, *item, time.perf_counter_ns())
        return item

    def close(self) -> None:
        self._source.close()


class SharingLive(LiveSource):
    """The same of a source that the loop waits for."""

    def __init__(self, source: LiveSource, ring: FrameRing) -> None:
        self._source = source
        self._ring = ring

    @property
    def dropped(self) -> int:  # type: ignore[override]
        return self._source.dropped

    @property
    def captured_ns(self) -> int:  # type: ignore[override]
        return self._source.captured_ns

    def wait(self, timeout_s: float) -> bool:
        return self._source.wait(timeout_s)

    def read(self) -> tuple[Any, str] | None:
        item = self._source.read()
        if item is not None:
            _share(self._ring, *item, self._source.captured_ns)
        return item

    def close(self) -> None:
        self._source.close()

    def take_events(self) -> list[tuple[str, str]]:
        return self._source.take_events()


def _share(ring: FrameRing, frame: Any, name: str, captured_ns: int) -> None:
    if isinstance(frame, dict):
        raise UsageError("frames of several inputs cannot be shared between models", hint="give each its own source")
    ring.put(frame, name, captured_ns)
