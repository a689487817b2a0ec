"""One SSH connection with SFTP on it, over asyncssh, for callers on threads.

The only module that imports asyncssh, and only when a connection is needed. Its event loop runs on a thread of its own;
many callers share the one connection, on which SFTP keeps many requests in flight. A connection that was lost, or on
which nothing moves any more, is dropped, and the next call makes a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import asyncssh

from lowtide_engine.storage.sftp_location import PASSPHRASE_VARIABLE, SftpLocation, SshTrust

if TYPE_CHECKING:
    from lowtide_engine.storage.options import StorageOptions

_T = TypeVar("_T")
KEEPALIVE_SECONDS = 15
KEEPALIVE_MISSES = 6


class Stuck(Exception):
    """Nothing came from the server for as long as was allowed."""


class SftpSession:
    """A connection to `address`, made at the first call and made again after it was lost."""

    def __init__(self, address: SftpLocation, trust: SshTrust, options: StorageOptions) -> None:
        self._address = address
        self._trust = trust
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sftp", daemon=True)
        self._thread.start()
        self._opening = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None
        self._moved = 0.0
        asyncssh.set_log_level("ERROR")
        _have_a_name()

    def run(self, job: Callable[[asyncssh.SFTPClient], Coroutine[Any, Any, _T]]) -> _T:
        """What `job` answers, from any thread. Raises what it raises."""
        return asyncio.run_coroutine_threadsafe(self._run(job), self._loop).result()

    async def moving(self, awaitable: Awaitable[_T]) -> _T:
        """Await it, as long as anything moves on the connection; else drop the connection and raise `Stuck`."""
        task = asyncio.ensure_future(awaitable)
        began = self._loop.time()
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=self._options.stuck_timeout)
                if done:
                    self._moved = self._loop.time()
                    return task.result()
                if self._loop.time() - max(began, self._moved) >= self._options.stuck_timeout:
                    self._drop()
                    raise Stuck(f"no answer for {self._options.stuck_timeout:.0f} s")
        finally:
            task.cancel()

    def close(self) -> None:
        """End the connection and the thread. Idempotent."""
        if not self._loop.is_running():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _run(self, job: Callable[[asyncssh.SFTPClient], Coroutine[Any, Any, _T]]) -> _T:
        client = await self._connected()
        try:
            return await job(client)
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError, OSError):
            if self._client is client:
                self._drop()
            raise

    async def _connected(self) -> asyncssh.SFTPClient:
        async with self._opening:
            if self._client is None:
                self._connection = await self._connect()
                try:
                    self._client = await self.moving(self._connection.start_sftp_client())
                except BaseException:
                    self._drop()
                    raise
            return self._client

    async def _connect(self) -> asyncssh.SSHClientConnection:
        address, trust = self._address, self._trust
        chosen: dict[str, Any] = {}
        if address.port:
            chosen["port"] = address.port
        if address.user:
            chosen["username"] = address.user
        if trust.identity is not None:
            chosen["client_keys"] = [str(trust.identity)]
            chosen["passphrase"] = self._options.environment.get(PASSPHRASE_VARIABLE) or None
        if trust.fingerprint:
            # No host is known by a file then, so that the client is asked about each key.
            chosen["known_hosts"] = ([], [], [])
            chosen["client_factory"] = lambda: _ByFingerprint(trust.fingerprint)
        elif trust.known_hosts is not None:
            chosen["known_hosts"] = str(trust.known_hosts)
        return await asyncssh.connect(
            address.host,
            connect_timeout=self._options.connect_timeout,
            login_timeout=self._options.stuck_timeout,
            keepalive_interval=KEEPALIVE_SECONDS,
            keepalive_count_max=KEEPALIVE_MISSES,
            # What nobody can be asked for is not tried.
            password_auth=False,
            kbdint_auth=False,
            **chosen,
        )

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.abort()
        self._connection = self._client = None

    async def _close(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            connection.close()
            with contextlib.suppress(TimeoutError, OSError, asyncssh.Error):
                await asyncio.wait_for(connection.wait_closed(), 5)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def _have_a_name() -> None:
    """asyncssh asks who we are even where the location says who we are there; a container's user may have no name."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())


class _ByFingerprint(asyncssh.SSHClient):
    """Accepts the one host key whose SHA-256 fingerprint it was given."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return key.get_fingerprint("sha256") == self._fingerprint
