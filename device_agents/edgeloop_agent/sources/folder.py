"""`folder:DIR`: every image below a folder, in the order of the sorted paths (so class folder after class folder);
`folder:DIR?watch=1`: those that come into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

from edgeloop.pictures import pictures_below, read_picture

if TYPE_CHECKING:
    from edgeloop_agent.sources import Frame, Source, SourceSpec, Wanted


def open_folder(spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> Source:
    if not spec.options.get("watch"):
        return FolderSource(spec, wanted, skip=skip, loop=loop)
    from edgeloop_agent.sources.watched import WatchedFolder

    return WatchedFolder(spec, wanted, skip=skip, loop=loop)


class FolderSource:
    """Images as uint8 [H, W, 3] BGR; for a contract of kind "tensor" in RGB order, as the converter read them."""

    def __init__(self, spec: SourceSpec, wanted: Wanted, *, skip: int = 0, loop: bool = False) -> None:
        self._root = spec.path.rstrip("/") or "/"
        self._names = pictures_below(self._root)
        self._loop = loop
        self._next = skip % len(self._names) if loop else skip
        self._to_rgb = wanted.input.kind == "tensor"
        self._at_least = wanted.input.decode_size

    def read(self) -> tuple[Frame, str] | None:
        at = self._next
        if at >= len(self._names):
            if not self._loop:
                return None
            at = 0
        self._next = at + 1
        name = self._names[at]
        frame = read_picture(f"{self._root}/{name}", self._at_least)
        return (cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if self._to_rgb else frame), name

    def close(self) -> None:
        self._names = []
