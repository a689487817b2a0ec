"""What the SFTP storage does on its connection, as coroutines: they run on the session's event loop.

Imported, with asyncssh, only when a connection is needed. Errors are asyncssh's own, but for `FileShort` and
`StorageFull`; `SftpStorage` translates the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import stat
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

import asyncssh

from lowtide_engine.errors import FileShort, StorageFull
from lowtide_engine.storage.base import File, FileKind, Listed, is_id
from lowtide_engine.storage.options import StorageOptions
from lowtide_engine.storage.pacing import Pace
from lowtide_engine.storage.sftp_location import SftpLocation
from lowtide_engine.storage.sftp_session import SftpSession

_T = TypeVar("_T")
_BLOCK = 256 * 1024
_IN_FLIGHT = 8
"""Blocks of one file under way at once: 2 MiB cover 100 MB/s over a line of 20 ms."""
_FOLDERS_AT_ONCE = 32
_NOT_THERE = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


class SftpFiles:
    """The files of the repository at `address`; each coroutine takes the client that `session` made."""

    def __init__(self, address: SftpLocation, options: StorageOptions, session: SftpSession) -> None:
        self._address = address
        self._options = options
        self.session = session
        self._moving = session.moving
        self._group: bool | None = None

    async def stat(self, client: asyncssh.SFTPClient, file: File) -> int:
        """The size in bytes."""
        return (await self._moving(client.stat(self._address.below(file.path)))).size or 0

    async def delete(self, client: asyncssh.SFTPClient, file: File) -> None:
        """Remove the file."""
        await self._moving(client.remove(self._address.below(file.path)))

    async def create(self, client: asyncssh.SFTPClient) -> None:
        """Make the folders that are missing."""
        private = asyncssh.SFTPAttrs(permissions=0o700)
        await self._moving(client.makedirs(self._address.path, private, exist_ok=True))
        mode = await self._folder_mode(client)
        for kind in FileKind:
            if kind is not FileKind.CONFIG:
                await self._make_folder(client, kind, mode)
        limit = asyncio.Semaphore(_FOLDERS_AT_ONCE)

        async def make(number: int) -> None:
            async with limit:
                await self._make_folder(client, f"data/{number:02x}", mode)

        await _all(make(number) for number in range(256))

    async def _make_folder(self, client: asyncssh.SFTPClient, name: str, mode: int) -> None:
        path = self._address.below(name)
        try:
            await self._moving(client.mkdir(path, asyncssh.SFTPAttrs(permissions=mode)))
        except asyncssh.SFTPError:
            # The server says only "failure" where there is one already.
            if not await self._moving(client.isdir(path)):
                raise
            return
        if mode & stat.S_IWGRP:
            # The server's umask took that away.
            await self._change_mode(client, path, mode)

    async def _folder_mode(self, client: asyncssh.SFTPClient) -> int:
        return 0o770 if await self._open_to_group(client) else 0o700

    async def save(self, client: asyncssh.SFTPClient, file: File, view: memoryview) -> None:
        """Write beside the final name, then rename."""
        target = self._address.below(file.path)
        temporary = f"{target}-tmp-{secrets.token_hex(6)}"
        try:
            handle = await self._open_new(client, temporary, file)
            try:
                await self._write(handle, view)
                await self._make_durable(handle)
            finally:
                await self._moving(handle.close())
            await self._change_mode(client, temporary, 0o440 if await self._open_to_group(client) else 0o400)
            await self._rename(client, temporary, target)
        except Exception as error:
            await self._clean_up(client, temporary)
            if not await self._is_full(client, error, view.nbytes):
                raise
            raise StorageFull(f"could not save {file} in {self._address}: no space is left") from error

    async def _open_new(self, client: asyncssh.SFTPClient, path: str, file: File) -> asyncssh.SFTPClientFile:
        try:
            return await self._moving(client.open(path, "xb"))
        except _NOT_THERE:
            if not await self._moving(client.isdir(self._address.path)):
                raise
            mode = await self._folder_mode(client)
            for folder in (str(file.kind), file.path.rpartition("/")[0]):
                await self._make_folder(client, folder, mode)
            return await self._moving(client.open(path, "xb"))

    async def _write(self, handle: asyncssh.SFTPClientFile, view: memoryview) -> None:
        async def write(at: int, block: int) -> None:
            await _take(self._options.uploads, min(block, view.nbytes - at))
            await self._moving(handle.write(bytes(view[at : at + block]), at))

        block = min(_BLOCK, self._options.uploads.piece)
        await self._in_blocks(view.nbytes, block, lambda at: write(at, block))

    async def load(self, client: asyncssh.SFTPClient, file: File, offset: int, length: int | None) -> bytes:
        """The bytes of the range; FileShort where the file ends before."""
        handle = await self._moving(client.open(self._address.below(file.path), "rb"))
        try:
            size = (await self._moving(handle.stat())).size or 0
            wanted = max(0, size - offset) if length is None else length
            if offset + wanted > size:
                raise FileShort(
                    f"{file} in {self._address} has {size} bytes, asked for {wanted} from {offset}", retryable=False
                )
            found = bytearray(wanted)

            async def read(at: int) -> None:
                part = await self._moving(handle.read(min(block, wanted - at), offset + at))
                if len(part) != min(block, wanted - at):
                    raise FileShort(f"{file} in {self._address} was cut on its way")
                found[at : at + len(part)] = cast("bytes", part)
                await _take(self._options.downloads, len(part))

            block = min(_BLOCK, self._options.downloads.piece)
            await self._in_blocks(wanted, block, read)
            return bytes(found)
        finally:
            with contextlib.suppress(Exception):
                await self._moving(handle.close())

    async def _in_blocks(self, length: int, block: int, move: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """`move(offset)` for each block, a few at once."""
        waiting = iter(range(0, length, block))

        async def one_after_the_other() -> None:
            for at in waiting:
                await move(at)

        await _all(one_after_the_other() for _ in range(_IN_FLIGHT))

    async def _make_durable(self, handle: asyncssh.SFTPClientFile) -> None:
        # Where the server doesn't have it, its own file system decides, as with restic.
        with contextlib.suppress(asyncssh.SFTPOpUnsupported):
            await self._moving(handle.fsync())

    async def _rename(self, client: asyncssh.SFTPClient, temporary: str, target: str) -> None:
        try:
            await self._moving(client.posix_rename(temporary, target))
            return
        except asyncssh.SFTPOpUnsupported:
            pass
        try:
            await self._moving(client.rename(temporary, target))
        except asyncssh.SFTPError:
            # Plain rename replaces nothing. What is there is the same file, or a config that is written anew.
            if not await self._moving(client.exists(target)):
                raise
            await self._moving(client.remove(target))
            await self._moving(client.rename(temporary, target))

    async def listing(self, client: asyncssh.SFTPClient, kind: FileKind) -> list[Listed]:
        """All files of a kind."""
        folder = self._address.below(kind)
        if kind is not FileKind.DATA:
            return await self._list_folder(client, folder, "")
        below = [name for name, _ in await self._entries(client, folder) if len(name) == 2]
        limit = asyncio.Semaphore(_FOLDERS_AT_ONCE)

        async def list_one(name: str) -> list[Listed]:
            async with limit:
                return await self._list_folder(client, f"{folder}/{name}", name)

        return [listed for part in await _all(list_one(name) for name in below) for listed in part]

    async def _list_folder(self, client: asyncssh.SFTPClient, folder: str, prefix: str) -> list[Listed]:
        return [
            Listed(name, attributes.size or 0)
            for name, attributes in await self._entries(client, folder)
            if is_id(name) and name.startswith(prefix) and stat.S_ISREG(attributes.permissions or stat.S_IFREG)
        ]

    async def _entries(self, client: asyncssh.SFTPClient, folder: str) -> list[tuple[str, asyncssh.SFTPAttrs]]:
        try:
            entries = await self._moving(client.readdir(folder))
        except (*_NOT_THERE, asyncssh.SFTPNotADirectory):
            return []
        return [(str(entry.filename), entry.attrs) for entry in entries]

    async def _open_to_group(self, client: asyncssh.SFTPClient) -> bool:
        """As restic derives it: whether the group may read the config; before there is one, whether it may write the
        folder.
        """
        if self._group is None:
            try:
                attributes = await self._moving(client.stat(self._address.below("config")))
            except _NOT_THERE:
                root = await self._moving(client.stat(self._address.path))
                return (root.permissions or 0) & 0o070 == 0o070
            self._group = bool((attributes.permissions or 0) & stat.S_IRGRP)
        return self._group

    async def _change_mode(self, client: asyncssh.SFTPClient, path: str, mode: int) -> None:
        # Some servers own their files' modes; restic passes over this too.
        with contextlib.suppress(asyncssh.SFTPPermissionDenied, asyncssh.SFTPOpUnsupported, asyncssh.SFTPFailure):
            await self._moving(client.chmod(path, mode))

    async def _clean_up(self, client: asyncssh.SFTPClient, path: str) -> None:
        with contextlib.suppress(Exception):
            await self._moving(client.remove(path))

    async def _is_full(self, client: asyncssh.SFTPClient, error: Exception, needed: int) -> bool:
        """Whether a save failed for want of space: most servers say only "failure", so the space is asked for."""
        if isinstance(error, asyncssh.SFTPNoSpaceOnFilesystem | asyncssh.SFTPQuotaExceeded):
            return True
        if isinstance(error, asyncssh.SFTPFailure):
            with contextlib.suppress(Exception):
                room = await self._moving(client.statvfs(self._address.path))
                return room.bavail * room.frsize < needed + room.frsize or room.favail == 0
        return False


async def _take(pace: Pace, count: int) -> None:
    """Wait as the pace says; on a thread, so that others on the loop go on."""
    if pace.limits:
        await asyncio.to_thread(pace.take, count)
    else:
        pace.take(count)


async def _all(jobs: Iterator[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The answers of all, in order. The first that fails ends the others, and they have ended when it is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
