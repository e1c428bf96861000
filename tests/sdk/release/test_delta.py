"""A delta leads from one bundle file to exactly the other, or to nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeloop.bundle import SigningKey
from edgeloop.bundle.checked import canonical_json
from edgeloop.bundle.keys import create_signing_key
from edgeloop.errors import EdgeloopError, RefusedError
from edgeloop.release.delta import WORTH_IT, apply_delta, make_delta
from edgeloop.release.differences import add, find_runs, subtract
from support.bundles import pack_zip, taken_apart
from support.retrained import bundle_of, model_bytes, retrained

MODEL = model_bytes(80_000)
MEMORY_BOUND_BYTES = 50_000_000


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return create_signing_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Path:
    path = tmp_path_factory.mktemp("old") / "ic-1.bundle"
    bundle_of(path, MODEL, key)
    return path


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory, key: SigningKey, old: Path) -> tuple[Path, bytes]:
    """The next version, and the delta to it."""
    path = tmp_path_factory.mktemp("new") / "ic-2.bundle"
    bundle_of(path, retrained(MODEL)["all, by a step"], key, version=2)
    delta = make_delta(old, path)
    assert delta is not None
    return path, delta


def rebuilt(old: Path, delta: bytes, expected: Path, folder: Path) -> Path:
    (folder / "delta").write_bytes(delta)
    apply_delta(old, folder / "delta", folder / "out.bundle", sha256(expected))
    return folder / "out.bundle"


# what a delta may take of the full file at most, by what was trained
SHARES = {"head only": 0.35, "5 % of the weights": 0.2, "all, by a step": 0.45, "all, by three steps": 0.6}


@pytest.mark.parametrize("case", SHARES)
def test_the_published_bytes_come_out(case: str, old: Path, key: SigningKey, tmp_path: Path) -> None:
    new = tmp_path / "ic-2.bundle"
    bundle_of(new, retrained(MODEL)[case], key, version=2)
    delta = make_delta(old, new)
    assert delta is not None and len(delta) < SHARES[case] * new.stat().st_size
    assert rebuilt(old, delta, new, tmp_path).read_bytes() == new.read_bytes()


def test_what_was_trained_from_scratch_has_no_delta(old: Path, key: SigningKey, tmp_path: Path) -> None:
    new = tmp_path / "ic-2.bundle"
    bundle_of(new, retrained(MODEL)["from scratch"], key, version=2)
    assert make_delta(old, new) is None


def test_what_moved_is_found(old: Path, key: SigningKey, tmp_path: Path) -> None:
    """A longer description before the weights."""
    new = tmp_path / "ic-2.bundle"
    bundle_of(new, MODEL[:100] + b"longer text." + retrained(MODEL)["all, by a step"][100:], key, version=2)
    delta = make_delta(old, new)
    assert delta is not None and len(delta) < WORTH_IT * new.stat().st_size
    assert rebuilt(old, delta, new, tmp_path).read_bytes() == new.read_bytes()


def test_a_new_signature_alone_costs_next_to_nothing(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "ic-1.bundle"
    bundle_of(new, MODEL, create_signing_key(tmp_path / "another"))
    delta = make_delta(old, new)
    assert delta is not None and len(delta) < 3000
    assert rebuilt(old, delta, new, tmp_path).read_bytes() == new.read_bytes()


def test_what_was_packed_for_a_large_dictionary_is_not_rebuilt(old: Path, key: SigningKey, tmp_path: Path) -> None:
    """Bundles of older versions: a device would need 60 MB to pack them again."""
    new, plain = tmp_path / "ic-2.bundle", tmp_path / "plain.bundle"
    bundle_of(plain, retrained(MODEL)["all, by a step"], key, version=2)
    manifest, members = taken_apart(plain)
    new.write_bytes(pack_zip([("manifest.json", canonical_json(manifest)), *members.items()]))
    assert make_delta(old, new) is None


def test_from_another_file_it_leads_nowhere(stepped: tuple[Path, bytes], key: SigningKey, tmp_path: Path) -> None:
    other = tmp_path / "other.bundle"
    bundle_of(other, model_bytes(80_000, seed=7), key)
    with pytest.raises(RefusedError):
        rebuilt(other, stepped[1], stepped[0], tmp_path)
    assert not (tmp_path / "out.bundle").exists()


def test_no_more_is_written_than_allowed(old: Path, stepped: tuple[Path, bytes], tmp_path: Path) -> None:
    new, delta = stepped
    (tmp_path / "delta").write_bytes(delta)
    with pytest.raises(RefusedError, match="are allowed"):
        apply_delta(old, tmp_path / "delta", tmp_path / "out", sha256(new), max_bytes=new.stat().st_size - 1)


@pytest.mark.slow
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(place=st.floats(0, 1), piece=st.binary(max_size=40), cut=st.integers(0, 60))
def test_a_damaged_delta_is_refused(
    place: float, piece: bytes, cut: int, old: Path, stepped: tuple[Path, bytes], tmp_path: Path
) -> None:
    new, delta = stepped
    at = int(place * len(delta))
    hostile = delta[:at] + piece + delta[at + cut :]
    if hostile == delta:
        return
    with pytest.raises(RefusedError) as refused:
        rebuilt(old, hostile, new, tmp_path)
    assert "\n" not in refused.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["delta"]


numbers = st.integers(-2, 1 << 62) | st.integers(0, 4096) | st.booleans() | st.none() | st.text(max_size=3)
hostile_parts = st.one_of(
    st.fixed_dictionaries({"copy": st.lists(numbers, max_size=3)}),
    st.fixed_dictionaries({"data": numbers}),
    st.fixed_dictionaries(
        {
            "pack": st.fixed_dictionaries(
                {
                    "from": st.sampled_from(["models/int8.tflite", "manifest.json", "none", "../x"]),
                    "runs": st.lists(st.tuples(numbers, numbers), max_size=3),
                    "data": numbers,
                    "dictionary": st.sampled_from([0, 4096, 1 << 20, 2 << 20, 1 << 32]),
                }
            )
        }
    ),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(size=numbers, parts=st.lists(hostile_parts, max_size=4), data=st.binary(max_size=200))
def test_a_hostile_header_is_refused(size: object, parts: list[object], data: bytes, old: Path, tmp_path: Path) -> None:
    header = json.dumps({"bytes": size, "parts": parts}).encode()
    (tmp_path / "delta").write_bytes(b"edgeloop-delta/1\n" + len(header).to_bytes(4, "big") + header + data)
    with pytest.raises(EdgeloopError):
        apply_delta(old, tmp_path / "delta", tmp_path / "out", "0" * 64, max_bytes=1 << 20)
    assert [path.name for path in tmp_path.iterdir()] == ["delta"]


@given(st.binary(max_size=300), st.randoms())
def test_differences_lead_back(new: bytes, random: object) -> None:
    old = bytes((value * 31 + 7) % 256 for value in new[::-1])
    assert add(subtract(new, old), old) == new
    assert np.array_equal(
        np.frombuffer(subtract(new, old), np.uint8), np.frombuffer(new, np.uint8) - np.frombuffer(old, np.uint8)
    )


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_runs_cover_all_of_the_new_content(old: bytes, new: bytes) -> None:
    runs = find_runs(old, new)
    assert sum(length for length, _ in runs) == len(new)
    assert all(where == -1 or where + length <= len(old) for length, where in runs)


_CHILD = """
import sys
from pathlib import Path
from edgeloop.release.delta import apply_delta
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) * 1024
before = peak()
apply_delta(*map(Path, sys.argv[1:4]), sys.argv[4])
print(peak() - before, "numpy" in sys.modules)
"""


@pytest.mark.slow
def test_a_device_needs_little_memory(key: SigningKey, tmp_path: Path) -> None:
    """A child's peak resident set; the model is larger than the dictionary."""
    model, old, new = model_bytes(1_500_000), tmp_path / "old.bundle", tmp_path / "new.bundle"
    bundle_of(old, model, key)
    bundle_of(new, retrained(model)["head only"], key, version=2)
    delta = make_delta(old, new)
    assert delta is not None
    (tmp_path / "delta").write_bytes(delta)
    asked = [sys.executable, "-c", _CHILD, str(old), str(tmp_path / "delta"), str(tmp_path / "out"), sha256(new)]
    said = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=120).stdout.split()
    assert int(said[0]) < MEMORY_BOUND_BYTES and said[1] == "False"
    assert (tmp_path / "out").read_bytes() == new.read_bytes()
