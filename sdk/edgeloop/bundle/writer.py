"""Write a bundle: collect the files, describe them in the manifest, sign it, and put one file in place at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle.archive_writer import pack_archive
from edgeloop.bundle.checked import as_unicode, canonical_json
from edgeloop.bundle.files import BUNDLE, check_may_replace, write_atomically
from edgeloop.bundle.golden import Golden, encode_golden
from edgeloop.bundle.limits import GOLDEN, MANIFEST, RECIPE, REPORT, SIGNATURES, model_file
from edgeloop.bundle.manifest import (
    FileEntry,
    GoldenIndex,
    Manifest,
    Metrics,
    Profile,
    Variant,
    encode_manifest,
)
from edgeloop.bundle.manifest_reading import decode_manifest
from edgeloop.bundle.signatures import encode_signatures, sign_manifest
from edgeloop.contract import Contract
from edgeloop.errors import DataError, RefusedError, UsageError
from edgeloop.version import VERSION

if TYPE_CHECKING:
    from edgeloop.bundle.keys import SigningKey

TESTED_RUNTIMES: Mapping[str, str] = {"litert": "2.1", "tflite-runtime": "2.14"}
"""Lowest version per runtime family that the extras `agent` and `agent-armv7` install."""


@dataclass(frozen=True)
class VariantDraft:
    """A model to go in. `delegates`: wish list in fallback order. `input_shapes`: of a shape bucket, see Variant."""

    name: str
    model: bytes
    scheme: str
    delegates: tuple[str, ...] = ()
    metrics: Metrics | None = None
    profile: Profile | None = None
    input_shapes: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class BundleDraft:
    """Everything a bundle is made of. The first variant is the one that the target runs."""

    name: str
    version: int
    target: str
    contract: Contract
    variants: Sequence[VariantDraft]
    golden: Golden | None = None
    recipe_toml: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, str] = field(default_factory=lambda: dict(TESTED_RUNTIMES))
    float_metrics: Mapping[str, float] = field(default_factory=dict)


def write_bundle(path: Path, draft: BundleDraft, key: SigningKey | None) -> Manifest:
    """Write the bundle to `path`, signed with `key` (None: unsigned). Same draft and key, same bytes.

    Raises UsageError or DataError for a draft that no reader would take, UsageError where it cannot be written.
    """
    files = {RECIPE: draft.recipe_toml.encode("utf-8"), REPORT: canonical_json(as_unicode(draft.report))}
    index = None
    if draft.golden is not None:
        index, files[GOLDEN] = encode_golden(draft.golden)
    manifest = _manifest(draft, index, files)
    members = {**{model_file(v.name): v.model for v in draft.variants}, **files}
    write_members(path, encode_manifest(manifest), members, [] if key is None else [key])
    return manifest


def write_members(path: Path, manifest: bytes, members: Mapping[str, bytes], keys: Sequence[SigningKey]) -> None:
    """Write manifest, signatures and members as one zip. Raises UsageError."""
    write_archive(path, manifest, encode_signatures([sign_manifest(manifest, key) for key in keys]), members)


def write_archive(path: Path, manifest: bytes, signatures: bytes, members: Mapping[str, bytes]) -> None:
    """Write the zip itself, atomically. Raises UsageError, also for a file there that is no bundle."""
    check_may_replace(path, BUNDLE)
    content = pack_archive({MANIFEST: manifest, SIGNATURES: signatures, **members})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _manifest(draft: BundleDraft, golden: GoldenIndex | None, files: Mapping[str, bytes]) -> Manifest:
    for variant in draft.variants:
        if variant.model[4:8] != b"TFL3":
            raise DataError(f"variant {variant.name}: this is not a .tflite model")
    manifest = Manifest(
        name=draft.name,
        version=draft.version,
        target=draft.target,
        contract=draft.contract,
        variants=tuple(
            Variant(v.name, model_file(v.name), _sha256(v.model), len(v.model), v.scheme, tuple(v.delegates), v.metrics,
                    v.profile, v.input_shapes)
            for v in draft.variants
        ),
        golden=golden,
        runtime=dict(draft.runtime),
        provenance={"edgeloop": VERSION, **as_unicode(draft.provenance)},
        float_metrics=dict(draft.float_metrics),
        files={name: FileEntry(_sha256(content), len(content)) for name, content in files.items()},
    )  # fmt: skip
    try:  # what is written is what a reader will hold it to
        return decode_manifest(encode_manifest(manifest))
    except RefusedError as error:
        raise UsageError(error.message.replace("manifest.json: ", "bundle: "), hint=error.hint) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
