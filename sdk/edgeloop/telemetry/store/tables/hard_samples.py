"""What is known of the hard samples that devices sent; the samples themselves are files beside the store."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text, UniqueConstraint

from edgeloop.telemetry.store.schema import METADATA

HARD_SAMPLES = Table(
    "hard_samples",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("device", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("kind", String(8), nullable=False),  # of the file: "png" or "npz"
    Column("reason", String(32), nullable=False),
    Column("bundle", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("variant", Text, nullable=False),
    Column("confidence", Float),
    Column("answer", Text, nullable=False),  # JSON object, cut to a length
    Column("time_s", Float, nullable=False),  # the device's clock
    Column("received_s", Float, nullable=False),
    UniqueConstraint("device", "sha256", name="hard_sample_key"),
    Index("hard_samples_by_arrival", "device", "received_s"),
)
