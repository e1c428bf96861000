"""Tampered and hostile bundles: one line that names the member, never a use of what they hold."""

from __future__ import annotations

import json
import lzma
import struct
import tracemalloc
import zipfile
import zlib

import pytest

from edgeloop.bundle import Bundle, TrustStore, inspect_bundle
from edgeloop.bundle.checked import canonical_json
from edgeloop.errors import RefusedError
from support.bundles import NO_MODEL, forge, members_of, pack_zip, replace_member, small_bundle, taken_apart


def refused(path, trust, match=None, **options):
    with pytest.raises(RefusedError, match=match) as caught:
        Bundle.open(path, trust=trust, **options)
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(path.name)
    return caught.value


def repack(path, **changes):
    """The bundle with other content for some members, hashes and signature left as they were."""
    members = members_of(path)
    members.update({name.replace("__", "/"): content for name, content in changes.items()})
    path.write_bytes(pack_zip(members.items()))


@pytest.mark.parametrize(
    "member", ["models/int8.tflite", "models/float.tflite", "golden.npz", "report.json", "recipe.toml"]
)
def test_any_change_of_a_file_is_refused_by_name(bundle, trust, member):
    content = bytearray(members_of(bundle)[member])
    content[len(content) // 2] ^= 1
    repack(bundle, **{member: bytes(content)})
    refused(bundle, trust, member)
    refused(bundle, TrustStore(), member, allow_unsigned=True)
    assert inspect_bundle(bundle, trust=trust)[1] == "tampered"


def test_a_changed_manifest_is_refused(bundle, trust):
    manifest = json.loads(members_of(bundle)["manifest.json"])
    repack(bundle, **{"manifest.json": canonical_json({**manifest, "version": 4})})
    refused(bundle, trust, r"manifest\.json is not what el:")
    refused(bundle, trust, r"manifest\.json is not what el:", allow_unsigned=True)
    refused(bundle, TrustStore(), r"manifest\.json is not what el:", allow_unsigned=True)
    assert inspect_bundle(bundle, trust=trust)[1] == "bad signature"


def test_a_changed_signature_is_refused(bundle, trust):
    signatures = json.loads(members_of(bundle)["signatures.json"])
    text = signatures["signatures"][0]["signature"]
    signatures["signatures"][0]["signature"] = ("B" if text[0] != "B" else "C") + text[1:]
    repack(bundle, **{"signatures.json": canonical_json(signatures)})
    refused(bundle, trust, "it or the signature was changed")


def test_a_signature_of_another_bundle_is_refused(bundle, trust, tmp_path, key):
    other = members_of(small_bundle(tmp_path / "other", key, version=9))["signatures.json"]
    repack(bundle, **{"signatures.json": other})
    refused(bundle, trust, "it or the signature was changed")


def test_a_signature_taken_away_is_refused(bundle, trust):
    repack(bundle, **{"signatures.json": canonical_json({"schema": 1, "signatures": []})})
    refused(bundle, trust, "is not signed")


def test_a_stranger_cannot_pass_under_a_trusted_fingerprint(bundle, trust, tmp_path, key):
    from edgeloop.bundle import load_or_create_signing_key

    stranger = load_or_create_signing_key(tmp_path / "stranger")
    manifest, members = taken_apart(bundle)
    forge(bundle, stranger, manifest, members)
    signatures = json.loads(members_of(bundle)["signatures.json"])
    signatures["signatures"][0]["fingerprint"] = key.fingerprint
    repack(bundle, **{"signatures.json": canonical_json(signatures)})
    refused(bundle, trust, "damaged")


def test_a_member_too_many_or_missing_is_refused_by_name(bundle, trust):
    members = members_of(bundle)
    bundle.write_bytes(pack_zip([*members.items(), ("models/evil.tflite", b"x")]))
    refused(bundle, trust, r"models/evil\.tflite is not in the manifest")
    bundle.write_bytes(pack_zip((n, c) for n, c in members.items() if n != "models/float.tflite"))
    refused(bundle, trust, r"models/float\.tflite is missing")
    for needed in ("manifest.json", "signatures.json"):
        bundle.write_bytes(pack_zip((n, c) for n, c in members.items() if n != needed))
        refused(bundle, trust, f"{needed} is missing")


@pytest.mark.parametrize(
    "name",
    ["../up", "models/../../up", "/etc/cron.d/x", "models\\x.tflite", "C:/x", "models//x", "models/", "a\x00b", "a\nb",
     ".hidden", "ünicode", "x" * 300, "./manifest.json", "models/./x"],
)  # fmt: skip
def test_names_that_leave_the_folder_are_refused(bundle, trust, name):
    bundle.write_bytes(pack_zip([*members_of(bundle).items(), (name, b"x")]))
    refused(bundle, trust)


def test_a_name_twice_is_refused(bundle, trust):
    members = members_of(bundle)
    with pytest.warns(UserWarning, match="Duplicate"):
        bundle.write_bytes(pack_zip([*members.items(), ("models/int8.tflite", b"evil")]))
    refused(bundle, trust, "twice")


@pytest.mark.parametrize("where", ["before", "after", "comment", "gap"])
def test_data_around_or_between_the_members_are_refused(bundle, trust, where):
    raw = bundle.read_bytes()
    end = len(raw) - 22
    start = struct.unpack_from("<L", raw, end + 16)[0]
    if where == "before":
        raw = b"#!/bin/sh\n" + raw
    elif where == "after":
        raw += b"\0"
    elif where == "comment":
        raw = raw[:-2] + b"\x01\x00x"
    else:
        raw = (
            raw[:start] + b"gap" + raw[start:end] + raw[end : end + 16] + struct.pack("<L", start + 3) + raw[end + 20 :]
        )
    bundle.write_bytes(raw)
    refused(bundle, trust)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_another_compression_is_refused(bundle, trust, compression):
    bundle.write_bytes(pack_zip(members_of(bundle).items(), compression))
    refused(bundle, trust, "compression method")


def edit_headers(raw: bytes, edit) -> bytes:
    """Apply `edit(central, local)` to the fields of the first member in both of its headers."""
    data = bytearray(raw)
    start = struct.unpack_from("<L", raw, len(raw) - 6)[0]
    central = list(struct.unpack_from("<4s6H3L5H2L", raw, start))
    local = list(struct.unpack_from("<4s5H3L2H", raw, 0))
    edit(central, local)
    struct.pack_into("<4s6H3L5H2L", data, start, *central)
    struct.pack_into("<4s5H3L2H", data, 0, *local)
    return bytes(data)


def _encrypted(central, local):
    central[3] |= 1
    local[2] |= 1


def _symlink(central, _local):
    central[15] = 0o120777 << 16


def _only_one_size(central, _local):
    central[9] += 1


def _huge(central, local):
    central[9] = local[8] = 0xFFFFFFF0


def _reaches_far(central, local):
    central[8] = local[7] = 0x7FFFFFFF


@pytest.mark.parametrize(
    ("edit", "says"),
    [(_encrypted, "encrypted"), (_symlink, "not a regular file"), (_only_one_size, "headers differ"),
     (_huge, "more than the allowed"), (_reaches_far, "reaches into")],
)  # fmt: skip
def test_zip_headers_that_lie_are_refused(bundle, trust, edit, says):
    bundle.write_bytes(edit_headers(bundle.read_bytes(), edit))
    refused(bundle, trust, says)


def _zip_of_one(name: str, packed: bytes, size: int, crc: int) -> bytes:
    raw_name = name.encode()
    fields = (63, 2, 14, 0, 33, crc, len(packed), size, len(raw_name), 0)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", *fields) + raw_name + packed
    central = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 63 | 3 << 8, *fields, 0, 0, 0, 0o100644 << 16, 0) + raw_name
    return local + central + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)


