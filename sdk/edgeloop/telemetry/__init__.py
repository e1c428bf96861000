"""Telemetry: what a device reports, how it is kept until it is delivered, and how it is delivered.

On both ends: `report`, `histogram` (values), `wire` (their bytes), `transports`, `serial_link`, `commands`, `samples`.
On the device: `spool` (where reports wait), `delivery` (what is sent when), `identity` (who it is).
On the host: `collector` (takes them in), `store`, `fleet` (as it is now), `alerts`, `reading` and `export` (asking for
them later), `simulation`.

The device's side needs the standard library and cbor2 only.
Nothing is imported here: an agent's supervisor takes only the modules it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeloop.lazy import lazy_names

if TYPE_CHECKING:
    from edgeloop.telemetry.query import open_telemetry as open

__all__ = ["open"]

__getattr__, __dir__ = lazy_names(__name__, {"open": ".query:open_telemetry"})
