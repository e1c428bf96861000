"""The host's end of the telemetry: takes batches over HTTP and serial lines, commits, acknowledges, shows.

`start_collector` runs one inside this process; `edgeloop collect` is a skin over `run_collector`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop.telemetry.collector.server import CollectorHandle, run_collector, start_collector

__all__ = ["CollectorHandle", "run_collector", "start_collector"]

__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, ".server"))
