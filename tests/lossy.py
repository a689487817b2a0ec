"""A line that loses replies: a TCP proxy on loopback in front of a server of the tests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class LossyLine:
    """Passes everything on, until it is told to lose: then the next bytes from the server end the connection instead.

    So the server has done what it was asked, and nobody hears of it. `lost` counts.
    """

    target: int
    port: int = 0
    lost: int = 0
    _losing: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _sockets: set[socket.socket] = field(default_factory=set)

    def lose(self, replies: int = 1) -> None:
        """Lose so many of the next replies."""
        with self._guard:
            self._losing += replies

    def serve(self, listener: socket.socket) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            with self._guard:
                self._sockets |= {client, server}
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
            threading.Thread(target=self._reply, args=(server, client), daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        with self._guard:
            for each in self._sockets:
                _end(each)
            self._sockets.clear()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        _end(server)

    def _reply(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                with self._guard:
                    losing, self._losing = self._losing > 0, max(0, self._losing - 1)
                    self.lost += losing
                if losing:
                    break
                client.sendall(data)
        _end(client)
        _end(server)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextlib.contextmanager
def lossy_line(target: int) -> Iterator[LossyLine]:
    """A line to the port `target` of loopback, for the time of a `with` block."""
    line = LossyLine(target)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line.port = listener.getsockname()[1]
        thread = threading.Thread(target=line.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield line
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()
            line.close()
