"""Small bundles for tests, and ways to forge them: the forger may hold a trusted key, so that what lies behind the
signature is reached, too."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from edgeloop.bundle import BundleDraft, Golden, SigningKey, VariantDraft, write_bundle
from edgeloop.bundle.checked import canonical_json
from edgeloop.bundle.npz import fixed_zip_info
from edgeloop.bundle.signatures import encode_signatures, sign_manifest
from edgeloop.contract import Contract, InputSpec, OutputSpec

NO_MODEL = b"\x1c\x00\x00\x00TFL3" + bytes(range(256)) * 4
"""Has a .tflite's mark and is small: what only travels need not run."""

CONTRACT = Contract((InputSpec(kind="tensor", shape=(4,)),), OutputSpec("classification", ("no", "yes")))


def small_golden() -> Golden:
    inputs = {"": np.arange(12, dtype=np.float32).reshape(3, 4)}
    outputs = {"int8": {"litert": [np.ones((3, 2), np.float32)], "tflite-runtime": [np.zeros((3, 2), np.float32)]}}
    return Golden(inputs, outputs, {"litert": 2.0, "tflite-runtime": 4.0})


def small_draft(**changes: Any) -> BundleDraft:
    variants = [
        VariantDraft("int8", NO_MODEL, "int8", ("xnnpack", "cpu")),
        VariantDraft("float", NO_MODEL + b"float", "float", ("cpu",)),
    ]
    values: dict[str, Any] = {
        "name": "small", "version": 3, "target": "rpi4", "contract": CONTRACT, "variants": variants,
        "golden": small_golden(), "recipe_toml": "a = 1\n", "report": {"accuracy": 0.5},
    }  # fmt: skip
    return BundleDraft(**{**values, **changes})


def small_bundle(folder: Path, key: SigningKey | None, **changes: Any) -> Path:
    path = folder / "small.bundle"
    write_bundle(path, small_draft(**changes), key)
    return path


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {info.filename: file.read(info) for info in file.infolist()}


def pack_zip(members: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_LZMA) -> bytes:
    """Members in this order under these names, as the writer would write them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members:
            file.writestr(fixed_zip_info(name), content, compress_type=compression)
    return buffer.getvalue()


def forge(path: Path, key: SigningKey, manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """Write a bundle whose manifest says anything, signed with `key`."""
    raw = canonical_json(manifest)
    signatures = encode_signatures([sign_manifest(raw, key)])
    path.write_bytes(pack_zip([("manifest.json", raw), ("signatures.json", signatures), *members.items()]))


def taken_apart(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(manifest, the members it lists) of a bundle, to be changed and forged anew."""
    members = members_of(path)
    manifest = json.loads(members.pop("manifest.json"))
    members.pop("signatures.json")
    return manifest, members


def replace_member(manifest: dict[str, Any], members: dict[str, bytes], name: str, content: bytes) -> None:
    """Put `content` in, with the right hash and size in the manifest."""
    members[name] = content
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    if name in manifest["files"]:
        manifest["files"][name] = entry
    for variant in manifest["variants"]:
        if variant["file"] == name:
            variant.update(entry)