def _lzma_member(content: bytes, dictionary_bytes: int = 1 << 23) -> bytes:
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 23}])
    return struct.pack("<BBHBL", 9, 4, 5, 93, dictionary_bytes) + packer.compress(content) + packer.flush()


def test_a_bomb_is_stopped_at_its_declared_size_whatever_it_unpacks_to(tmp_path, trust):
    path = tmp_path / "bomb.bundle"
    bomb = _lzma_member(bytes(64 << 20))
    path.write_bytes(_zip_of_one("manifest.json", bomb, 1000, 0))
    assert path.stat().st_size < 20_000
    tracemalloc.start()
    try:
        refused(path, trust, "unpacks to more than its 1000 bytes")
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


def test_a_manifest_over_its_limit_is_refused_before_it_is_unpacked(tmp_path, trust):
    path = tmp_path / "big.bundle"
    content = bytes(8 << 20)
    path.write_bytes(_zip_of_one("manifest.json", _lzma_member(content), len(content), zlib.crc32(content)))
    refused(path, trust, "more than the allowed")


def test_an_lzma_dictionary_of_4_gib_is_refused(tmp_path, trust):
    path = tmp_path / "dictionary.bundle"
    path.write_bytes(_zip_of_one("manifest.json", _lzma_member(b"{}", 0xFFFFFFFF), 2, zlib.crc32(b"{}")))
    refused(path, trust, "LZMA dictionary")


@pytest.mark.parametrize(
    "packed", [b"", b"\x09\x04\x05\x00", b"\x09\x04\x05\x00\xff\0\0\0\0", b"\x09\x04\x05\x00]\0\0\x01\0" + b"\xff" * 40]
)
def test_broken_lzma_data_are_refused(tmp_path, trust, packed):
    path = tmp_path / "broken.bundle"
    path.write_bytes(_zip_of_one("manifest.json", packed, 2, 0))
    refused(path, trust, "LZMA")


