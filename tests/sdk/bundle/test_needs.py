"""The lowest runtime versions in a manifest are held to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeloop.bundle import Bundle
from edgeloop.bundle.needs import check_runtime
from edgeloop.errors import UsageError
from edgeloop.runtime import RuntimeInfo
from support.agents import make_bundle

HERE = RuntimeInfo("ai-edge-litert", "2.10.1", "litert")


@pytest.mark.parametrize(
    ("runtime", "fits"),
    [
        ({}, True),
        ({"litert": "2.10"}, True),
        ({"litert": "2.9.5", "tflite-runtime": "9"}, True),
        ({"litert": "2.10.2"}, False),
        ({"litert": "3"}, False),
        ({"tflite-runtime": "2.14"}, False),
        ({"litert": "nightly"}, True),
    ],
)
def test_versions_are_compared_as_numbers_within_a_family(tmp_path: Path, runtime: dict[str, str], fits: bool) -> None:
    manifest = replace(Bundle.open(make_bundle(tmp_path / "d.bundle")).manifest, runtime=runtime)
    if fits:
        check_runtime(manifest, HERE)
        check_runtime(manifest, replace(HERE, version="unknown"))
        return
    with pytest.raises(UsageError) as caught:
        check_runtime(manifest, HERE)
    assert caught.value.hint
