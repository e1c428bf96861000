"""Each file here flashes a card of its own and boots it once: files run side by side."""

from __future__ import annotations

import pytest

from support.booted_site import Workshop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop.open(tmp_path_factory.mktemp("booted"))
