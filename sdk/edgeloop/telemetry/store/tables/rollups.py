"""Reports summed up by hour and day, per device and over all devices (see `store.rollups`)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from edgeloop.telemetry.store.schema import METADATA, ROW_ID

ALL_DEVICES = 0
"""Stands for a device's id in a row over all of them."""

MODELS = Table(
    "models",
    METADATA,
    Column("id", ROW_ID, primary_key=True),
    Column("bundle", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("variant", Text, nullable=False),
    Column("delegate_ran", Text, nullable=False),
    UniqueConstraint("bundle", "version", "variant", "delegate_ran", name="model_key"),
)

ROLLUPS = Table(
    "rollups",
    METADATA,
    Column("width_s", Integer, primary_key=True, autoincrement=False),  # 3600 or 86400
    Column("device_id", BigInteger, primary_key=True, autoincrement=False),  # or ALL_DEVICES
    Column("start_s", BigInteger, primary_key=True, autoincrement=False),  # by the device's clock, as selections are
    Column("model_id", BigInteger, primary_key=True, autoincrement=False),
    Column("reports", BigInteger, nullable=False),
    Column("inferences", Double, nullable=False),
    Column("latency", LargeBinary, nullable=False),  # CBOR {stage: Histogram.to_wire()}
    Index("rollups_by_start", "width_s", "start_s"),
    sqlite_with_rowid=False,
)

ROLLUP_STATE = Table(
    "rollup_state",
    METADATA,
    Column("scope", Integer, primary_key=True, autoincrement=False),  # rollups.Scope
    # Every report up to this id is in the scope's roll-ups, none behind it; changed in their transaction.
    Column("folded_id", BigInteger, nullable=False),
)
