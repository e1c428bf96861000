"""Install the agent in the design's device layout, offline: unpacked beside the old one, switched by a rename."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgeloop.devices.agent_site import AgentSite, build_agent_site
from edgeloop.devices.connection import DEVICE_PYTHON, Completed, Device, DevicePlatform
from edgeloop.errors import DeviceError

_INSTALL_TIMEOUT_S = 600.0
_COPY_TIMEOUT_S = 600.0

# Runs on the device. Reads a tar of wheels (zip files) and `own.zip` from stdin; argument: the version's folder.
UNPACK_SCRIPT = r"""
import io, os, shutil, sys, tarfile, zipfile
folder = sys.argv[1]
fresh = folder + ".partial"
shutil.rmtree(fresh, ignore_errors=True)
site = os.path.join(fresh, "site")
os.makedirs(site)
last = None
try:
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for member in archive:
            with zipfile.ZipFile(io.BytesIO(archive.extractfile(member).read())) as wheel:
                for name in wheel.namelist():
                    # Of no use on a device: libraries' own tests, an accelerator that the interpreter never loads.
                    if "/tests/" not in name and not name.endswith("libLiteRtWebGpuAccelerator.so"):
                        wheel.extract(name, site)
            last = member.name
    if last != "own.zip":
        raise OSError("the transfer broke off")
except BaseException:
    shutil.rmtree(fresh, ignore_errors=True)
    raise
for name in os.listdir(site):
    if name.endswith(".data"):
        for part in ("purelib", "platlib"):
            source = os.path.join(site, name, part)
            if os.path.isdir(source):
                shutil.copytree(source, site, dirs_exist_ok=True)
        shutil.rmtree(os.path.join(site, name))
launcher = os.path.join(fresh, "bin", "edgeloop-agent")
os.makedirs(os.path.dirname(launcher))
with open(launcher, "w") as file:
    file.write("#!/usr/bin/python3 -I\nimport os, sys\n"
               "sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'site'))\n"
               "from edgeloop_agent.cli import main\nsys.exit(main())\n")
os.chmod(launcher, 0o755)
os.sync()
shutil.rmtree(folder, ignore_errors=True)
os.rename(fresh, folder)
"""

# Runs on the device, by its own Python. Where root installs, a service of its own user can keep no bytecode: it would
# compile at every start. Of the libraries only what the agent loads is compiled, by loading it. Argument: the site.
COMPILE_SCRIPT = r"""
import compileall, os, subprocess, sys
site = sys.argv[1]
for name in ("edgeloop", "edgeloop_agent"):
    compileall.compile_dir(os.path.join(site, name), quiet=2)
load = "import contextlib, sys\nsys.path.insert(0, sys.argv[1])\n" \
    "for name in sys.argv[2:]:\n with contextlib.suppress(Exception): __import__(name)"
libraries = ("numpy", "numpy.random", "cv2", "ai_edge_litert.interpreter", "cbor2", "serial", "paho.mqtt.client",
    "securesystemslib._vendor.ed25519.ed25519")
subprocess.run([sys.executable, "-I", "-c", load, site, *libraries], stdout=subprocess.DEVNULL)
"""

_WRITE_FILE = r"""
import os, sys
path, within = sys.argv[1:]
if within and not os.path.isdir(within):
    raise OSError(within + " is gone")
os.makedirs(os.path.dirname(path), exist_ok=True)
with open(path + ".partial", "wb") as file:
    while True:
        piece = sys.stdin.buffer.read(1 << 20)
        if not piece:
            break
        file.write(piece)
    file.flush()
    os.fsync(file.fileno())
