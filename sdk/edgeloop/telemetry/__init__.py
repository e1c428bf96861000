"""Telemetry: what a device reports, how it is kept until it is delivered, and how it is delivered.

Device side (standard library and cbor2 only): `report`, `histogram`, `codec`, `framing`, `spool`, `delivery`,
`transports`.
Nothing is imported here: an agent's supervisor takes only the modules it needs.
"""
