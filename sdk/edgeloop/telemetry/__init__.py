"""Telemetry: what a device reports, how it is kept until it is delivered, and how it is delivered.

Device side (standard library and cbor2 only): `report`, `histogram`, `codec`, `framing`, `spool`, `delivery`,
`transports`.
Nothing is imported here: an agent's supervisor takes only the modules it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeloop.telemetry.query import open_telemetry as open

__all__ = ["open"]


def __getattr__(name: str) -> Any:
    if name != "open":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgeloop.telemetry.query import open_telemetry

    return open_telemetry
