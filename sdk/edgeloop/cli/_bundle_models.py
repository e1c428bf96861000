"""`edgeloop bundle create BUNDLE --add-variant NAME=FILE` and `edgeloop bundle extract`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from edgeloop.bundle import Bundle
    from edgeloop.bundle.adding import Addition
    from edgeloop.contract import Contract

_OF_A_NEW_BUNDLE = ("variant", "contract", "labels", "name", "data", "no_golden")


def prepare_addition(args: argparse.Namespace, console: Console) -> Addition:
    """All but signing and writing."""
    from edgeloop.bundle import claim_version
    from edgeloop.bundle.adding import add_compiled
    from edgeloop.targets import load_target

    name, file = _named_file(args.add_variant)
    strange = [f"--{flag.replace('_', '-')}" for flag in _OF_A_NEW_BUNDLE if getattr(args, flag)]
    if strange:
        raise UsageError(
            f"{strange[0]} is for a new bundle; --add-variant keeps what a bundle has", hint="leave it out"
        )
    if len(args.models) != 1:
        raise UsageError(
            "--add-variant needs one bundle", hint="edgeloop bundle create my.bundle --add-variant edgetpu=FILE"
        )
    bundle = _open(args.models[0], console)
    target = load_target(args.target or bundle.manifest.target)
    addition = add_compiled(bundle, name, file, target, bundle.manifest.version)
    version = _version(bundle, args.version, claim_version)
    console.note(
        f"{name} was compiled from {addition.twin}: its inputs and outputs fit the contract and it is expected to "
        "answer the same; what it computes is not checked here"
    )
    return replace(addition, manifest=replace(addition.manifest, version=version))


def extract(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle.files import TFLITE, check_may_replace

    bundle = _open(args.bundle, console)
    variant = bundle.manifest.variant(args.variant)
    path = args.output or Path(f"{bundle.manifest.name}_{variant.name}.tflite")
    check_may_replace(path, TFLITE)
    if path.is_file():
        console.note(f"{path} was there already and is replaced")
    try:
        path.write_bytes(bundle.model(variant.name))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="name another: -o FILE") from error
    data = {"file": str(path), "variant": variant.name, "bytes": variant.bytes, "sha256": variant.sha256}
    console.result(data, f"{path}: {variant.name} of {bundle.manifest.name} {bundle.manifest.version}")
    return EXIT_DONE


def _version(bundle: Bundle, wanted: int | None, claim: Any) -> int:
    """Higher than that of the bundle, which may come from another machine."""
    old = bundle.manifest.version
    if wanted is not None and wanted <= old:
        raise UsageError(f"--version {wanted}: the bundle has version {old} already", hint=f"at least {old + 1}")
    version: int = claim(bundle.manifest.name, wanted)
    return version if version > old else int(claim(bundle.manifest.name, old + 1))


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise UsageError(f"--add-variant {text!r}: write NAME=FILE", hint="--add-variant edgetpu=model_edgetpu.tflite")
    return name, Path(file)


def _open(path: Path, console: Console) -> Bundle:
    """Whoever signed it: what is in it is verified by hash, and that its signature is not trusted here is said."""
    from edgeloop.bundle import Bundle

    bundle = Bundle.open(path, allow_unsigned=True)
    if bundle.signed_by is None:
        console.note(f"{path.name} is not signed by a key this machine trusts")
    return bundle


def range_doubt_of(contract: Contract, model: bytes) -> str:
    """Whether the contract's scaling goes past the model's only input; "" where it does not."""
    from edgeloop.graph import Graph
    from edgeloop.pixel_range import range_doubt

    inputs = Graph.read(model).inputs
    if len(inputs) != 1 or inputs[0].dtype not in ("int8", "uint8"):
        return ""
    return range_doubt(contract.inputs[0], inputs[0].affine, inputs[0].dtype)
