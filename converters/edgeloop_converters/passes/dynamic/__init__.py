"""Models whose work depends on the moment: exit heads. Width variants are `prune` at several goals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop_converters.passes.dynamic.exits import add_exits
    from edgeloop_converters.passes.dynamic.places import Place, find_places

__all__ = ["Place", "add_exits", "find_places"]

_HOMES = {"add_exits": ".exits", "find_places": ".places", "Place": ".places"}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
