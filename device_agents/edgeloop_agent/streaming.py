"""A source's frames with what a model says of them, for `Model.stream`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edgeloop.errors import DataError
from edgeloop_agent.model import Model, ModelResult
from edgeloop_agent.sources import Source
from edgeloop_agent.sources.live import LiveSource

_LOOK_EVERY_S = 0.5  # a signal is answered between two waits


@dataclass(frozen=True)
class StreamItem:
    """One frame of a source with what the model says of it. name: the source's (a file, a frame number)."""

    result: ModelResult
    frame: Any
    name: str


def warn_of(kind: str, detail: str) -> None:
    """What happens to a source that nobody asked about: a stream that waits for a camera must not do so in silence."""
    warnings.warn(f"{kind}: {detail}", RuntimeWarning, stacklevel=4)


def results_of(
    model: Model,
    source: Source,
    count: int | None,
    on_bad_frame: Callable[[DataError], None] | None,
    on_event: Callable[[str, str], object],
) -> Iterator[StreamItem]:
    """Closes the source at its end, and when the iterator is closed."""
    taken = 0
    try:
        while taken != count:
            taken += 1
            try:
                item = _next(source, on_event)
                if item is None:
                    return
                frame, name = item
                found = StreamItem(model(frame), frame, name)
            except DataError as error:
                if on_bad_frame is None:
                    raise
                on_bad_frame(error)
                continue
            yield found
    finally:
        source.close()


def _next(source: Source, on_event: Callable[[str, str], object]) -> tuple[Any, str] | None:
    if isinstance(source, LiveSource):
        has_frame = False
        while not has_frame:
            has_frame = source.wait(_LOOK_EVERY_S)
            for kind, detail in source.take_events():
                on_event(kind, detail)
    return source.read()
