"""One card is flashed for all tests here; it and a copy of it are booted once, at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.booted_site import Site, Workshop, site_of
from support.emulated_board import clone


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop.open(tmp_path_factory.mktemp("booted"))


@pytest.fixture(scope="package")
def card(shop: Workshop) -> Path:
    """As `flash` made it; tests boot copies of it."""
    return shop.card()


@pytest.fixture(scope="package")
def site(shop: Workshop, card: Path) -> Iterator[Site]:
    with site_of(shop, clone(card, shop.folder / "a.img"), "a") as found:
        yield found
