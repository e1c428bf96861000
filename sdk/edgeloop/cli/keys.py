"""Your signing key, and the keys whose bundles this machine accepts.

The key is made on first use. Devices get its public half, a .pub file, when they are flashed or first deployed to.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from edgeloop.bundle.trust import PublicKey, TrustStore
from edgeloop.cli._console import Console
from edgeloop.errors import UsageError

EPILOG = """actions:
  show          your key's fingerprint and files (default); makes the key if there is none
  list          the keys that this machine trusts
  trust FILE    trust the key(s) of a .pub file from now on
  export FILE   write your public key to a file; without FILE to stdout
  new           make another key with --replace; the old one is kept aside and stays trusted here
  new FILE      make a key in a file of its own, FILE.pub beside it: for a server or an owner of releases

example:
  edgeloop keys
  edgeloop keys export alice.pub          give this to who runs the devices
  edgeloop keys trust alice.pub           on their machine
  edgeloop keys new server.key            release watch --key server.key"""

_ACTIONS = ("show", "list", "trust", "export", "new")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="show", help="default: show")
    parser.add_argument("file", nargs="?", type=Path, help="a .pub file, for trust and export; a key file, for new")
    parser.add_argument("--replace", action="store_true", help="new: replace the key that is there")


def run(args: argparse.Namespace, console: Console) -> int:
    if args.file is not None and args.action not in ("trust", "export", "new"):
        raise UsageError(f"keys {args.action} takes no file", hint=f"edgeloop keys trust {args.file}")
    return {"show": _show, "list": _list, "trust": _trust, "export": _export, "new": _new}[args.action](args, console)


def _show(_args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle.keys import load_or_create_signing_key

    key = load_or_create_signing_key()
    made = "made just now" if key.created else "yours"
    data = {**_describe(key.public_key, key.public_path), "private": str(key.path), "created": key.created}
    console.result(
        data,
        f"{key.fingerprint}  {key.public_key.comment}  ({made})\n"
        f"private  {key.path}  (keep it to yourself; whoever has it can sign for you)\n"
        f"public   {key.public_path}  (give it to devices)",
    )
    return 0


def _list(_args: argparse.Namespace, console: Console) -> int:
    store = TrustStore.default()
    keys = [{**_describe(t.key, t.path)} for t in store.keys.values()]
    for problem in store.problems:
        console.note(f"not used: {problem}")
    lines = [f"{k['fingerprint']}  {k['comment']}  {k['public']}" for k in keys]
    console.result(
        {"keys": keys, "problems": list(store.problems)},
        "\n".join(lines)
        or "no key is trusted here\n  -> edgeloop keys makes your own, edgeloop keys trust FILE adds one",
    )
    return 0


def _trust(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle.keys import trust_key

    if args.file is None:
        raise UsageError("which key?", hint="edgeloop keys trust FILE.pub")
    trusted = trust_key(args.file)
    lines = [
        f"{'trusted from now on' if new else 'trusted already'}: {key.fingerprint}  {key.comment}"
        for key, _, new in trusted
    ]
    lines.append("compare the fingerprint with the one its owner sees in `edgeloop keys`")
    console.result({"keys": [{**_describe(key, path), "new": new} for key, path, new in trusted]}, "\n".join(lines))
    return 0


def _export(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle.files import PUBLIC_KEY, check_may_replace, write_atomically
    from edgeloop.bundle.keys import load_or_create_signing_key

    if args.file is not None:
        check_may_replace(args.file, PUBLIC_KEY)
    key = load_or_create_signing_key()
    line = key.public_key.to_text()
    data = {**_describe(key.public_key, args.file or key.public_path), "line": line.strip()}
    if args.file is None:
        print(key.fingerprint, file=sys.stderr)
        console.result(data, line.strip())
        return 0
    try:
        write_atomically(args.file, line.encode("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot write {args.file}: {error.strerror}") from error
    console.result(data, f"{args.file}: {key.fingerprint}  {key.public_key.comment}")
    return 0


def _new(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.bundle.keys import create_signing_key, make_key_file

    if args.file is not None and args.replace:
        raise UsageError("--replace is for your own key", hint=f"edgeloop keys new {args.file}")
    key = create_signing_key(replace=args.replace) if args.file is None else make_key_file(args.file)
    data = {**_describe(key.public_key, key.public_path), "private": str(key.path), "created": True}
    text = f"{key.fingerprint}  {key.public_key.comment}  (made just now)"
    console.result(data, f"{text}\npublic   {key.public_path}  (give it to devices)")
    return 0


def _describe(key: PublicKey, path: Path | None) -> dict[str, Any]:
    return {"fingerprint": key.fingerprint, "comment": key.comment, "public": None if path is None else str(path)}
