"""The host's end of the telemetry: takes batches over HTTP and serial lines, commits, acknowledges, shows.

`start_collector` runs one inside this process; `edgeloop collect` is a skin over `run_collector`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeloop.telemetry.collector.server import CollectorHandle, run_collector, start_collector

__all__ = ["CollectorHandle", "run_collector", "start_collector"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgeloop.telemetry.collector import server

    return getattr(server, name)
