"""A release pulled by 64-bit and 32-bit Arm Pythons (qemu-user): TUF without `cryptography`, and a delta that gives the
published bytes, though liblzma of another architecture packs them.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

import pytest

from edgeloop.devices.agent_site import pack_own_code
from support.debian_root import debian_root
from support.pulling import Fleet, fleet_of
from support.retrained import model_bytes, retrained

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

_PACKAGES = ("tuf", "urllib3", "securesystemslib", "cbor2")
_POLL = """
import hashlib, json, platform, sys
from pathlib import Path
from edgeloop_agent.release import signatures
from edgeloop_agent.release.door import Verdict
from edgeloop_agent.release.http_files import HttpFiles
from edgeloop_agent.release.pull import FOLDER, Device, pull
from edgeloop_agent.release.repository import Repository
state, url = Path(sys.argv[1]), sys.argv[2]
offered = []
def door(file, p95_ms):
    offered.append(hashlib.sha256(file.read_bytes()).hexdigest())
    return Verdict("there")
pulled = pull(lambda: Repository(url, state / FOLDER, HttpFiles(url)), "stable", Device("pi", state), door)
print(json.dumps({
    "machine": platform.machine(), "way": pulled.models[0].way, "offered": offered, "heavy":
    sorted({"numpy", "cryptography"} & set(sys.modules)), "libcrypto": signatures.libcrypto_verify() is not None,
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our code and pure-Python packages, as on a device."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(io.BytesIO(pack_own_code())) as own:
        own.extractall(folder)
    for package in _PACKAGES:
        for file in distribution(package).files or ():
            if file.suffix == ".py" and ".." not in file.parts:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), folder / file)
    return folder


@pytest.mark.parametrize("machine", ["aarch64", "armv7"])
def test_a_delta_gives_the_published_bytes(machine: str, site: Path, tmp_path: Path) -> None:
    root = debian_root(machine)
    with fleet_of(tmp_path) as fleet:
        published = _publish(fleet, f"generic-{machine}")
        start = f"import sys; sys.path.insert(0, {str(site)!r})\n{_POLL}"
        command = [*root.python, "-I", "-c", start, str(fleet.state), fleet.server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=root.environment)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["way"], said["offered"], said["heavy"]) == ("delta", [published], [])
    assert machine[:3] in said["machine"] or said["machine"].startswith("arm")


def _publish(fleet: Fleet, target: str) -> str:
    """Version 8 is there, 9 is its successor: SHA-256 of its file."""
    model = model_bytes(300_000)
    fleet.install(fleet.publish(8, model, target))
    return sha256(fleet.publish(9, retrained(model)["all, by a step"], target).read_bytes()).hexdigest()
