"""`edgeloop bundle allow-older`: sign that a bundle may follow a higher version."""

from __future__ import annotations

import argparse
import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeloop.cli._console import Console
from edgeloop.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from edgeloop.bundle import TrustStore


def add_allow_older_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", type=Path)
    add("--device", dest="devices", action="append", default=[], metavar="NAME", help="only there; may be repeated")
    add("--until", metavar="DATE", help="2026-12-31 (its end, UTC) or 2026-12-31T18:00 (UTC); default: no end")
    add("-o", "--output", type=Path, metavar="FILE", help="default: in place")


def allow(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle import load_or_create_signing_key
    from edgeloop.bundle.package import is_package
    from edgeloop.bundle.package_signing import allow_older_package
    from edgeloop.bundle.packer import allow_older

    until_s = None if args.until is None else _end_of(args.until)
    key = load_or_create_signing_key()
    if key.created:
        console.note(f"made your signing key {key.fingerprint}; devices need {key.public_path}")
    made = (allow_older_package if is_package(args.bundle) else allow_older)(
        args.bundle, key, args.devices, until_s, args.output
    )
    path = args.output or args.bundle
    where, end = _where(made.devices), _end(made.until_s)
    data = {
        "bundle": str(path), "signed_by": key.fingerprint, "devices": list(made.devices), "until": made.until_s,
        "manifest_sha256": made.manifest_sha256,
    }  # fmt: skip
    console.result(data, f"{path}: may follow a higher version on {where}, {end}; signed by {key.fingerprint}")
    return EXIT_DONE


def allowed(path: Path, trust: TrustStore | None) -> list[dict[str, Any]]:
    """The exceptions of a bundle or package that are whole and about it, also those of signers not trusted here."""
    from edgeloop.bundle import Bundle
    from edgeloop.bundle.allowances import decode_allowances, read_allowance
    from edgeloop.bundle.package import Package, is_package
    from edgeloop.bundle.trust import TrustStore, is_valid_signature

    bundle = (Package if is_package(path) else Bundle).open(path, allow_unsigned=True)
    trusted = (TrustStore.default() if trust is None else trust).keys
    digest = hashlib.sha256(bundle.raw_manifest).hexdigest()
    found = []
    for each in decode_allowances(bundle.raw_signatures()):
        key = each.entry.public_key
        if not is_valid_signature(key.raw, each.entry.signature, each.statement):
            continue
        said = read_allowance(each.statement)
        if said.manifest_sha256 == digest:
            found.append({"devices": list(said.devices), "until": said.until_s, "signed_by": key.fingerprint,
                          "trusted": key.fingerprint in trusted})  # fmt: skip
    return found


def allowed_lines(exceptions: Sequence[dict[str, Any]]) -> str:
    """A line for each, as `bundle inspect` shows them."""
    return "".join(
        f"\n  allowed  after a higher version on {_where(each['devices'])}, {_end(each['until'])}; "
        f"signed by {each['signed_by']}" + ("" if each["trusted"] else ", NOT trusted here")
        for each in exceptions
    )


def _where(devices: Sequence[str]) -> str:
    return ", ".join(devices) or "any device"


def _end(until_s: int | None) -> str:
    return "without an end" if until_s is None else f"until {_as_text(until_s)}"


def _end_of(text: str) -> float:
    """Unix time of a date's end, or of a moment, in UTC."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--until {text!r} is no date", hint="--until 2026-12-31") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    is_day = len(text) <= len("2026-12-31")
    return moment.timestamp() + (86_399 if is_day else 0)


def _as_text(time_s: int) -> str:
    return datetime.datetime.fromtimestamp(time_s, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
