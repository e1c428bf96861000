"""Add a variant that was compiled elsewhere to a bundle that exists: all else stays, the version rises, a key signs
anew. Host only.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeloop.bundle.compiled import find_twin, with_answers_of
from edgeloop.bundle.golden import encode_golden
from edgeloop.bundle.limits import GOLDEN, NAME_PATTERN, model_file
from edgeloop.bundle.manifest import FileEntry, GoldenIndex, Manifest, Variant, encode_manifest
from edgeloop.bundle.manifest_reading import decode_manifest
from edgeloop.bundle.packer import check_tensors, declared_tensors, delegates_of, read_model
from edgeloop.bundle.writer import write_members
from edgeloop.errors import ConfigError, RefusedError, UsageError

if TYPE_CHECKING:
    from edgeloop.bundle.keys import SigningKey
    from edgeloop.bundle.reader import Bundle
    from edgeloop.targets import Target


@dataclass(frozen=True)
class Addition:
    """A manifest with the new variant, and every file it lists. `twin`: the variant it was compiled from."""

    manifest: Manifest
    members: dict[str, bytes]
    twin: str

    def write(self, path: Path, key: SigningKey | None) -> None:
        """Sign and write, whole or not at all. Raises UsageError."""
        write_members(path, encode_manifest(self.manifest), self.members, [] if key is None else [key])


def add_compiled(bundle: Bundle, name: str, file: Path, target: Target, version: int) -> Addition:
    """The bundle with `file` as variant `name`: before the others where the target has the accelerator, and expected to
    answer as the variant it was compiled from.

    Raises UsageError where it is not compiled, the name is taken, or it was compiled from none of the bundle's
    variants; ConfigError where its inputs and outputs do not fit the contract; RefusedError for a damaged file.
    """
    manifest = bundle.manifest
    known = [variant.name for variant in manifest.variants]
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a variant", hint="letters, digits, '.', '_' and '-', at most 64")
    if name in known:
        raise UsageError(f"{bundle.path.name} has a variant {name!r}", hint=f"another name; it has: {', '.join(known)}")
    model = read_model(file)
    _check_compiled(file, model)
    another = f"edgeloop bundle extract {bundle.path.name} {known[-1]}, and compile that"
    try:
        check_tensors(name, *declared_tensors(model), manifest.contract)
    except ConfigError as error:  # the contract of a bundle is fixed, so the file is wrong
        raise ConfigError(f"{file} is another model than the bundle's: {error.message}", hint=another) from error
    twin = find_twin(model, {variant.name: bundle.model(variant.name) for variant in manifest.variants})
    if not twin:
        raise UsageError(
            f"{file} was compiled from none of the variants of {bundle.path.name}: inputs, outputs or ops differ",
            hint=another,
        )
    source = manifest.variant(twin)
    new = replace(
        source, name=name, file=model_file(name), sha256=_sha256(model), bytes=len(model),
        scheme=f"{source.scheme}, compiled", delegates=delegates_of(target, False), metrics=None, profile=None,
    )  # fmt: skip
    files, golden = _files(bundle, twin, name)
    accelerator = target.accelerator
    is_first = accelerator is not None and accelerator.delegate in new.delegates
    variants = (new, *_after(manifest.variants, twin)) if is_first else (*manifest.variants, new)
    added = {"file": file.name, "from": twin, "created_s": int(time.time()), "base_version": manifest.version}
    changed = replace(
        manifest, version=version, target=target.id, variants=variants, golden=golden,
        files={member: FileEntry(_sha256(content), len(content)) for member, content in files.items()},
        provenance={**manifest.provenance, "added": {**_added(manifest), name: added}},
    )  # fmt: skip
    try:
        checked = decode_manifest(encode_manifest(changed))
    except RefusedError as error:
        raise UsageError(error.message.replace("manifest.json: ", "bundle: "), hint=error.hint) from error
    models = {v.file: model if v.name == name else bundle.read(v.file) for v in variants}
    return Addition(checked, {**models, **files}, twin)


def _check_compiled(file: Path, model: bytes) -> None:
    from edgeloop.graph import Graph
    from edgeloop.graph.kinds import EDGETPU_OP

    if not any(op.name == EDGETPU_OP for op in Graph.read(model).main.ops):
        raise UsageError(
            f"{file} is not compiled for the Edge TPU: it has no {EDGETPU_OP}",
            hint="several models that a CPU runs: edgeloop bundle create --variant NAME=FILE --variant ...",
        )


def _files(bundle: Bundle, twin: str, name: str) -> tuple[dict[str, bytes], GoldenIndex | None]:
    """The bundle's files that are no models, golden samples with the new variant's answers; and their index."""
    files = {member: bundle.read(member) for member in bundle.manifest.files}
    golden = bundle.golden()
    if golden is None:
        return files, None
    index, files[GOLDEN] = encode_golden(with_answers_of(golden, twin, name))
    return files, index


def _after(variants: tuple[Variant, ...], twin: str) -> tuple[Variant, ...]:
    """The twin first: it is what runs where the accelerator does not."""
    return tuple(sorted(variants, key=lambda variant: variant.name != twin))


def _added(manifest: Manifest) -> dict[str, object]:
    added = manifest.provenance.get("added")
    return dict(added) if isinstance(added, dict) else {}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
