"""Serial ports handed out over TCP, as ser2net and terminal servers do."""

from __future__ import annotations

import os
import select
import socket
import threading
import tty
from contextlib import suppress
from typing import Any

import serial
import serial.rfc2217


class PtyPort(serial.Serial):
    """A pty has no modem lines, which RFC 2217 tells of."""

    cts = dsr = ri = cd = True

    def _update_dtr_state(self) -> None: ...

    def _update_rts_state(self) -> None: ...


class PortServer:
    """Hands out a pty over TCP: bare bytes (`socket`), or with the port's settings as ser2net does (`rfc2217`)."""

    def __init__(self, scheme: str, port: int = 0) -> None:
        self.master, slave = os.openpty()
        tty.setraw(self.master)
        tty.setraw(slave)
        self.settings: list[int] = []
        self._scheme, self._slave = scheme, slave
        self._server = socket.create_server(("127.0.0.1", port))
        self._clients: list[socket.socket] = []
        self.port = self._server.getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._clients.append(client)
            self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        port = PtyPort(os.ttyname(self._slave), 115_200, timeout=0)
        manager: Any = None
        if self._scheme == "rfc2217":
            writer = type("Writer", (), {"write": staticmethod(client.sendall)})
            manager = serial.rfc2217.PortManager(port, writer)
        with suppress(OSError, serial.SerialException):
            while True:
                ready, _, _ = select.select([client, port.fileno()], [], [], 0.2)
                if client in ready:
                    data = client.recv(4096)
                    if not data:
                        break
                    port.write(b"".join(manager.filter(data)) if manager else data)
                if port.fileno() in ready:
                    data = port.read(4096)
                    client.sendall(b"".join(manager.escape(data)) if manager else data)
                self.settings.append(port.baudrate)
        port.close()

    def drop(self) -> None:
        """As when the cable to the server is pulled."""
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nobody listens any more."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # ends the accept of the other thread
        self._server.close()
        self.drop()
