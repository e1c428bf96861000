"""What is on a card whose power went: read on the host, as the board would find it at its next start."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeloop.bundle import Bundle, TrustStore
from edgeloop.deploy.card import STATE
from edgeloop.deploy.image.os_image import open_image
from edgeloop.deploy.image.tools import run_tool
from edgeloop.runtime import open_session
from edgeloop_agent.delivery.versions import INSTALLED, VersionFolder
from edgeloop_agent.delivery.watch import settle_versions

_REPAIRED = 1  # e2fsck(8): "File system errors corrected", a replayed journal among them


def version_that_starts(card: Path, model: str, keys: Sequence[Path], scratch: Path) -> int:
    """The number of the version that an agent would run, after it was verified and has computed something.

    The journal is replayed as by the kernel, in a copy of the partition: at an offset e2fsck 1.47.0 replays it and then
    finds errors that are none. Raises what the agent would fail with.
    """
    scratch.mkdir()
    root = scratch / "root.ext4"
    start = open_image(card).root.partition.start_bytes >> 20
    command = ["dd", f"if={card}", f"of={root}", "bs=1M", f"skip={start}", "conv=sparse", "status=none"]
    subprocess.run(command, check=True)
    repaired = run_tool("e2fsck", ["-p", str(root)])
    assert repaired.returncode <= _REPAIRED, repaired.stdout
    run_tool("debugfs", ["-R", f'rdump "{STATE}/{INSTALLED}" "{scratch}"', str(root)])
    root.unlink()
    folder = VersionFolder(scratch / INSTALLED / model)
    settle_versions(folder, is_start=True)
    bundle = Bundle.open(folder.current.resolve(strict=True), trust=TrustStore.from_paths(keys))
    bundle.verify()
    standing = folder.standing()
    assert standing.running is not None and standing.running.number == bundle.manifest.version
    with open_session(bundle.model()) as session:
        session.run(*(np.zeros(each.shape, each.dtype) for each in session.inputs))
    return bundle.manifest.version