def test_data_after_the_end_of_a_member_are_refused(tmp_path, trust):
    path = tmp_path / "tail.bundle"
    path.write_bytes(_zip_of_one("manifest.json", _lzma_member(b"{}") + b"hidden", 2, zlib.crc32(b"{}")))
    refused(path, trust, "after the end of its LZMA stream")


@pytest.mark.parametrize("raw", [b"", b"PK", b"\x1c\0\0\0TFL3" + bytes(40), b"PK\x05\x06" + bytes(18), bytes(100)])
def test_files_that_are_no_bundle_are_refused(tmp_path, trust, raw):
    path = tmp_path / "x.bundle"
    path.write_bytes(raw)
    refused(path, trust)
    with pytest.raises(RefusedError):
        inspect_bundle(path)


def test_more_members_than_a_bundle_can_have_are_refused(tmp_path, trust):
    path = tmp_path / "many.bundle"
    path.write_bytes(pack_zip((f"m{i}", b"") for i in range(100)))
    refused(path, trust, "100 members")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": "1"},
        {"format": "other"},
        {"version": -1},
        {"version": 1.5},
        {"version": True},
        {"version": 1 << 60},
        {"name": "../x"},
        {"name": 7},
        {"contract": None},
        {"contract": {"inputs": []}},
        {"contract": {"inputs": [{"kind": "image", "size": [0, 0]}]}},
        {"contract": {"inputs": [5]}},
        {"contract": {"inputs": [{"shape": 5}], "output": {"labels": 5}}},
        {"variants": {}},
        {"variants": []},
        {"variants": [None]},
        {"golden": []},
        {"golden": {"arrays": []}},
        {"golden": None},
        {"runtime": []},
        {"files": {"../x": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"recipe.toml": {"sha256": "x", "bytes": 1}}},
        {"files": {"recipe.toml": {"sha256": "0" * 64, "bytes": 1 << 40}}},
        {"provenance": 3},
        {"float_metrics": {"a": "b"}},
    ],
)
def test_nonsense_in_a_signed_manifest_is_refused(bundle, trust, key, change):
    manifest, members = taken_apart(bundle)
    forge(bundle, key, {**manifest, **change}, members)
    refused(bundle, trust)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../x"},
        {"file": "models/../x.tflite"},
        {"file": "/etc/passwd"},
        {"file": "golden.npz"},
        {"bytes": -1},
        {"bytes": "9"},
        {"sha256": None},
        {"delegates": "cpu"},
        {"delegates": [1]},
        {"metrics": 3},
        {"metrics": {"metric": 3}},
        {"profile": {"device": "x"}},
        {"scheme": None},
    ],
)
def test_nonsense_in_a_signed_variant_is_refused(bundle, trust, key, change):
    manifest, members = taken_apart(bundle)
    manifest["variants"][0].update(change)
    forge(bundle, key, manifest, members)
    refused(bundle, trust)


def test_a_manifest_of_a_newer_schema_says_to_update(bundle, trust, key):
    manifest, members = taken_apart(bundle)
    forge(bundle, key, {**manifest, "schema": 2}, members)
    assert refused(bundle, trust, "schema 2").hint == "install a newer edgeloop"


def test_keys_that_this_version_does_not_know_are_passed_over(bundle, trust, key):
    manifest, members = taken_apart(bundle)
    manifest["from_the_future"] = {"x": 1}
    manifest["variants"][0]["mood"] = "good"
    forge(bundle, key, manifest, members)
    assert Bundle.open(bundle, trust=trust).model() == NO_MODEL


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b'{"a":1,"a":2}',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":"\\ud800"}',
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_json_that_is_not_the_one_canonical_spelling_is_refused(bundle, key, trust, raw):
    from edgeloop.bundle.signatures import encode_signatures, sign_manifest

    members = members_of(bundle)
    members["manifest.json"] = raw
    members["signatures.json"] = encode_signatures([sign_manifest(raw, key)])
    bundle.write_bytes(pack_zip(members.items()))
    refused(bundle, trust, r"manifest\.json")
    members["signatures.json"] = raw
    bundle.write_bytes(pack_zip(members.items()))
    refused(bundle, trust, r"signatures\.json")


def test_a_signed_report_that_is_no_json_is_refused_when_it_is_read(bundle, trust, key):
    manifest, members = taken_apart(bundle)
    replace_member(manifest, members, "report.json", b"[" * 100_000)
    replace_member(manifest, members, "recipe.toml", b"\xff\xff")
    forge(bundle, key, manifest, members)
    opened = Bundle.open(bundle, trust=trust)
    with pytest.raises(RefusedError, match="report"):
        opened.report()
    with pytest.raises(RefusedError, match="recipe"):
        opened.recipe()
