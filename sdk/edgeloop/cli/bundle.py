"""Make, look at, sign and verify bundles: the signed files that take models to devices."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._bundle_exceptions import add_allow_older_arguments, allow, allowed, allowed_lines
from edgeloop.cli._bundle_models import extract, prepare_addition, range_doubt_of
from edgeloop.cli._bundle_packages import (
    add_agent_arguments,
    add_config_arguments,
    pack_a_config,
    pack_an_agent,
    show_package,
    verify_package,
)
from edgeloop.cli._bundle_text import summary
from edgeloop.cli._console import Console
from edgeloop.cli._words import examples_of
from edgeloop.errors import EXIT_DONE, RefusedError, UsageError

if TYPE_CHECKING:
    from edgeloop.bundle import Manifest, SigningKey
    from edgeloop.bundle.packer import Frames
    from edgeloop.contract import Contract

EPILOG = """example:
  edgeloop bundle create model_int8.tflite --contract c.toml --target rpi4
  edgeloop bundle create --variant int8=a.tflite --variant float=b.tflite --contract c.toml --data test/ -o ic.bundle
  edgeloop bundle extract ic.bundle int8 -o ic_int8.tflite
  edgeloop bundle create ic.bundle --add-variant edgetpu=ic_int8_edgetpu.tflite
  edgeloop bundle inspect ic.bundle
  edgeloop bundle verify ic.bundle --trust alice.pub
  edgeloop bundle sign ic.bundle
  edgeloop bundle allow-older ic-6.bundle --device pi-1 --until 2026-12-31
  edgeloop bundle agent --target rpi4 --python 3.11 -o agent-5.agent
  edgeloop bundle config agent.toml -o kitchen-2.config"""


DEFAULT_TARGET = "rpi4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="subverb", metavar="VERB", required=True)

    def verb(name: str, line: str) -> argparse.ArgumentParser:
        examples = examples_of(f"edgeloop bundle {name}", EPILOG)
        return verbs.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".", epilog=examples)

    create = verb(
        "create", "make a bundle of .tflite files that are finished (edgeloop convert makes one of a trained model)"
    )
    create.add_argument(
        "models", nargs="*", type=Path, metavar="MODEL", help=".tflite; its variant is named as the file"
    )
    create.add_argument("--variant", action="append", default=[], metavar="NAME=FILE", help="a model by variant name")
    create.add_argument(
        "--add-variant",
        metavar="NAME=FILE",
        help="add a model that was compiled for the Edge TPU to the bundle given as MODEL; all else in it stays",
    )
    create.add_argument("--contract", type=Path, metavar="FILE", help="a TOML file (docs/converting.md)")
    create.add_argument("--labels", type=Path, metavar="FILE", help="one label a line, in class order")
    create.add_argument("--target", help="board id or TOML; default: rpi4, or what a bundle was made for")
    create.add_argument("--name", help="default: the first model's file name")
    create.add_argument("--version", type=int, metavar="N", help="default: one more than the last made here")
    create.add_argument("--data", metavar="DATA", help="samples for the self-test on the device; default: random ones")
    create.add_argument(
        "--eval", metavar="DATA", help="measure every variant on it, and what a cascade of two would trade"
    )
    create.add_argument("--no-golden", action="store_true", help="without samples for a self-test")
    create.add_argument("--no-sign", action="store_true", help="devices refuse it, unless told otherwise on the bench")
    create.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: NAME-VERSION.bundle")

    extracted = verb("extract", "write a model of a bundle to a .tflite file")
    extracted.add_argument("bundle", type=Path)
    extracted.add_argument("variant", nargs="?", metavar="VARIANT", help="default: the first")
    extracted.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: NAME_VARIANT.tflite")

    inspect = verb("inspect", "show what is in a bundle, trusted or not")
    inspect.add_argument("bundle", type=Path)
    inspect.add_argument(
        "--trust", action="append", metavar="PATH", help="key file or folder instead of this machine's keys"
    )

    sign = verb("sign", "add your signature to a bundle")
    sign.add_argument("bundle", type=Path)
    sign.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: in place")

    add_agent_arguments(verb("agent", "make a version of the device agent, for `edgeloop-agent update`"))
    add_config_arguments(verb("config", "make a version of an agent's config, for `edgeloop-agent update`"))

    older = verb("allow-older", "sign that this very bundle may follow a higher version on devices")
    add_allow_older_arguments(older)

    verify = verb("verify", "check signature and content as a device does; exit 4 if it would refuse")
    verify.add_argument("bundle", type=Path)
    verify.add_argument(
        "--trust", action="append", metavar="PATH", help="key file or folder instead of this machine's keys"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    verbs = {"create": _create, "extract": extract, "inspect": _inspect, "sign": _sign, "verify": _verify}
    verbs |= {"allow-older": allow, "agent": pack_an_agent, "config": pack_a_config}
    return verbs[args.subverb](args, console)


def _create(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle.files import BUNDLE, check_can_write, check_may_replace

    check_can_write(args.output or Path("NAME-VERSION.bundle"), "output")
    if args.output is not None:
        check_may_replace(args.output, BUNDLE)
    if args.add_variant is not None:
        addition = prepare_addition(args, console)
        key = None if args.no_sign else _key(console)
        path = args.output or Path(f"{addition.manifest.name}-{addition.manifest.version}.bundle")
        addition.write(path, key)
        return _written(path, addition.manifest, key, console)
    if args.contract is None:
        raise UsageError("bundle create needs --contract FILE", hint="docs/converting.md says what a contract is")
    from edgeloop.bundle import claim_version, write_bundle
    from edgeloop.bundle.packer import pack
    from edgeloop.bundle.versions import doubt_of_version
    from edgeloop.contract import load_contract
    from edgeloop.contract_files import load_labels
    from edgeloop.targets import load_target

    models = _models(args.models, args.variant)
    contract = load_contract(args.contract)
    if args.labels is not None:
        contract = contract.with_labels(load_labels(args.labels))
    target = load_target(args.target or DEFAULT_TARGET)
    name = args.name or _as_name(next(iter(models.values())).stem)
    frames, source = _frames(args, contract, models)
    packed = pack(name, args.version or 1, target, contract, models, frames, source_of_frames=source)
    for variant in packed.not_run:
        console.note(
            f"variant {variant} is compiled for an accelerator that is not here: its inputs and outputs fit the "
            "contract, what it computes is not checked"
        )
    draft = packed.draft
    if clipped := range_doubt_of(contract, draft.variants[0].model):
        console.note(clipped)
    if args.eval is not None:
        from edgeloop_converters.measured_draft import with_measurements

        draft = with_measurements(draft, args.eval, not_run=packed.not_run, progress=console)
    key = None if args.no_sign else _key(console)
    if (doubt := doubt_of_version(name, args.version)) is not None:
        console.note(doubt)
    draft = replace(draft, version=claim_version(name, args.version))
    path = args.output or Path(f"{name}-{draft.version}.bundle")
    return _written(path, write_bundle(path, draft, key), key, console, draft.report.get("cascade"))


def _written(
    path: Path, manifest: Manifest, key: SigningKey | None, console: Console, cascade: Mapping[str, Any] | None = None
) -> int:
    data = {"bundle": str(path), "signed_by": None if key is None else key.fingerprint, **manifest.to_dict()}
    state = f"signed by {key.fingerprint}" if key is not None else "NOT signed: devices refuse it"
    text = f"{path}\n{summary(manifest, path.stat().st_size, state)}"
    if cascade is not None:
        from edgeloop_converters.cascades import cascade_lines

        data["cascade"] = cascade
        text = "\n".join([text, "", *cascade_lines(cascade)])
    console.result(data, text)
    return EXIT_DONE


def _inspect(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle import examine_bundle
    from edgeloop.bundle.package import is_package

    if is_package(args.bundle):
        return show_package(args, _trust(args), console)
    found = examine_bundle(args.bundle, trust=_trust(args))
    verdict = found.verdict
    state = {"valid": f"signed by {verdict.fingerprint}, trusted here"}.get(
        verdict.state, f"REFUSED: {verdict.problem}"
    )
    size = args.bundle.stat().st_size
    signers = [entry.public_key.fingerprint for entry in found.signatures]
    exceptions = allowed(args.bundle, _trust(args)) if verdict.state == "valid" else []
    data = {
        "bundle": str(args.bundle), "file_bytes": size, "state": verdict.state, "signed_by": verdict.fingerprint,
        "signatures": signers, "problem": verdict.problem or None, "exceptions": exceptions,
        **found.manifest.to_dict(),
    }  # fmt: skip
    console.result(data, summary(found.manifest, size, state) + allowed_lines(exceptions))
    return EXIT_DONE


def _sign(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle.package import is_package
    from edgeloop.bundle.package_signing import sign_package
    from edgeloop.bundle.packer import sign_bundle

    key = _key(console)
    output = args.output or args.bundle
    (sign_package if is_package(args.bundle) else sign_bundle)(args.bundle, key, output)
    console.result({"bundle": str(output), "signed_by": key.fingerprint}, f"{output}: signed by {key.fingerprint}")
    return EXIT_DONE


def _verify(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle import Bundle
    from edgeloop.bundle.package import is_package

    if is_package(args.bundle):
        return verify_package(args, _trust(args), console)
    try:
        bundle = Bundle.open(args.bundle, trust=_trust(args))
    except RefusedError as error:
        error.hint = error.hint or "copy it again from where it was made, and verify that one"
        raise
    manifest = bundle.manifest
    members = manifest.members()
    data = {
        "bundle": str(args.bundle), "state": "valid", "name": manifest.name, "version": manifest.version,
        "signed_by": bundle.signed_by, "members": {name: entry.sha256 for name, entry in members.items()},
    }  # fmt: skip
    line = f"{manifest.name} {manifest.version}, signed by {bundle.signed_by}, {len(members)} files as signed"
    console.result(data, f"{args.bundle}: good ({line})")
    return EXIT_DONE


def _models(files: list[Path], variants: list[str]) -> dict[str, Path]:
    """File by variant name, in the order given; --variant first when both are there."""
    pairs = []
    for text in variants:
        name, equals, file = text.partition("=")
        if not equals or not name or not file:
            raise UsageError(f"--variant {text!r}: write NAME=FILE", hint="--variant int8=model.tflite")
        pairs.append((name, Path(file)))
    pairs += [(_as_name(file.stem), file) for file in files]
    if not pairs:
        raise UsageError("no model given", hint="edgeloop bundle create MODEL.tflite --contract c.toml")
    models = dict(pairs)
    if len(models) != len(pairs):
        raise UsageError("two models have one variant name", hint="name them: --variant NAME=FILE")
    return models


def _frames(args: argparse.Namespace, contract: Contract, models: dict[str, Path]) -> tuple[Frames | None, str]:
    if args.no_golden:
        return None, ""
    if args.data is None:
        from edgeloop.bundle.packer import synthetic_frames

        return synthetic_frames(contract, list(models.values())), "random"
    from edgeloop.bundle.golden_maker import CANDIDATES
    from edgeloop_converters.data import open_data, pick

    dataset = open_data(args.data)
    return (dataset.sample(int(i)) for i in pick(dataset, CANDIDATES)), "data"


def _key(console: Console) -> Any:
    from edgeloop.bundle import load_or_create_signing_key

    key = load_or_create_signing_key()
    if key.created:
        console.note(f"made your signing key {key.fingerprint}; devices need {key.public_path}")
    return key


def _trust(args: argparse.Namespace) -> Any:
    from edgeloop.bundle import TrustStore

    return TrustStore.from_paths(args.trust) if args.trust else None


def _as_name(stem: str) -> str:
    """A file's stem as a bundle or variant name."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem).strip("._-")
    return kept[:64].rstrip("._-") or "model"
