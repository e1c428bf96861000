"""A key of the test's own and a small bundle signed with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeloop.bundle import SigningKey, TrustStore, load_or_create_signing_key
from support.bundles import small_bundle


@pytest.fixture
def key() -> SigningKey:
    return load_or_create_signing_key()


@pytest.fixture
def trust(key: SigningKey) -> TrustStore:
    return TrustStore.of(key.public_key)


@pytest.fixture
def bundle(tmp_path: Path, key: SigningKey) -> Path:
    return small_bundle(tmp_path, key)
