"""Alerts that fire and that did (see `telemetry.alerts`)."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, Index, String, Table, Text

from edgeloop.telemetry.store.schema import METADATA, ROW_ID

ALERTS = Table(
    "alerts",
    METADATA,
    Column("id", ROW_ID, primary_key=True),
    # What it is about while it fires, NULL after: of several collectors on one store only one begins it.
    Column("open_key", String(64), unique=True),
    Column("rule", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("bundle", Text, nullable=False),
    Column("severity", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("value", Double),
    Column("fired_s", Double, nullable=False),
    Column("resolved_s", Double),
    Column("told_fired", Boolean, nullable=False),
    Column("told_resolved", Boolean, nullable=False),
    Index("alerts_by_time", "fired_s"),
)
