"""A real PostgreSQL from Debian's packages, as a user without rights, on a unix socket in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

_SERVER_USER = "postgres"  # the server refuses to run as root


@dataclass(frozen=True)
class PostgresServer:
    """folder: its data lie in `folder/data`, its socket in `folder`."""

    folder: Path
    programs: Path

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{_SERVER_USER}@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """URL of an empty one."""
        name = f"store_{uuid.uuid4().hex[:12]}"
        self.sql(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def sql(self, statement: str) -> str:
        command = [str(self.programs / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]
        where = ["-h", str(self.folder), "-U", _SERVER_USER, "-d", "postgres"]
        return subprocess.run([*command, *where], check=True, capture_output=True, text=True).stdout.strip()

    def start(self, *settings: str) -> None:
        options = " ".join(f"-c {setting}" for setting in (*_settings(self.folder), *settings))
        self._control("start", "-w", "-t", "60", "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """mode: "immediate" stops it like a power cut."""
        self._control("stop", "-w", "-m", mode)

    def _control(self, *arguments: str) -> None:
        command = [str(self.programs / "pg_ctl"), "-s", "-D", str(self.folder / "data"), *arguments]
        done = subprocess.run(as_server(command), capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            log = self.folder / "log"
            said = log.read_text()[-2000:] if log.exists() else ""
            raise RuntimeError(f"pg_ctl {arguments[0]} failed: {done.stderr}{done.stdout}{said}")


def _settings(folder: Path) -> Sequence[str]:
    return ("listen_addresses=", f"unix_socket_directories={folder}", "shared_buffers=64MB", "max_connections=60")


def as_server(command: Sequence[str]) -> list[str]:
    """The command as the server's user."""
    return ["runuser", "-u", _SERVER_USER, "--", *command] if os.getuid() == 0 else list(command)


@lru_cache(maxsize=1)
def programs() -> Path | None:
    """The newest PostgreSQL's, where there is one that the store can use."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if int(path.parent.name) >= 15]
    newest = max(found, key=lambda path: int(path.parent.name), default=None)
    return newest if newest is not None and (newest / "initdb").is_file() else None


@contextmanager
def postgres_server(*settings: str) -> Iterator[PostgresServer]:
    """Started and ready. Skips where PostgreSQL, its driver or a user for it is missing."""
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'edgeloop[postgresql]'")
    where = programs()
    if where is None:
        pytest.skip("PostgreSQL 15 or newer is missing: apt-get install postgresql")
    if os.getuid() == 0:
        try:
            owner = pwd.getpwnam(_SERVER_USER)
        except KeyError:
            pytest.skip("there is no user postgres, and the server does not run as root")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path must be short
    try:
        if os.getuid() == 0:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        initdb = [str(where / "initdb"), "-D", str(folder / "data"), "-U", _SERVER_USER, "-A", "trust", "-E", "UTF8"]
        subprocess.run(as_server([*initdb, "--locale=C", "-N"]), check=True, capture_output=True, cwd="/")
        folder.chmod(0o755)  # whoever runs the tests connects to the socket
        server = PostgresServer(folder, where)
        server.start(*settings)
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
