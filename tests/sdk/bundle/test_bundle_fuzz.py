"""Whatever bytes arrive: a bundle is refused, or its content is exactly what was signed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeloop.bundle import Bundle, TrustStore, load_or_create_signing_key
from edgeloop.bundle.manifest import Manifest
from edgeloop.bundle.manifest_reading import decode_manifest, manifest_from_dict
from edgeloop.bundle.signatures import decode_signatures
from edgeloop.bundle.trust import PublicKey
from edgeloop.errors import ConfigError, RefusedError
from support.bundles import members_of, pack_zip, small_bundle

_SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """(path to scribble on, the good bytes, the good content, the trust store)."""
    folder = tmp_path_factory.mktemp("fuzz")
    key = load_or_create_signing_key(folder / "keys")
    path = small_bundle(folder, key)
    trust = TrustStore.of(key.public_key)
    return path, path.read_bytes(), _content(path, trust), trust


def _content(path: Path, trust: TrustStore) -> dict[str, object]:
    bundle = Bundle.open(path, trust=trust)
    golden = bundle.golden()
    assert golden is not None
    return {
        "manifest": bundle.manifest, "int8": bundle.model(), "float": bundle.model("float"), "recipe": bundle.recipe(),
        "report": bundle.report(), "golden": golden.inputs[""].tobytes(), "signed_by": bundle.signed_by,
    }  # fmt: skip


def _refused_or_the_same(path: Path, raw: bytes, good: dict[str, object], trust: TrustStore) -> None:
    path.write_bytes(raw)
    try:
        found = _content(path, trust)
    except RefusedError:
        return
    assert found == good


@_SETTINGS
@given(data=st.data())
def test_flipped_bytes(signed, data):
    path, raw, good, trust = signed
    changed = bytearray(raw)
    for position in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        changed[position] ^= data.draw(st.integers(1, 255))
    _refused_or_the_same(path, bytes(changed), good, trust)


def test_every_byte_of_the_zip_headers(signed):
    path, raw, good, trust = signed
    start = int.from_bytes(raw[-6:-2], "little")
    for position in (*range(43), *range(start, len(raw))):
        _refused_or_the_same(path, raw[:position] + bytes([raw[position] ^ 0x41]) + raw[position + 1 :], good, trust)


@_SETTINGS
@given(data=st.data())
def test_cut_inserted_and_moved_pieces(signed, data):
    path, raw, good, trust = signed
    a, b = sorted(data.draw(st.tuples(st.integers(0, len(raw)), st.integers(0, len(raw)))))
    piece = data.draw(st.sampled_from([b"", raw[:64], raw[-64:], raw[a:b], b"\0" * 7]))
    _refused_or_the_same(path, raw[:a] + piece + raw[b:], good, trust)


@_SETTINGS
@given(length=st.integers(0, 4000))
def test_truncations(signed, length):
    path, raw, good, trust = signed
    _refused_or_the_same(path, raw[: min(length, len(raw) - 1)], good, trust)


@_SETTINGS
@given(data=st.data())
def test_shuffled_and_swapped_members(signed, data):
    path, raw, good, trust = signed
    path.write_bytes(raw)
    members = members_of(path)
    names = data.draw(st.permutations(list(members)))
    swap = data.draw(st.booleans())
    contents = [members[n] for n in (data.draw(st.permutations(names)) if swap else names)]
    _refused_or_the_same(path, pack_zip(zip(names, contents, strict=True)), good, trust)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@_SETTINGS
@given(data=st.data())
def test_a_manifest_with_anything_in_any_place_is_refused_or_read(signed, data):
    _path, _raw, good, _trust = signed
    manifest = good["manifest"].to_dict()
    place = manifest
    for _ in range(data.draw(st.integers(1, 4))):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
        else:
            place[key] = data.draw(_JSON)
            break
    try:
        assert isinstance(manifest_from_dict(manifest), Manifest)
    except RefusedError as error:
        assert "\n" not in error.message


@_SETTINGS
@given(raw=st.binary(max_size=300))
def test_noise_for_the_small_readers(raw):
    for read in (decode_manifest, decode_signatures):
        with pytest.raises(RefusedError):
            read(raw)
    with pytest.raises(ConfigError):
        PublicKey.from_text(raw.decode("latin-1"))
