"""Starting a native frontend's process before it is known what to ask: it imports for seconds. Light to import."""

from __future__ import annotations

from pathlib import Path

from edgeloop.errors import EdgeloopError
from edgeloop_converters.child import Child
from edgeloop_converters.frontends.table import FRONTENDS, detect

_MODULE = "edgeloop_converters.frontends.child"


def head_start(source: Path, *, trust_code: bool) -> Child | None:
    """The child that will convert `source`; None where none is needed, or what is wrong has to be said later."""
    try:
        frontend = detect(source)
        return native_child(source, frontend, trust_code=trust_code) if FRONTENDS[frontend].native else None
    except EdgeloopError:
        return None


def native_child(source: Path, frontend: str, *, trust_code: bool) -> Child:
    """A child that imports this frontend's libraries and waits to be asked. trust_code: it works in the current
    folder, where the model's own modules are."""
    return Child(_MODULE, *FRONTENDS[frontend].libraries, what=f"converting {source}", in_folder=not trust_code)
