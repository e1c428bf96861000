"""Fixtures that every test may use. Real small things: the packaged digits model, ../shared/data where it is there."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Machines are shared: how long an example takes says nothing about the code.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("starts_first") is None)


@pytest.fixture(autouse=True)
def edgeloop_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys, caches and state of a test live in its own folder."""
    home = tmp_path / "edgeloop-home"
    monkeypatch.setenv("EDGELOOP_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real models and data are missing: ../shared/data is not there")
    return SHARED_DATA


@pytest.fixture(scope="session")
def digits_tflite() -> Path:
    """The packaged float digits model: [1, 8, 8, 1] in 0..1 -> [1, 10] softmax; the file has no signature."""
    return Path(str(resources.files("edgeloop_converters.demo") / "digits.tflite"))
