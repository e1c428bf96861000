"""Devices that were enrolled, tokens, and people who may log in. Secrets are here as hashes only."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text

from edgeloop.telemetry.store.schema import METADATA

REGISTRY = Table(
    "registry",
    METADATA,
    Column("device", Text, primary_key=True),
    Column("group_name", Text, nullable=False),  # `group` is a word of SQL
    Column("tags", Text, nullable=False),  # JSON object of texts
    Column("status", String(16), nullable=False),  # "enrolled", "revoked", or "known": tagged, never enrolled
    Column("kind", String(16), nullable=False),  # "certificate", "bearer" or ""
    Column("credential", String(64), unique=True),  # SHA-256 of the certificate or of the secret
    Column("expires_s", Float),  # of the credential; NULL: never
    # A renewed one, until it is used for the first time: its device may never have got it.
    Column("renewal", String(64), unique=True),
    Column("renewal_expires_s", Float),
    Column("proof", String(64), nullable=False),  # of the public key or secret that enrolled: makes a repeat the same
    Column("token_id", Text, nullable=False),
    Column("enrolled_s", Float),
    Column("enrolled_from", Text, nullable=False),
    Index("registry_by_group", "group_name"),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("kind", String(16), nullable=False),  # "enroll", "api" or "session"
    Column("hash", String(64), nullable=False),  # SHA-256 of 256 random bits: nothing to guess, so no slow hash
    Column("subject", Text, nullable=False),  # enroll: the one device it is for, or ""; api: its name; session: user
    Column("role", String(16), nullable=False),  # of an api token; "" else
    Column("uses", Integer),  # NULL: any number
    Column("used", Integer, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_s", Float),
    Column("revoked_s", Float),
)

USERS = Table(
    "users",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("role", String(16), nullable=False),  # "viewer" or "operator"
    Column("password", Text, nullable=False),  # scrypt, with its parameters and salt
    Column("created_s", Float, nullable=False),
    Column("created_by", Text, nullable=False),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("time_s", Float, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("origin", Text, nullable=False),  # an address, or "command line"
    Column("detail", Text, nullable=False),  # JSON object
)
