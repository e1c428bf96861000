"""Telemetry: what a device reports, how it is kept until it is delivered, and how it is delivered.

Device side (standard library and cbor2 only): `report`, `histogram`, `codec`, `framing`, `spool`, `delivery`,
`transports`.
Nothing is imported here: an agent's supervisor takes only the modules it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop.telemetry.query import open_telemetry as open

__all__ = ["open"]

__getattr__, __dir__ = lazy_names(__name__, {"open": ".query:open_telemetry"})
