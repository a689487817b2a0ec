"""Files on an SFTP server, in restic's layout, so that restic and Lowtide can share it.

A save writes a temporary file beside the final name, has the server make it durable (fsync@openssh.com, where it has
that), and renames it over the final name in one step (posix-rename@openssh.com, else SFTP's plain rename). The host's
key is always checked: against the known hosts of the user, a file that is given, or a fingerprint.
"""

from __future__ import annotations

import threading
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from lowtide_engine.errors import EngineError, FileMissing, StorageError, StorageRefused
from lowtide_engine.storage.base import File, FileKind, Listed, check_range
from lowtide_engine.storage.sftp_location import OPTIONS, SftpLocation, SshTrust

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncssh
    from typing_extensions import Buffer

    from lowtide_engine.storage.options import StorageOptions
    from lowtide_engine.storage.sftp_files import SftpFiles

_T = TypeVar("_T")
CONNECTIONS = 5


class SftpStorage:
    """A `Storage` in one folder of a server. `connections` callers share one SSH connection."""

    def __init__(self, address: SftpLocation, options: StorageOptions) -> None:
        self._address = address
        self._options = options
        self._trust = SshTrust.of(options.of("sftp", OPTIONS), options.environment)
        self._guard = threading.Lock()
        self._made: SftpFiles | None = None

    @property
    def location(self) -> str:
        return str(self._address)

    @property
    def connections(self) -> int:
        return self._options.connections or CONNECTIONS

    def create(self) -> None:
        self._do("create the folders of a repository", lambda files, client: files.create(client))

    def save(self, file: File, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._do(f"save {file}", lambda files, client: files.save(client, file, view), saving=True)

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        return self._do(f"read {file}", lambda files, client: files.load(client, file, offset, length), file)

    def stat(self, file: File) -> int:
        return self._do(f"stat {file}", lambda files, client: files.stat(client, file), file)

    def list(self, kind: FileKind) -> Iterator[Listed]:
        if kind is FileKind.CONFIG:
            return iter(())
        return iter(self._do(f"list {kind}", lambda files, client: files.listing(client, kind)))

    def delete(self, file: File) -> None:
        self._do(f"delete {file}", lambda files, client: files.delete(client, file), file, saving=True)

    def close(self) -> None:
        with self._guard:
            if self._made is not None:
                self._made.session.close()
                self._made = None

    @property
    def _files(self) -> SftpFiles:
        from lowtide_engine.storage.sftp_files import SftpFiles
        from lowtide_engine.storage.sftp_session import SftpSession

        with self._guard:
            if self._made is None:
                session = SftpSession(self._address, self._trust, self._options)
                self._made = SftpFiles(self._address, self._options, session)
            return self._made

    def _do(
        self,
        doing: str,
        job: Callable[[SftpFiles, asyncssh.SFTPClient], Coroutine[Any, Any, _T]],
        file: File | None = None,
        *,
        saving: bool = False,
    ) -> _T:
        try:
            files = self._files
            return files.session.run(lambda client: job(files, client))
        except EngineError:
            raise
        except Exception as error:
            self._raise(error, doing, file, saving)

    def _raise(self, error: Exception, doing: str, file: File | None, saving: bool) -> NoReturn:
        """Translate what asyncssh and the network say. Mistakes of this program itself go through as they are."""
        import asyncssh

        from lowtide_engine.storage.sftp_session import Stuck

        place = f"could not {doing} in {self.location}"
        match error:
            case asyncssh.SFTPNoSuchFile() | asyncssh.SFTPNoSuchPath():
                if file is not None:
                    raise FileMissing(f"{file} is not in {self.location}") from error
                raise StorageError(f"{place}: {error}", hint="is the folder there?") from error
            case asyncssh.SFTPPermissionDenied() | asyncssh.SFTPWriteProtect():
                raise StorageRefused(f"{place}: {error}", hint="check owner and mode of the folder") from error
            case asyncssh.SFTPConnectionLost() | asyncssh.SFTPNoConnection():
                raise StorageError(f"{place}: the connection was lost", retryable=True, ambiguous=saving) from error
            case asyncssh.SFTPFailure():
                # What it says of all that it has no word for: a disk's error, a limit, a file system that was away.
                raise StorageError(f"{place}: {error}", retryable=True, ambiguous=saving) from error
            case asyncssh.SFTPError():
                raise StorageError(f"{place}: {error}") from error
            case asyncssh.HostKeyNotVerifiable():
                raise StorageRefused(
                    f"{place}: the host's key is not the one that is known, or none is known",
                    hint="name a file of known hosts by -o sftp.known-hosts=FILE, or the key by -o sftp.fingerprint=…",
                ) from error
            case asyncssh.PermissionDenied():
                raise StorageRefused(
                    f"{place}: the server accepts none of our keys", hint="name the key by -o sftp.identity=FILE"
                ) from error
            case asyncssh.KeyImportError() | asyncssh.KeyEncryptionError():
                raise StorageRefused(
                    f"{place}: the key could not be read: {error}",
                    hint="is it a private key, and LOWTIDE_SFTP_PASSPHRASE its passphrase, if it has one?",
                ) from error
            case asyncssh.Error() | OSError() | TimeoutError() | Stuck():
                why = str(error) or type(error).__name__
                raise StorageError(f"{place}: {why}", retryable=True, ambiguous=saving) from error
            case _:
                raise error


def open_sftp(location: str, options: StorageOptions) -> SftpStorage:
    """An SFTP storage from restic's forms of a location; opens no connection."""
    return SftpStorage(SftpLocation.parse(location), options)
