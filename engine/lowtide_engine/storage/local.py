"""Files in a folder, in restic's layout (restic-format 1.1), so that restic and Lowtide can share it.

What is saved is durable, and read-only. Modes follow the repository as restic's do: where its config (or, before there
is one, its folder) is open to the group, so is everything we make, because on a volume claim the next mover may run as
another user of the same group.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lowtide_engine.errors import (
    BadInput,
    FileMissing,
    FileShort,
    FileUnreadable,
    StorageError,
    StorageFull,
    StorageRefused,
)
from lowtide_engine.storage.base import File, FileKind, Listed, check_range, is_id
from lowtide_engine.storage.durable import save_durably, set_mode, sync
from lowtide_engine.storage.pacing import UNLIMITED, Pace, read_paced

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lowtide_engine.storage.options import StorageOptions


class LocalStorage:
    """A `Storage` in the folder `root`."""

    def __init__(
        self, root: Path, connections: int = 2, *, uploads: Pace = UNLIMITED, downloads: Pace = UNLIMITED
    ) -> None:
        self._root = root
        self._connections = connections
        self._uploads = uploads
        self._downloads = downloads
        self._group: bool | None = None

    @property
    def location(self) -> str:
        return str(self._root)

    @property
    def connections(self) -> int:
        return self._connections

    @property
    def root(self) -> Path:
        """The repository's folder."""
        return self._root

    def create(self) -> None:
        with self._translated("create the folders of a repository"):
            self._make_root()
            for kind in FileKind:
                if kind is not FileKind.CONFIG:
                    self._make_folder(self._root / kind)
            for number in range(256):
                self._make_folder(self._root / "data" / f"{number:02x}")
            sync(self._root / "data")
            sync(self._root)

    def save(self, file: File, data: Buffer) -> None:
        target = self._root / file.path
        with self._translated(f"save {file}"):
            try:
                self._save(target, data)
            except FileNotFoundError:
                if not self._root.is_dir():
                    raise
                self._make_folder(self._root / file.kind)
                self._make_folder(target.parent)
                # A file is as durable as the folders that lead to it.
                sync(self._root)
                sync(self._root / file.kind)
                self._save(target, data)

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        with (
            self._translated(f"read {file}", file, reading=True),
            open(self._root / file.path, "rb", buffering=0) as stream,
        ):
            size = os.fstat(stream.fileno()).st_size
            wanted = max(0, size - offset) if length is None else length
            if offset + wanted > size:
                raise FileShort(
                    f"{file} in {self.location} has {size} bytes, asked for {wanted} from {offset}", retryable=False
                )
            stream.seek(offset)
            found = read_paced(stream.read, wanted, self._downloads)
        if len(found) != wanted:
            raise FileShort(f"{file} in {self.location} ended {wanted - len(found)} bytes early", retryable=False)
        return found

    def stat(self, file: File) -> int:
        with self._translated(f"stat {file}", file):
            return (self._root / file.path).stat().st_size

    def list(self, kind: FileKind) -> Iterator[Listed]:
        if kind is FileKind.CONFIG:
            return
        folder = self._root / kind
        if kind is not FileKind.DATA:
            yield from self._list_folder(folder)
            return
        with self._translated(f"list {kind}"):
            try:
                with os.scandir(folder) as entries:
                    below = sorted(entry.name for entry in entries if entry.is_dir() and len(entry.name) == 2)
            except FileNotFoundError:
                return
        for name in below:
            for listed in self._list_folder(folder / name):
                if listed.name.startswith(name):
                    yield listed

    def delete(self, file: File) -> None:
        target = self._root / file.path
        with self._translated(f"delete {file}", file):
            target.unlink()
            sync(target.parent)

    def close(self) -> None:
        pass

    def _list_folder(self, folder: Path) -> Sequence[Listed]:
        listed = []
        with self._translated(f"list {folder.name}"):
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if is_id(entry.name):
                            with contextlib.suppress(FileNotFoundError):
                                status = entry.stat()
                                if stat.S_ISREG(status.st_mode):
                                    listed.append(Listed(entry.name, status.st_size))
            except FileNotFoundError:
                return []
        return listed

    def _open_to_group(self) -> bool:
        """As restic derives it: whether the group may read the config; before there is one, whether it may write
        the folder.
        """
        if self._group is None:
            try:
                self._group = bool((self._root / "config").stat().st_mode & stat.S_IRGRP)
            except FileNotFoundError:
                return self._root.stat().st_mode & 0o070 == 0o070
        return self._group

    def _make_root(self) -> None:
        """Make the repository's folder and those above that are missing; below a shared folder they are shared too."""
        missing = [path for path in (self._root, *self._root.parents) if not path.exists()]
        for path in reversed(missing):
            # What a volume with an fsGroup looks like at its root: open to a group, and handing that group down.
            shared = path.parent.stat().st_mode & 0o2070 == 0o2070
            path.mkdir(mode=0o700, exist_ok=True)
            if shared:
                _share(path)
            sync(path.parent)

    def _make_folder(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            return
        if self._open_to_group():
            _share(path)

    def _save(self, target: Path, data: Buffer) -> None:
        save_durably(target, data, mode=0o440 if self._open_to_group() else 0o400, pace=self._uploads)

    @contextlib.contextmanager
    def _translated(self, doing: str, file: File | None = None, *, reading: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if reading and error.errno == errno.EIO:
                raise FileUnreadable(
                    f"could not {doing} in {self.location}: {os.strerror(errno.EIO)}", retryable=True
                ) from error
            raise _storage_error(error, doing, self.location, file) from error


def open_local(address: str, options: StorageOptions) -> LocalStorage:
    """A local storage from a path; relative ones count from the working folder."""
    if not address:
        raise BadInput("the repository's location is an empty path")
    options.of("local", ())
    return LocalStorage(
        Path(address).absolute(), options.connections or 2, uploads=options.uploads, downloads=options.downloads
    )


def _storage_error(error: OSError, doing: str, location: str, file: File | None) -> StorageError:
    why = os.strerror(error.errno) if error.errno else str(error)
    message = f"could not {doing} in {location}: {why}"
    match error.errno:
        case errno.ENOENT if file is not None:
            return FileMissing(f"{file} is not in {location}")
        case errno.ENOENT | errno.ENOTDIR:
            return StorageError(message, hint="is the folder there, and mounted?")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return StorageRefused(message, hint="check owner and mode of the repository's folder")
        case errno.ENOSPC | errno.EDQUOT:
            return StorageFull(message)
        case errno.EIO | errno.EAGAIN | errno.EBUSY | errno.ESTALE | errno.ETIMEDOUT | errno.EINTR:
            return StorageError(message, retryable=True)
        case _:
            return StorageError(message)


def _share(folder: Path) -> None:
    # chmod of a folder drops its setgid bit unless it is asked for, and that bit is what hands the group down.
    set_mode(folder, 0o770 | folder.stat().st_mode & stat.S_ISGID)
