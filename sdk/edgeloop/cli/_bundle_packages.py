"""`edgeloop bundle agent` and `bundle config`: what travels to devices like a bundle, and is none."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._bundle_exceptions import allowed, allowed_lines
from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_DONE, RefusedError, UsageError

if TYPE_CHECKING:
    from edgeloop.bundle.package import PackageManifest

_BOOKWORM = ("3.11", "2.36")


def add_agent_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--target", default="rpi4", help="board id, for the processor (default: rpi4)")
    add(
        "--python",
        default=_BOOKWORM[0],
        metavar="X.Y",
        help="of the device (default: %(default)s, Bookworm; Trixie: 3.13)",
    )
    add("--glibc", default=_BOOKWORM[1], metavar="X.Y", help="at least (default: %(default)s, Bookworm; Trixie: 2.41)")
    add("--slim", action="store_true", help="without OpenCV: for arrays, sound and sensor lines")
    _add_common(parser)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="FILE", help="agent.toml")
    parser.add_argument("--name", help="default: edgeloop-config")
    _add_common(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", type=int, metavar="N", help="default: one more than the last made here")
    parser.add_argument("--no-sign", action="store_true", help="devices refuse it until it is signed")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE")


def pack_an_agent(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.agent_package import pack_agent
    from edgeloop.targets import load_target

    target = load_target(args.target)
    python, glibc = _two(args.python, "--python"), _two(args.glibc, "--glibc")
    with console.step("put the agent together") as advance:
        packed = pack_agent(
            target.architecture, python, glibc, _key(args, console), version=args.version, output=args.output,
            slim=args.slim, advance=advance,
        )  # fmt: skip
    return _written(packed.path, packed.manifest, console)


def pack_a_config(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.agent_package import CONFIG_NAME, pack_config

    key = _key(args, console)
    packed = pack_config(args.config, key, name=args.name or CONFIG_NAME, version=args.version, output=args.output)
    return _written(packed.path, packed.manifest, console)


def show_package(args: argparse.Namespace, trust: Any, console: Console) -> int:
    """`bundle inspect`, of a package."""
    from edgeloop.bundle.package import Package

    try:
        package, problem = Package.open(args.bundle, trust=trust), ""
    except RefusedError as error:
        package, problem = Package.open(args.bundle, allow_unsigned=True), error.message
    exceptions = [] if problem else allowed(args.bundle, trust)
    _show(args.bundle, package.manifest, package.signed_by, problem, console, exceptions)
    return EXIT_DONE


def verify_package(args: argparse.Namespace, trust: Any, console: Console) -> int:
    """`bundle verify`, of a package. Raises RefusedError."""
    from edgeloop.bundle.package import Package

    package = Package.open(args.bundle, trust=trust)
    package.read()
    manifest = package.manifest
    data = {"bundle": str(args.bundle), "state": "valid", "kind": manifest.kind, "name": manifest.name,
            "version": manifest.version, "signed_by": package.signed_by}  # fmt: skip
    console.result(data, f"{args.bundle}: good ({manifest.kind} {manifest.name} {manifest.version}, as signed)")
    return EXIT_DONE


def _written(path: Path, manifest: PackageManifest, console: Console) -> int:
    from edgeloop.bundle.package import Package

    signed_by = Package.open(path, allow_unsigned=True).signed_by
    _show(path, manifest, signed_by, "" if signed_by else "it is not signed: devices refuse it", console)
    return EXIT_DONE


def _show(
    path: Path, manifest: PackageManifest, signed_by: str | None, problem: str, console: Console,
    exceptions: Sequence[dict[str, Any]] = (),
) -> None:  # fmt: skip
    size = path.stat().st_size
    data = {
        "bundle": str(path), "file_bytes": size, "kind": manifest.kind, "name": manifest.name,
        "version": manifest.version, "signed_by": signed_by, "problem": problem or None,
        "agent": manifest.agent or None, "machine": manifest.machine or None,
        "python": list(manifest.python), "glibc": list(manifest.glibc), "exceptions": list(exceptions),
    }  # fmt: skip
    made_for = f", agent {manifest.agent} for {manifest.machine}, Python {_dotted(manifest.python)}, glibc "
    more = made_for + _dotted(manifest.glibc) if manifest.machine else ""
    state = f"signed by {signed_by}" if not problem else f"REFUSED: {problem}"
    text = f"{path}\n{manifest.kind} {manifest.name} {manifest.version}{more}, {size} bytes\n  {state}"
    console.result(data, text + allowed_lines(exceptions))


def _dotted(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))


def _two(text: str, flag: str) -> tuple[int, int]:
    first, _, second = text.partition(".")
    if not (first.isascii() and first.isdigit() and second.isascii() and second.isdigit()):
        raise UsageError(f"{flag} {text!r} is no version", hint=f"{flag} 3.11")
    return int(first), int(second)


def _key(args: argparse.Namespace, console: Console) -> Any:
    from edgeloop.bundle import load_or_create_signing_key

    if args.no_sign:
        return None
    key = load_or_create_signing_key()
    if key.created:
        console.note(f"made your signing key {key.fingerprint}; devices need {key.public_path}")
    return key
