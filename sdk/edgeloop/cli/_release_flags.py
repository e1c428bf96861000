"""`--release` and what belongs to it, for the verbs that set a device up."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edgeloop.errors import UsageError

_MAX_ROOT_BYTES = 512_000


def add_release_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("releases that the device pulls")
    group.add_argument("--release", metavar="URL", help="https://host/repo: where it looks for newer versions")
    group.add_argument(
        "--release-root", metavar="FILE", type=Path, help="the repository's root.json, or its folder here"
    )
    group.add_argument("--channel", metavar="NAME", help="which channel it follows (default there: stable)")
    group.add_argument("--tag", metavar="TAG", action="append", help="of the device, for cohorts; may be repeated")


def release_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Keys of the agent's config. Raises UsageError as the agent would, and without a root to trust."""
    from edgeloop_agent.release.settings import STABLE, check_settings

    if args.release is not None and args.release_root is None:
        raise UsageError(
            "--release: by which root shall the device know it?", hint="--release-root REPO/metadata/1.root.json"
        )
    check_settings(args.release or "", args.channel or STABLE, tuple(args.tag or ()))
    given = {"release": args.release, "channel": args.channel, "tags": args.tag}
    return {name: value for name, value in given.items() if value}


def release_root(args: argparse.Namespace) -> str | None:
    """The text of the root that the device is to trust. Raises UsageError for a file that is none."""
    path = args.release_root
    if path is None:
        return None
    if path.is_dir():
        from edgeloop.deploy.release.repository import newest_root

        path = path / "metadata" / f"{newest_root(path)}.root.json"
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_ROOT_BYTES + 1).decode("utf-8")
        is_root = len(text) <= _MAX_ROOT_BYTES and json.loads(text)["signed"]["_type"] == "root"
    except OSError as error:
        raise UsageError(f"--release-root {path}: {error.strerror}", hint="REPO/metadata/1.root.json") from error
    except (ValueError, LookupError, TypeError):
        is_root = False
    if not is_root:
        raise UsageError(f"--release-root {path} is no root of a release repository", hint="REPO/metadata/1.root.json")
    return str(text)