os.replace(path + ".partial", path)
"""

_WRITE_TREE = r"""
import os, shutil, sys, tarfile
folder, within = sys.argv[1:]
if within and not os.path.isdir(within):
    raise OSError(within + " is gone")
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
    for member in archive:
        if member.isfile() and not member.name.startswith("/") and ".." not in member.name.split("/"):
            path = os.path.join(folder, member.name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                shutil.copyfileobj(archive.extractfile(member), file)
"""


@dataclass(frozen=True)
class DeviceLayout:
    """Where things are on a device. `root` is "/" for the system-wide layout."""

    root: PurePosixPath

    @property
    def agents(self) -> PurePosixPath:
        return self.root / "opt/edgeloop/agent"

    @property
    def state(self) -> PurePosixPath:
        return self.root / "var/lib/edgeloop"

    @property
    def bundles(self) -> PurePosixPath:
        return self.state / "bundles"

    def agent(self, version: str) -> PurePosixPath:
        return self.agents / version

    def launcher(self, version: str) -> PurePosixPath:
        return self.agent(version) / "bin/edgeloop-agent"

    def site(self, version: str) -> PurePosixPath:
        return self.agent(version) / "site"


@dataclass(frozen=True)
class InstalledAgent:
    """An agent that is ready to run on the device."""

    version: str
    layout: DeviceLayout
    was_there: bool

    @property
    def command(self) -> list[str]:
        return [DEVICE_PYTHON, "-I", str(self.layout.launcher(self.version))]


def choose_layout(device: Device, platform: DevicePlatform, prefix: str | None) -> DeviceLayout:
    """System-wide for root or with sudo; else under the user's home. `prefix` overrides.

    With sudo only the two folders are made and handed to the user; everything else needs no privilege.
    """
    if prefix is not None:
        return DeviceLayout(PurePosixPath(prefix))
    system = DeviceLayout(PurePosixPath("/"))
    if platform.is_root:
        return system
    folders = [str(system.agents), str(system.bundles)]
    writable = device.run(["sh", "-c", 'for f in "$@"; do test -w "$f" || exit 1; done', "sh", *folders])
    if writable.exit_code == 0:
        return system
    script = 'mkdir -p "$@" && chown -R "$SUDO_UID:$SUDO_GID" /opt/edgeloop /var/lib/edgeloop'
    if device.run(["sudo", "-n", "sh", "-c", script, "sh", *folders]).exit_code == 0:
        return system
    return DeviceLayout(PurePosixPath(platform.home) / ".local/share/edgeloop-device")


def install_agent(
    device: Device,
    platform: DevicePlatform,
    layout: DeviceLayout,
    advance: Callable[[int], None],
    *,
    slim: bool = False,
) -> InstalledAgent:
    """Install what is missing; `advance` gets the bytes sent; `slim`: without OpenCV. Raises DeviceError."""
    site = build_agent_site(platform, slim=slim)
    launcher = str(layout.launcher(site.version))
    if device.run(["test", "-x", launcher]).exit_code == 0:
        return InstalledAgent(site.version, layout, was_there=True)
    done = device.run(
        [DEVICE_PYTHON, "-I", "-c", UNPACK_SCRIPT, str(layout.agent(site.version))],
        stdin=site_stream(site, advance),
        timeout_s=_INSTALL_TIMEOUT_S,
    )
    _require(done, f"installing the agent on {device.url}")
    # Without bytecode it only starts more slowly: what comes of this is no error.
    device.run(
        [DEVICE_PYTHON, "-I", "-c", COMPILE_SCRIPT, str(layout.site(site.version))], timeout_s=_INSTALL_TIMEOUT_S
    )
    check = device.run(
        [DEVICE_PYTHON, "-I", launcher, "--version"],
        timeout_s=_INSTALL_TIMEOUT_S,
    )
    _require(check, f"the agent does not start on {device.url}")
    return InstalledAgent(site.version, layout, was_there=False)


def put_file(device: Device, source: Path, target: PurePosixPath, *, within: PurePosixPath | None = None) -> None:
    """Copy one file; on the device it appears whole or not at all. Without the folder `within` nothing is made."""
    done = device.run(
        [DEVICE_PYTHON, "-I", "-c", _WRITE_FILE, str(target), str(within or "")],
        stdin=_pieces(source),
        timeout_s=_COPY_TIMEOUT_S,
    )
    _require(done, f"copying {source.name} to {device.url}")


def put_tree(
    device: Device, source: Path, target: PurePosixPath, *, names: Sequence[str], within: PurePosixPath | None = None
) -> None:
    """Copy the files `names` of a folder in place of what is in `target`; none without the folder `within`."""
    done = device.run(
        [DEVICE_PYTHON, "-I", "-c", _WRITE_TREE, str(target), str(within or "")],
        stdin=_tar_of(source, names),
        timeout_s=_COPY_TIMEOUT_S,
    )
    _require(done, f"copying {source} to {device.url}")


def remove(device: Device, *targets: PurePosixPath) -> None:
    """Remove what an earlier call put there."""
    _require(device.run(["rm", "-rf", "--", *map(str, targets)]), f"removing files on {device.url}")


def _require(done: Completed, what: str) -> None:
    if done.exit_code == 0:
        return
    said = done.stderr.decode(errors="replace").strip().splitlines()
    reason = said[-1] if said else f"exit code {done.exit_code}"
    hint = "free some space there" if "No space left" in reason else None
    raise DeviceError(f"{what}: {reason}", hint=hint)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def site_stream(site: AgentSite, advance: Callable[[int], None]) -> Iterator[bytes]:
    for wheel in site.wheels:
        yield from _tar_member(wheel.name, wheel.read_bytes(), advance)
    yield from _tar_member("own.zip", site.own, advance)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _tar_of(folder: Path, names: Sequence[str]) -> Iterator[bytes]:
    for name in names:
        yield from _tar_member(name, (folder / name).read_bytes(), lambda _count: None)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _tar_member(name: str, content: bytes, advance: Callable[[int], None]) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    header = io.BytesIO(info.tobuf(format=tarfile.PAX_FORMAT))
    yield header.getvalue()
    for start in range(0, len(content), 1 << 20):
        piece = content[start : start + (1 << 20)]
        yield piece
        advance(len(piece))
    yield bytes(-len(content) % tarfile.BLOCKSIZE)
