"""A real sshd on loopback with keys made for the test, logging in as the user who runs the tests."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass(frozen=True)
class SshServer:
    url: str
    port: int
    identity: Path
    host_key: Path


def _without_start_up_files(more: str) -> str:
    """A shell that thinks it is an inner one reads none: those of a developer's machine may wait for locks. sshd heeds
    the first SetEnv only."""
    return more.replace("SetEnv ", "SetEnv SHLVL=5 ", 1) if "SetEnv " in more else f"{more}SetEnv SHLVL=5\n"


def _keygen(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@contextlib.contextmanager
def ssh_server(folder: Path, port: int | None = None, *, hosts: int = 1, more: str = "") -> Iterator[SshServer]:
    """Start sshd in `folder`, stop it at the end. hosts: it answers on 127.0.0.1 and so many addresses in all. more:
    lines of its configuration. Skips the test where openssh-server is not installed."""
    if not Path(_SSHD).is_file():
        pytest.skip("sshd is missing: apt-get install openssh-server")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    host_key, identity = _keygen(folder / "host_key"), _keygen(folder / "client_key")
    keys = folder / "authorized_keys"
    keys.write_bytes((folder / "client_key.pub").read_bytes())
    keys.chmod(0o600)
    if port is None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
    config = folder / "sshd_config"
    listen = "".join(f"ListenAddress 127.0.0.{number + 1}:{port}\n" for number in range(hosts))
    config.write_text(
        f"{listen}HostKey {host_key}\nAuthorizedKeysFile {keys}\nPidFile none\n"
        "UsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nLogLevel ERROR\n"
        f"MaxStartups 100\n{_without_start_up_files(more)}"
    )
    Path("/run/sshd").mkdir(exist_ok=True) if getpass.getuser() == "root" else None
    log = (folder / "sshd.log").open("wb")
    process = subprocess.Popen([_SSHD, "-D", "-e", "-f", str(config)], stdout=log, stderr=log)
    try:
        for _ in range(100):
            if process.poll() is not None:
                raise RuntimeError(f"sshd ended: {(folder / 'sshd.log').read_text()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield SshServer(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", port, identity, host_key)
    finally:
        process.terminate()
        process.wait(60)
        log.close()
