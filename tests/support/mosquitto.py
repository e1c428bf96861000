"""A real mosquitto on loopback: plain, or with TLS and passwords as a private broker has them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import weakref
from pathlib import Path

import pytest

from support.certificates import Certificates
from support.collecting import wait_until

USER, PASSWORD = "bench", "correct horse"


class Mosquitto:
    """Started at once, on a port that stays the same over `stop` and `start`."""

    def __init__(self, folder: Path, certificates: Certificates | None = None, *settings: str) -> None:
        """certificates: TLS, and `USER` with `PASSWORD` only. settings: more lines of mosquitto.conf."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            pytest.skip("needs mosquitto: apt-get install mosquitto")
        self._program = program
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        lines = [f"listener {self.port} 127.0.0.1", "user root", *settings]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        if certificates is None:
            lines.append("allow_anonymous true")
        else:
            self._passwords = folder / "mosquitto.passwords"
            self._passwords.touch()
            self.add_user(USER, PASSWORD)
            self.login = folder / "login"
            self.login.write_text(f"{USER}\n{PASSWORD}\n")
            lines += [
                f"cafile {certificates.ca}",
                f"certfile {certificates.server}",
                f"keyfile {certificates.server_key}",
                f"password_file {self._passwords}",
            ]
            self.url = f"mqtts://127.0.0.1:{self.port}?ca={certificates.ca}&login={self.login}"
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def add_user(self, user: str, password: str) -> None:
        """Known after the next start."""
        subprocess.run(["mosquitto_passwd", "-b", str(self._passwords), user, password], check=True)

    def start(self) -> None:
        self._process = subprocess.Popen([self._program, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        weakref.finalize(self, self._process.kill)  # a test that fails leaves none behind
        wait_until(self._answers, "mosquitto listens")

    def stop(self) -> None:
        """kill -9; may be called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
