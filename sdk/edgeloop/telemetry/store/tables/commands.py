"""Commands on their way to devices, and what came of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, LargeBinary, String, Table, Text

from edgeloop.telemetry.store.schema import METADATA

COMMANDS = Table(
    "commands",
    METADATA,
    Column("id", String(16), primary_key=True),  # the command's own
    Column("device", Text, nullable=False),
    Column("boot", String(16), nullable=False),  # "" for what any start of the agent may answer
    Column("kind", Text, nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # as the operator signed it
    Column("made_s", Float, nullable=False),
    Column("expires_s", Float, nullable=False),  # not handed out later; the device has a limit of its own
    Column("delivered_s", Float),
    Column("answered_s", Float),
    Column("is_ok", Boolean),
    Column("answer", LargeBinary),  # as the device sent it
    Index("commands_by_device", "device", "answered_s"),
)
