"""A TCP proxy that can go silent: connections stay open, and nothing more comes through."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards from a free port on loopback to `address`:`port`, in one thread, for the time of a `with` block."""

    def __init__(self, address: str, port: int) -> None:
        self._target = (address, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._silent: set[socket.socket] = set()
        self._swallows = False
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(10)
        for end in (self._listener, *self._peers):
            end.close()
        self._selector.close()

    def silence_those_that_are_open(self) -> None:
        """From now on nothing comes through the connections that are open now; new ones work."""
        with self._guard:
            self._silent |= set(self._peers)

    @contextlib.contextmanager
    def black_hole(self) -> Iterator[None]:
        """For the time of a `with` block nothing comes through; connections of before and of that time stay silent."""
        with self._guard:
            self._swallows = True
            self._silent |= set(self._peers)
        try:
            yield
        finally:
            with self._guard:
                self._swallows = False

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(timeout=0.1):
                end = key.fileobj
                assert isinstance(end, socket.socket)
                if end is self._listener:
                    self._accept()
                else:
                    self._forward(end)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        with self._guard:
            self._peers[client], self._peers[server] = server, client
            if self._swallows:
                self._silent |= {client, server}
        for end in (client, server):
            self._selector.register(end, selectors.EVENT_READ)

    def _forward(self, end: socket.socket) -> None:
        with self._guard:
            silent = end in self._silent
        try:
            data = end.recv(65536)
        except OSError:
            data = b""
        if silent and data:
            return
        if not data:
            self._close(end)
            return
        try:
            self._peers[end].sendall(data)
        except OSError:
            self._close(end)

    def _close(self, end: socket.socket) -> None:
        """Close both ends; of a silent connection only the one that hung up: the other must not notice."""
        with self._guard:
            other = self._peers.get(end)
            silent = end in self._silent
        for one in (end,) if silent or other is None else (end, other):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
            one.close()
