"""A local cache of sealed files: index, snapshots and the packs that hold trees. It saves traffic and is never
needed.

Nothing in it is trusted: what is read back must hash to its name, or is dropped and fetched again. It holds nothing
that the storage doesn't hold in the same sealed form.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lowtide_engine.storage import File, FileKind, Listed, Storage

if TYPE_CHECKING:
    from typing_extensions import Buffer

_log = logging.getLogger(__name__)

OLD_AFTER = 30 * 24 * 3600.0
"""Seconds after which the cache of a repository that nobody opened is removed."""
LARGEST_PACK = 64 * 1024 * 1024
_OPEN_PACKS = 32
_TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of Lowtide's. Its content may be deleted.\n"
)
_REPOSITORY_ID = re.compile(r"[0-9a-f]{64}")
_CACHED_WHOLE = (FileKind.INDEX, FileKind.SNAPSHOT)


def cache_root(environment: Mapping[str, str], given: str | None = None) -> Path:
    """The folder that holds all repositories' caches: --cache-dir or RESTIC_CACHE_DIR, else XDG_CACHE_HOME, else
    ~/.cache; `/lowtide`.
    """
    base = given or environment.get("RESTIC_CACHE_DIR") or environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lowtide"


class Cache:
    """The cached files of one repository, in `folder`. Safe for several threads and processes; a cache that fails
    only costs time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._packs: OrderedDict[str, int] = OrderedDict()
        self._filling: dict[str, threading.Lock] = {}
        self._full = False

    @classmethod
    def open(cls, root: Path, repository_id: str, *, now: float | None = None) -> Cache | None:
        """The repository's cache below `root`, made if need be; old ones of others are removed. None where it can't
        be used.
        """
        if not _REPOSITORY_ID.fullmatch(repository_id):
            raise ValueError(f"no repository id: {repository_id!r}")
        folder = root / repository_id
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (root / "CACHEDIR.TAG").exists():
                (root / "CACHEDIR.TAG").write_bytes(_TAG)
            for kind in (FileKind.INDEX, FileKind.SNAPSHOT, FileKind.DATA):
                (folder / kind).mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            os.utime(folder)
        except OSError as error:
            _log.warning("no cache: %s can't be used: %s", folder, error.strerror)
            return None
        _remove_old(root, keep=folder, now=time.time() if now is None else now)
        return cls(folder)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder

    def holds(self, file: File) -> bool:
        """Whether it has a file, or may take it: not once one could not be written."""
        return not self._full or file.name in self._packs or self._path(file).exists()

    def load(self, file: File) -> bytes | None:
        """The whole file, or None where it isn't cached; a damaged one is dropped."""
        try:
            data = self._path(file).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != file.name:
            _log.warning("dropped %s from the cache: it is damaged", file)
            self.drop(file)
            return None
        return data

    def save(self, file: File, data: Buffer) -> None:
        """Keep a file, whole or not at all. A full disk is no failure."""
        try:
            descriptor, name = tempfile.mkstemp(prefix="tmp-", dir=self._path(file).parent)
            try:
                with open(descriptor, "wb") as stream:
                    stream.write(data)
                os.rename(name, self._path(file))
            except BaseException:
                os.unlink(name)
                raise
        except OSError as error:
            self._full = True
            _log.info("could not cache %s: %s", file, error.strerror)

    def drop(self, file: File) -> None:
        """Forget a file."""
        with self._guard:
            descriptor = self._packs.pop(file.name, None)
            if descriptor is not None:
                os.close(descriptor)
        with contextlib.suppress(OSError):
            self._path(file).unlink()

    def retain(self, kind: FileKind, wanted: Callable[[str], bool]) -> None:
        """Drop everything of a kind but what is `wanted` by its name: what is no longer in the repository."""
        try:
            present = [entry.name for entry in os.scandir(self._folder / kind)]
        except OSError:
            return
        for name in present:
            if _REPOSITORY_ID.fullmatch(name) and not wanted(name):
                self.drop(File(kind, name))

    def piece(self, pack: File, offset: int, length: int, fetch: Callable[[], bytes]) -> bytes:
        """A range of a pack; `fetch` gets the whole pack where it isn't cached.

        The pack is hashed when a process first opens it; every blob in it is then authenticated by whoever unseals it.
        Gives fewer bytes where the pack ends before.
        """
        for _ in range(2):
            data = self._read_open(pack, offset, length)
            if data is not None:
                return data
            with self._guard:
                filling = self._filling.setdefault(pack.name, threading.Lock())
            with filling:
                data = self._read_open(pack, offset, length)
                if data is not None:
                    return data
                if self.load(pack) is None:
                    whole = fetch()
                    if hashlib.sha256(whole).hexdigest() != pack.name:
                        return whole[offset : offset + length]
                    self.save(pack, whole)
                    if not self._open(pack):
                        return whole[offset : offset + length]
                else:
                    self._open(pack)
        return fetch()[offset : offset + length]

    def close(self) -> None:
        """Close what is open. The files stay."""
        with self._guard:
            for descriptor in self._packs.values():
                os.close(descriptor)
            self._packs.clear()

    def _read_open(self, pack: File, offset: int, length: int) -> bytes | None:
        with self._guard:
            descriptor = self._packs.get(pack.name)
            if descriptor is None:
                return None
            self._packs.move_to_end(pack.name)
            return os.pread(descriptor, length, offset)

    def _open(self, pack: File) -> bool:
        try:
            descriptor = os.open(self._path(pack), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        with self._guard:
            old = self._packs.pop(pack.name, None)
            if old is not None:
                os.close(old)
            self._packs[pack.name] = descriptor
            while len(self._packs) > _OPEN_PACKS:
                _, oldest = self._packs.popitem(last=False)
                os.close(oldest)
        return True

    def _path(self, file: File) -> Path:
        return self._folder / file.kind / file.name


class CachedStorage:
    """A `Storage` that reads index and snapshot files through a cache, and keeps it in step with what is listed,
    saved and deleted.
    """

    def __init__(self, inner: Storage, cache: Cache) -> None:
        self._inner = inner
        self._cache = cache

    @property
    def location(self) -> str:
        return self._inner.location

    @property
    def connections(self) -> int:
        return self._inner.connections

    def create(self) -> None:
        self._inner.create()

    def save(self, file: File, data: Buffer) -> None:
        self._inner.save(file, data)
        if file.kind in _CACHED_WHOLE:
            self._cache.save(file, data)

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        if file.kind not in _CACHED_WHOLE or offset or length is not None:
            return self._inner.load(file, offset, length)
        data = self._cache.load(file)
        if data is None:
            data = self._inner.load(file)
            if hashlib.sha256(data).hexdigest() == file.name:
                self._cache.save(file, data)
        return data

    def stat(self, file: File) -> int:
        return self._inner.stat(file)

    def list(self, kind: FileKind) -> Iterator[Listed]:
        listed = [*self._inner.list(kind)]
        if kind in _CACHED_WHOLE:
            self._cache.retain(kind, {entry.name for entry in listed}.__contains__)
        return iter(listed)

    def delete(self, file: File) -> None:
        if file.kind is not FileKind.CONFIG:
            with contextlib.suppress(ValueError):
                self._cache.drop(file)
        self._inner.delete(file)

    def close(self) -> None:
        self._cache.close()
        self._inner.close()


def load_piece(
    storage: Storage, cache: Cache | None, pack: str, offset: int, length: int, size: int, *, fresh: bool = False
) -> bytes:
    """A range of a pack: through the cache where one is given that has room for it; `fresh` drops it from there
    first.
    """
    file = File(FileKind.DATA, pack)
    if cache is not None and fresh:
        cache.drop(file)
    if cache is None or size > LARGEST_PACK or not cache.holds(file):
        return storage.load(file, offset, length)
    data = cache.piece(file, offset, length, lambda: storage.load(file))
    if len(data) != length:
        cache.drop(file)
        return storage.load(file, offset, length)
    return data


def _remove_old(root: Path, *, keep: Path, now: float) -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(root):
            if not _REPOSITORY_ID.fullmatch(entry.name) or entry.name == keep.name:
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False) and now - entry.stat(follow_symlinks=False).st_mtime > OLD_AFTER:
                    _log.info("removing the cache of repository %s, unused for 30 days", entry.name[:8])
                    shutil.rmtree(entry.path, ignore_errors=True)
