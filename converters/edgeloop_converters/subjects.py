"""What is looked at: a bundle's variant, a model file or a model's source; and the float model to compare it with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeloop.bundle import Bundle, Manifest, Variant
from edgeloop.contract import Contract
from edgeloop.errors import RefusedError, UsageError
from edgeloop.graph import Graph
from edgeloop.padding import Shape
from edgeloop.paths import missing_hint
from edgeloop.progress import Progress
from edgeloop_converters.evaluate.run import DELEGATE
from edgeloop_converters.evaluate.scaled import is_scaled_otherwise
from edgeloop_converters.float_cache import load_float_model
from edgeloop_converters.frontends import ConversionOptions, to_float_tflite
from edgeloop_converters.frontends.conversion import GivenSizes
from edgeloop_converters.frontends.table import is_code_source

FLOAT = "float"
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Subject:
    """What is evaluated. contract: None where it has to be found. float_sha256: of its float model, where known.
    twin_sha256: of the float model that its inner tensors stand for, where that is another one (equalization).

    input_shapes, buckets: of a shape bucket, its own shapes and those of all by variant; see `bundle.Variant`.
    """

    name: str
    file: str
    model: bytes = field(repr=False)
    scheme: str
    contract: Contract | None = None
    float_sha256: object = None
    twin_sha256: object = None
    target: str = ""
    bundle_name: str = ""
    version: int | None = None
    input_shapes: tuple[Shape, ...] = ()
    buckets: Mapping[str, tuple[Shape, ...]] = field(default_factory=dict)


def open_subject(
    path: Path, variant: str | None, *, allow_unsigned: bool, trust_code: bool, progress: Progress
) -> Subject:
    """A bundle's variant, a .tflite as it is, or any other model (`module:function`, too) through its frontend."""
    head = b"" if is_code_source(path) else _head(path)
    if path.suffix == ".bundle" or (head.startswith(_ZIP) and path.suffix != ".keras"):
        bundle = Bundle.open(path, allow_unsigned=allow_unsigned)
        manifest = bundle.manifest
        chosen = _on_this_host(manifest, variant, progress)
        made_from = manifest.provenance
        return Subject(
            chosen.name,
            chosen.file,
            bundle.model(chosen.name),
            chosen.scheme,
            manifest.contract,
            _float_sha256(made_from, chosen.name),
            _of_variant(made_from, "twin_sha256_of", chosen.name),
            manifest.target,
            manifest.name,
            manifest.version,
            chosen.input_shapes,
            {v.name: v.input_shapes for v in manifest.buckets()},
        )
    if variant is not None:
        raise UsageError(f"--variant {variant}: {path} is a model, not a bundle with variants")
    if head[4:8] == b"TFL3":
        model = path.read_bytes()
        scheme = _scheme(model)
        return Subject(scheme, str(path), model, scheme)
    converted = to_float_tflite(path, ConversionOptions(trust_code=trust_code), progress=progress)
    return Subject(FLOAT, str(path), converted.tflite, FLOAT)


def _on_this_host(manifest: Manifest, name: str | None, progress: Progress) -> Variant:
    """The variant of that name; without one the first that needs no accelerator, which no host has. Raises UsageError
    for one that does.
    """
    chosen = manifest.variant_for(DELEGATE, name)
    if chosen.needs_accelerator:
        others = ", ".join(v.name for v in manifest.variants if not v.needs_accelerator)
        raise UsageError(
            f"variant {chosen.name} of {manifest.name} is compiled for an accelerator and does not run on this host",
            hint=f"one that does: {others}" if others else "give the model that it was compiled from",
        )
    if name is None and chosen != manifest.variants[0]:
        progress.note(f"{manifest.name}: {chosen.name} is looked at, since {manifest.variants[0].name} is compiled for "
                      "an accelerator")  # fmt: skip
    return chosen


def _float_sha256(provenance: Mapping[str, Any], variant: str) -> object:
    return _of_variant(provenance, "float_sha256_of", variant) or provenance.get("float_sha256")


def _of_variant(provenance: Mapping[str, Any], key: str, variant: str) -> object:
    by_variant = provenance.get(key)
    return by_variant.get(variant) if isinstance(by_variant, Mapping) else None


def _head(path: Path) -> bytes:
    """The first bytes; none of a folder."""
    try:
        with path.open("rb") as file:
            return file.read(8)
    except IsADirectoryError:
        return b""
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint=missing_hint(path)) from error


def _scheme(model: bytes) -> str:
    """The data type of the first input, as a scheme's name. Raises RefusedError for a corrupt file."""
    from edgeloop.graph import Graph

    main = Graph.read(model).main
    if not main.inputs:
        raise RefusedError("the model has no input")
    dtype = main.tensors[main.inputs[0]].dtype
    return FLOAT if dtype.startswith("float") else dtype


def float_reference(
    subject: Subject, reference: str | Path | None, trust_code: bool, progress: Progress
) -> tuple[bytes | None, tuple[str, ...]]:
    """The float model to compare with, None where it is not to be had, and what the user should know about that."""
    if reference is not None:
        shape: GivenSizes | None = None
        if subject.input_shapes and subject.contract is not None:
            by_name = {s.name: shape for s, shape in zip(subject.contract.inputs, subject.input_shapes, strict=True)}
            shape = by_name if len(by_name) > 1 else subject.input_shapes[0]
        options = ConversionOptions(trust_code=trust_code, shape=shape)
        found = to_float_tflite(Path(reference), options, progress=progress).tflite
        _check_takes_the_same(found, subject, reference)
        return found, ()
    cached = load_float_model(subject.float_sha256)
    if cached is not None:
        return cached, ("compared with the float model of this bundle, kept on this host",)
    if subject.scheme == FLOAT:
        return subject.model, ()
    why = "it is not on this host" if subject.float_sha256 else "it is not known"
    return None, (f"no comparison with the float model: {why} (give it with --reference MODEL)",)


def _check_takes_the_same(float_model: bytes, subject: Subject, reference: str | Path) -> None:
    """Raises UsageError for a --reference that cannot be what the subject was made from."""
    theirs, mine = (sorted(t.shape for t in Graph.read(model).inputs) for model in (float_model, subject.model))
    if [math.prod(shape) for shape in theirs] != [math.prod(shape) for shape in mine]:
        takes = " and ".join(", ".join(str(list(shape)) for shape in shapes) for shapes in (theirs, mine))
        raise UsageError(
            f"--reference {reference} is another model: it and {subject.file} take {takes}",
            hint="give the float model that this one was made from",
        )


def twin_of(subject: Subject, float_model: bytes | None) -> tuple[bytes | None, tuple[str, ...]]:
    """The float model whose inner tensors those of the subject stand for, and a note where it is missing."""
    if float_model is None or (subject.twin_sha256 is None and not is_scaled_otherwise(float_model, subject.model)):
        return float_model, ()
    twin = load_float_model(subject.twin_sha256)
    note = "no error per layer: its layers were equalized, and the equalized float model is not on this host"
    return twin, () if twin is not None else (note,)
