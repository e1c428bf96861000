"""Make a bundle of .tflite files that are finished, and sign one that exists. Host only."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.bundle.allowances import (
    Allowance,
    SignedAllowance,
    decode_allowances,
    encode_allowances,
    make_allowance,
    read_allowance,
)
from edgeloop.bundle.compiled import find_twin, with_answers_of
from edgeloop.bundle.limits import MAX_MODEL_BYTES, MAX_SIGNATURES_BYTES
from edgeloop.bundle.reader import Bundle, examine_bundle
from edgeloop.bundle.signatures import SignatureEntry, decode_signatures, encode_signatures, sign_manifest
from edgeloop.bundle.trust import is_valid_signature
from edgeloop.bundle.writer import BundleDraft, VariantDraft, write_archive
from edgeloop.errors import ConfigError, DelegateError, UsageError
from edgeloop.paths import missing_hint

if TYPE_CHECKING:
    from edgeloop.affine import Array
    from edgeloop.bundle.keys import SigningKey
    from edgeloop.contract import Contract
    from edgeloop.runtime import Session, TensorInfo
    from edgeloop.targets import Target

Frames = Iterable["Array | Mapping[str, Array]"]


@dataclass(frozen=True)
class Packed:
    """A draft of finished models. `not_run`: variants that this machine cannot run: their inputs and outputs were
    checked, what they compute was not.
    """

    draft: BundleDraft
    not_run: tuple[str, ...] = ()


def pack(
    name: str,
    version: int,
    target: Target,
    contract: Contract,
    models: Mapping[str, Path],
    frames: Frames | None,
    *,
    source_of_frames: str = "given",
) -> Packed:
    """Check each model against the contract and put them into a draft, with golden samples out of `frames` (None:
    without).

    models: file by variant name, the one that the target runs first; on an Edge TPU a compiled one comes first anyway.
    Raises RefusedError, ConfigError or DataError for a model that is none or does not fit the contract.
    """
    from edgeloop.bundle.golden_maker import make_golden

    contents = {variant: read_model(path) for variant, path in models.items()}
    schemes: dict[str, str] = {}
    not_run = []
    for variant, content in contents.items():
        try:
            schemes[variant] = _scheme_after_checks(variant, content, contract)
        except DelegateError:  # compiled for an accelerator that is not here
            check_tensors(variant, *declared_tensors(content), contract)
            not_run.append(variant)
    runnable = {variant: contents[variant] for variant in schemes}
    golden = make_golden(contract, frames, runnable) if frames is not None and runnable else None
    for variant in not_run:
        twin = find_twin(contents[variant], runnable)
        if golden is not None:
            if not twin:
                raise UsageError(
                    f"variant {variant}: no other variant is the model it was compiled from, so devices cannot test it",
                    hint=f"pack that one, too, or --no-golden ({variant} alone needs neither)",
                )
            golden = with_answers_of(golden, twin, variant)
    first = tuple(not_run) if target.has_edgetpu else ()
    drafts = [
        VariantDraft(
            variant, contents[variant], schemes.get(variant, "compiled"), delegates_of(target, variant in schemes)
        )
        for variant in dict.fromkeys((*first, *contents))
    ]
    provenance: dict[str, Any] = {
        "made_by": "bundle create",
        "created_s": int(time.time()),
        "sources": {
            variant: {"file": path.name, "sha256": _sha256(contents[variant])} for variant, path in models.items()
        },
    }
    if golden is not None:
        provenance["golden_frames"] = source_of_frames
    return Packed(
        BundleDraft(name, version, target.id, contract, drafts, golden, provenance=provenance), tuple(not_run)
    )


def synthetic_frames(
    contract: Contract, models: Sequence[Path], count: int = 32, seed: int = 0
) -> Iterator[dict[str, Array]]:
    """Frames from a random generator, for golden samples without data: soft color fields and noise, or normal numbers.

    Good enough to tell whether a runtime computes the model; real samples tell more.
    """
    import numpy as np

    from edgeloop.preprocess import resize

    random = np.random.default_rng(seed)
    shapes = _input_shapes(models)
    for i in range(count):
        frame: dict[str, Array] = {}
        for spec, shape in zip(contract.inputs, shapes, strict=True):
            if spec.kind == "image" and spec.size is not None:
                side = (3, 6, 12, 48)[i % 4]
                pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
                frame[spec.name] = resize(pixels, *spec.size, "stretch")
            else:
                values = random.standard_normal(spec.shape or shape) * np.asarray(spec.std) + np.asarray(spec.mean)
                frame[spec.name] = values.astype(np.float32)
        yield frame


def sign_bundle(path: Path, key: SigningKey, output: Path | None = None) -> None:
    """Add a signature to a bundle, in place or as `output`. What is in it is verified by hash, whoever signed it
    before.

    Signatures of other keys that are valid, and exceptions, stay. Raises RefusedError for a damaged bundle.
    """
    bundle = Bundle.open(path, allow_unsigned=True)
    raw = bundle.raw_manifest
    others = [
        entry
        for entry in examine_bundle(path).signatures
        if entry.public_key.raw != key.public_key.raw and is_valid_signature(entry.public_key.raw, entry.signature, raw)
    ]
    entries: list[SignatureEntry] = [sign_manifest(raw, key), *others]
    _rewrite(bundle, entries, decode_allowances(bundle.raw_signatures()), output or path)


def allow_older(
    path: Path, key: SigningKey, devices: Sequence[str] = (), until_s: float | None = None, output: Path | None = None
) -> Allowance:
    """Sign that this very bundle may follow a higher version: on these devices (none: on any), until a Unix time (None:
    for ever). An exception that this key signed before is replaced. Nothing else of the bundle changes.

    Raises RefusedError for a bundle that is damaged or that nobody signed whom this machine trusts, UsageError.
    """
    bundle = Bundle.open(path)
    made = make_allowance(bundle.raw_manifest, key, devices, until_s)
    signatures = bundle.raw_signatures()
    others = [a for a in decode_allowances(signatures) if a.entry.public_key.raw != key.public_key.raw]
    _rewrite(bundle, decode_signatures(signatures), [made, *others], output or path)
    return read_allowance(made.statement)


def _rewrite(
    bundle: Bundle, entries: Sequence[SignatureEntry], allowances: Sequence[SignedAllowance], path: Path
) -> None:
    """The same manifest and members under other signatures. Raises UsageError."""
    signatures = encode_signatures(entries, encode_allowances(allowances))
    if len(signatures) > MAX_SIGNATURES_BYTES:
        raise UsageError("so many signatures and exceptions do not fit into a bundle", hint="name fewer devices")
    members = {name: bundle.read(name) for name in bundle.manifest.members()}
    write_archive(path, bundle.raw_manifest, signatures, members)


def read_model(path: Path) -> bytes:
    """Raises UsageError for a file that is not there, too large, or no .tflite."""
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise UsageError(f"model {path}: larger than {MAX_MODEL_BYTES >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"model {path}: {error.strerror}", hint=missing_hint(path)) from error
    if content[4:8] != b"TFL3":
        raise UsageError(f"{path} is not a .tflite model", hint="edgeloop convert makes one of a trained model")
    return content


def _scheme_after_checks(variant: str, model: bytes, contract: Contract) -> str:
    from edgeloop.runtime import open_session

    with open_session(model) as session:
        check_tensors(variant, session.inputs, session.outputs, contract)
        return _scheme(session)


def check_tensors(
    variant: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], contract: Contract
) -> None:
    """Raises ConfigError where a model of these inputs and outputs does not fit the contract."""
    from edgeloop.postprocess import compile_output
    from edgeloop.preprocess import compile_input

    if len(inputs) != len(contract.inputs):
        raise ConfigError(f"variant {variant}: the model has {len(inputs)} inputs, the contract {len(contract.inputs)}")
    try:
        for spec, info in zip(contract.inputs, inputs, strict=True):
            compile_input(spec, info)
        compile_output(contract.output, outputs)
    except ConfigError as error:
        raise ConfigError(f"variant {variant}: {error.message}", hint=error.hint) from error


def declared_tensors(model: bytes) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Inputs and outputs as the file itself has them, for a model that no interpreter here opens."""
    from edgeloop.graph import Graph
    from edgeloop.graph.dtypes import ELEMENT_TYPES
    from edgeloop.runtime import TensorInfo

    def infos(indices: Sequence[int]) -> list[TensorInfo]:
        found = []
        for index in indices:
            tensor = graph.main.tensors[index]
            dtype = ELEMENT_TYPES[tensor.dtype].numpy
            if dtype is None:
                raise ConfigError(f"tensor {tensor.name!r} holds {tensor.dtype}, which is no number")
            found.append(TensorInfo(tensor.name, index, tensor.shape, dtype, tensor.affine))
        return found

    graph = Graph.read(model)
    return infos(graph.main.inputs), infos(graph.main.outputs)


def _scheme(session: Session) -> str:
    """A name for how the model is quantized: int8, uint8, int16, or what it has inside where its input is float."""
    given = str(session.inputs[0].dtype)
    if session.inputs[0].affine.is_quantized:
        return given
    inner = {str(info.dtype) for info in session.tensors() if info.affine.is_quantized}
    return "float" if not inner else f"{min(inner, key=len)}, float input"


def delegates_of(target: Target, runs_on_cpu: bool) -> tuple[str, ...]:
    """The wish list of a variant: a compiled one runs on its accelerator alone."""
    accelerator = target.accelerator.delegate if target.accelerator is not None else "edgetpu"
    if not runs_on_cpu:
        return (accelerator,)
    return tuple(d for d in target.delegates if d != "edgetpu") or ("xnnpack", "cpu")


def _input_shapes(models: Sequence[Path]) -> list[tuple[int, ...]]:
    from edgeloop.runtime import open_session

    for model in models:
        try:
            with open_session(model) as session:
                return [info.shape[1:] if info.shape[:1] == (1,) else info.shape for info in session.inputs]
        except DelegateError:
            continue
    return []


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
