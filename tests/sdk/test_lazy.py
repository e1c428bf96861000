"""Names of packages that load on first use."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from edgeloop.lazy import lazy_names

PACKAGES = ("edgeloop", "edgeloop.bundle", "edgeloop.runtime", "edgeloop.telemetry", "edgeloop.telemetry.collector")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_package_is_there_and_listed(package: str) -> None:
    module = importlib.import_module(package)
    names = getattr(module, "_HOMES", None) or module.__all__
    for name in names:
        assert getattr(module, name) is not None
    assert set(names) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


def test_homes_name_attributes_modules_and_other_names() -> None:
    homes = {"dumps": "json", "codec": "json.decoder:", "Decoder": ".decoder:JSONDecoder"}
    find, names = lazy_names("json", homes)
    assert (find("dumps"), find("codec").__name__) == (importlib.import_module("json").dumps, "json.decoder")
    assert find("Decoder") is importlib.import_module("json").JSONDecoder
    assert {"dumps", "codec", "Decoder", "loads"} <= set(names())


def test_importing_the_packages_loads_none_of_their_modules() -> None:
    code = f"import {', '.join(PACKAGES)}; import sys; print(*(m for m in sys.modules if m.startswith('edgeloop')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {*PACKAGES, "edgeloop.lazy"}
