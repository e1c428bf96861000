"""`edgeloop release prune`: the files of versions that no channel offers any more."""

from __future__ import annotations

import argparse

from edgeloop.cli._console import Console
from edgeloop.cli._release_actions import warn
from edgeloop.cli._release_text import size_text
from edgeloop.errors import EXIT_DONE


def prune(args: argparse.Namespace, console: Console) -> int:
    from edgeloop.deploy.release.change import Change
    from edgeloop.deploy.release.keyring import Keyring
    from edgeloop.deploy.release.prune import forget, leftovers, remove, unwanted
    from edgeloop.deploy.release.repository import Repository, clock, locked

    with locked(args.repo):
        repository = Repository.load(args.repo)
        gone = unwanted(list(repository.files), repository.channels().values())
        size = sum(repository.files[path].length for path in gone)
        if args.dry_run:
            old = leftovers(repository)
            size += sum(path.stat().st_size for path in old)
            lines = [*gone, *(str(path.relative_to(args.repo)) for path in old)]
            text = "\n".join([*lines, f"would go: {len(lines)} files, {size_text(size)}"])
            console.result({"repo": str(args.repo), "removed": 0, "would_go": lines, "bytes": size}, text)
            return EXIT_DONE
        if gone:
            change = Change.of(repository, Keyring.open(args.key), clock())
            forget(change, gone)
            change.commit()
            repository = Repository.load(args.repo)
        old = leftovers(repository)
        size = remove(old)
        warn(console, repository)
    data = {"repo": str(args.repo), "removed": len(old), "versions": list(gone), "bytes": size}
    console.result(data, f"removed: {len(old)} files, {size_text(size)}" if old else "nothing to remove")
    return EXIT_DONE
