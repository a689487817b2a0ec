"""A repository, as one type per state: opened, locked, indexed. What needs a lock, or the index, is a method of the
type that has it.

    with open_repository(storage, password) as repository:
        with repository.locked(exclusive=False) as locked:
            snapshots = locked.snapshots()      # listed before the index is loaded (restic-format 1.11)
            indexed = locked.load_index()       # only index files that are listed now, after our lock was taken

The order of writing is packs, index, snapshot; each durable before the next.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from lowtide_engine.errors import (
    BadInput,
    EngineError,
    FileMissing,
    FileShort,
    FileUnreadable,
    LockLost,
    RepositoryDamaged,
    RepositoryError,
    StorageError,
    Unreadable,
)
from lowtide_engine.repository import keys
from lowtide_engine.repository.cache import Cache, CachedStorage, load_piece
from lowtide_engine.repository.config import Config
from lowtide_engine.repository.config_file import replace_config
from lowtide_engine.repository.holder import Holder, LockFile
from lowtide_engine.repository.index_files import load_index
from lowtide_engine.repository.lock import Lock, Locks
from lowtide_engine.repository.password import Password
from lowtide_engine.repository.sealing import OVERHEAD, MasterKey
from lowtide_engine.repository.snapshot import Snapshot
from lowtide_engine.repository.unpacked import UnpackedFiles
from lowtide_engine.storage import Clock, File, FileKind, Storage

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lowtide_engine._kernel import BlobKind, Index
    from lowtide_engine._kernel import Key as KernelKey

_OnDamaged = Callable[[str, Unreadable], None]


class Repository:
    """An opened repository: its password was right and its config was read. Made by `open_repository` and
    `init_repository`.
    """

    def __init__(
        self,
        storage: Storage,
        master: MasterKey,
        key_name: str,
        config: Config,
        *,
        clock: Clock,
        holder: Holder,
        cache: Cache | None = None,
    ) -> None:
        self._storage = storage if cache is None else CachedStorage(storage, cache)
        self._master = master
        self._key_name = key_name
        self._config = config
        self._clock = clock
        self._holder = holder
        self._cache = cache
        self._files = UnpackedFiles(self._storage, master, config.version, verify=config.extra_verify)
        self._locks = Locks(self._storage, self._files, clock, holder)

    @property
    def id(self) -> str:
        """64 hex digits that name the repository for ever."""
        return self._config.id

    @property
    def config(self) -> Config:
        """Its config."""
        return self._config

    @property
    def storage(self) -> Storage:
        """Where its files are (with retries, and through the cache where there is one)."""
        return self._storage

    @property
    def location(self) -> str:
        """Where it is; safe to print."""
        return self._storage.location

    @property
    def clock(self) -> Clock:
        """The clock that waits and locks go by."""
        return self._clock

    @property
    def files(self) -> UnpackedFiles:
        """Index, snapshot and lock files, sealed and unsealed."""
        return self._files

    @property
    def cache(self) -> Cache | None:
        """The local cache, if it is used."""
        return self._cache

    @property
    def locks(self) -> Locks:
        """Its locks, for `unlock` and `list locks`."""
        return self._locks

    @property
    def key_name(self) -> str:
        """The key file that it was opened with."""
        return self._key_name

    @property
    def master_key(self) -> MasterKey:
        """What seals everything in it."""
        return self._master

    @functools.cached_property
    def kernel_key(self) -> KernelKey:
        """The master key for the kernel."""
        return self._master.for_kernel()

    @contextmanager
    def locked(
        self,
        *,
        exclusive: bool = False,
        retry_for: float = 0.0,
        clear_unrefreshed: bool = False,
        dead_holders: Sequence[str] = (),
        defer_second_look: bool = False,
    ) -> Iterator[LockedRepository]:
        """Hold a lock for the block; parameters as `Locks.acquire` has them. Released at the end, whatever happens."""
        lock = self._locks.acquire(
            exclusive=exclusive,
            retry_for=retry_for,
            clear_unrefreshed=clear_unrefreshed,
            dead_holders=dead_holders,
            defer_second_look=defer_second_look,
        )
        try:
            yield LockedRepository(self, lock)
        finally:
            lock.release()

    def unlocked(self) -> LockedRepository:
        """For reading without a lock (--no-lock, a storage that can't be written to): a prune meanwhile makes reads
        fail.
        """
        return LockedRepository(self, None)

    def load_file(self, kind: FileKind, name: str) -> bytes:
        """The plaintext of an index, snapshot or lock file."""
        return self._files.load(kind, name)

    def list_keys(self) -> list[keys.KeyInfo]:
        """All key files, oldest first."""
        return keys.list_keys(self._storage, self._key_name)

    def add_key(
        self,
        password: Password,
        *,
        kdf: keys.KdfParameters = keys.DEFAULT_KDF,
        username: str | None = None,
        hostname: str | None = None,
    ) -> str:
        """Another password for this repository; gives the new key file's name."""
        return keys.save_key(self._storage, self._master, password, kdf=kdf, username=username, hostname=hostname)

    def remove_key(self, prefix: str) -> str:
        """Remove the key whose name begins so; never the one that we were opened with, nor any once that one is gone:
        it could be the last. Needs an exclusive lock around it.
        """
        self._config.refuse_deleting("remove a key")
        names = [listed.name for listed in self._storage.list(FileKind.KEY)]
        name = keys.key_by_prefix(names, prefix)
        if name == self._key_name:
            raise BadInput(f"key {name[:8]} is the one in use", hint="open the repository with another password first")
        if self._key_name not in names:
            raise BadInput(
                f"key {name[:8]} stays: the one in use, {self._key_name[:8]}, was removed by somebody else meanwhile",
                hint="open the repository with a password that it still has",
            )
        self._storage.delete(File(FileKind.KEY, name))
        return name

    def change_password(
        self,
        password: Password,
        *,
        kdf: keys.KdfParameters = keys.DEFAULT_KDF,
        username: str | None = None,
        hostname: str | None = None,
    ) -> str:
        """Replace the key in use by one with another password; gives its name. Needs an exclusive lock around it.

        The new key is stored, and was seen to open, before the old one is removed.
        """
        self._config.refuse_deleting("change the password")
        name = self.add_key(password, kdf=kdf, username=username, hostname=hostname)
        if keys.load_key(self._storage, name).open(password) != self._master:
            raise RepositoryError(f"the new key {name[:8]} doesn't open as it was written; the old one stays")
        self._storage.delete(File(FileKind.KEY, self._key_name))
        self._key_name = name
        return name

    def remove_locks(self, *, every: bool = False) -> list[LockFile] | int:
        """`unlock`: the locks that nobody holds any more (as a list), or every one (as a number)."""
        return self._locks.remove_all() if every else self._locks.remove_abandoned()

    def replace_config(self, config: Config) -> None:
        """Store another config for the same repository and go on with it. Needs an exclusive lock around it."""
        replace_config(self._storage, self._master, config)
        self._config = config

    def close(self) -> None:
        """Give back connections."""
        self._storage.close()

    def __enter__(self) -> Repository:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id[:8]} in {self.location}>"


class LockedRepository:
    """A repository under a lock (or, where `lock` is None, read without one)."""

    def __init__(self, repository: Repository, lock: Lock | None) -> None:
        self._repository = repository
        self._lock = lock

    @property
    def repository(self) -> Repository:
        """The opened repository."""
        return self._repository

    @property
    def lock(self) -> Lock | None:
        """The lock, or None without one."""
        return self._lock

    def ensure(self, *, confirmed: bool = True) -> None:
        """Prove that the lock still holds, else LockLost; `confirmed` as `Lock.ensure` has it. Without a lock there is
        nothing to write, hence BadInput.
        """
        self._need_lock().ensure(confirmed=confirmed)

    def snapshots(self, *, on_damaged: _OnDamaged | None = None) -> list[Snapshot]:
        """All snapshots, oldest first. One that is Unreadable raises that, or is told to `on_damaged` (name, error).

        Called before `load_index`: a snapshot that is listed has its index files listed later.
        """
        storage = self._repository.storage
        names = sorted(listed.name for listed in storage.list(FileKind.SNAPSHOT))
        found = []
        with ThreadPoolExecutor(storage.connections, thread_name_prefix="snapshots") as pool:
            futures = {name: pool.submit(self.load_snapshot, name) for name in names}
            for name, future in futures.items():
                try:
                    found.append(future.result())
                except FileMissing:
                    continue
                except Unreadable as error:
                    if on_damaged is None:
                        raise
                    on_damaged(name, error)
        return sorted(found, key=lambda snapshot: snapshot.time)

    def load_snapshot(self, name: str) -> Snapshot:
        """One snapshot by its whole id."""
        return Snapshot.decode(name, self._repository.load_file(FileKind.SNAPSHOT, name))

    def load_index(self, tick: Callable[[], None] = lambda: None) -> IndexedRepository:
        """Load every index file that is listed now. The repository in its last state: blobs can be found, and
        stored. `tick` is called every second meanwhile.
        """
        opened = self._repository
        index = load_index(opened.storage, opened.files, opened.kernel_key, tick=tick)
        if opened.cache is not None:
            opened.cache.retain(FileKind.DATA, index.has_tree_blobs)
        return IndexedRepository(opened, self._lock, index)

    def delete_snapshot(self, name: str) -> None:
        """Remove one snapshot file. Needs an exclusive lock."""
        self._repository.config.refuse_deleting("delete a snapshot")
        lock = self._need_lock()
        if not lock.exclusive:
            raise BadInput("snapshots are deleted under an exclusive lock only")
        lock.ensure()
        self._repository.storage.delete(File(FileKind.SNAPSHOT, name))

    def upgrade(self) -> None:
        """Make a repository of version 1 one of version 2: only its config changes. Needs an exclusive lock."""
        lock = self._need_lock()
        if not lock.exclusive:
            raise BadInput("a repository is upgraded under an exclusive lock only")
        self._repository.config.refuse_deleting("replace the config")
        lock.ensure()
        self._repository.replace_config(replace(self._repository.config, version=2))

    def save_snapshot(self, snapshot: Snapshot) -> Snapshot:
        """Store a snapshot whose packs and indexes are all stored; gives it with its id.

        The lock is proved before and after. Where it was lost in between, the snapshot is deleted again and LockLost
        raised: a prune may have removed what it names.
        """
        return replace(snapshot, id=self._publish(FileKind.SNAPSHOT, snapshot.encode()))

    def _publish(self, kind: FileKind, plaintext: bytes) -> str:
        """Store what makes other files reachable, only while the lock holds; gives its name."""
        lock = self._need_lock()
        lock.ensure()
        sealed = self._repository.files.encode(plaintext)
        file = File(kind, hashlib.sha256(sealed).hexdigest())
        failure: StorageError | None = None
        try:
            self._repository.storage.save(file, sealed)
        except StorageError as error:
            # It may have been stored all the same, so that the lock counts in any case.
            failure = error
        try:
            lock.ensure()
        except EngineError as error:
            self._take_back(file, error)
            raise
        if failure is not None:
            raise failure
        return file.name

    def _take_back(self, file: File, why: EngineError) -> None:
        try:
            self._repository.storage.delete(file)
        except FileMissing:
            pass
        except EngineError as error:
            short = file.name[:8]
            forget = f"run `lowtide forget {short}`, then " if file.kind is FileKind.SNAPSHOT else "run "
            raise LockLost(
                f"{file.kind}/{short} was stored while the lock was lost, and could not be deleted: {error.message}",
                hint=f"{forget}`lowtide check`",
            ) from why

    def _need_lock(self) -> Lock:
        if self._lock is None:
            raise BadInput("nothing is written without a lock", hint="leave --no-lock out")
        return self._lock


class IndexedRepository(LockedRepository):
    """A repository whose index is in memory. `index` grows by what a run stores."""

    def __init__(self, repository: Repository, lock: Lock | None, index: Index) -> None:
        super().__init__(repository, lock)
        self._index = index

    @property
    def index(self) -> Index:
        """The kernel's index: every blob of every index file."""
        return self._index

    def blob_size(self, kind: BlobKind, blob: str) -> int | None:
        """How many bytes a blob's content has, None where no index names it."""
        places = self._index.locate(kind, blob)
        return (places[0].uncompressed_length or places[0].length - OVERHEAD) if places else None

    def load_piece(self, pack: str, offset: int, length: int, kind: BlobKind, *, fresh: bool = False) -> bytes:
        """A range of a pack, as the kernel's Fetch asks for it; exactly `length` bytes.

        Pieces of tree packs come through the cache. `fresh` is for a second try after a piece that didn't hash right:
        the cache is passed over. Raises RepositoryDamaged where the pack is missing or too short, FileUnreadable
        where the storage can't give it, another StorageError where the storage fails.
        """
        cache = self._repository.cache if kind == "tree" else None
        size = self._index.pack_size(pack) if cache is not None else 0
        try:
            return load_piece(self._repository.storage, cache, pack, offset, length, size, fresh=fresh)
        except FileMissing:
            raise RepositoryDamaged(
                f"pack {pack[:8]} is in the index, but not in {self._repository.location}"
            ) from None
        except FileShort as error:
            raise RepositoryDamaged(f"pack {pack[:8]} is shorter than the index says: {error.message}") from None

    def load_blob(self, kind: BlobKind, blob: str) -> bytes:
        """One blob's content, checked against its id; every copy that the index knows is tried, each twice. Raises
        RepositoryDamaged, or FileUnreadable where that is why the last copy could not be had.
        """
        from lowtide_engine._kernel import KernelError, open_blob

        failure: KernelError | EngineError | None = None
        for place in self._index.locate(kind, blob):
            for fresh in (False, True):
                try:
                    sealed = self.load_piece(place.pack, place.offset, place.length, kind, fresh=fresh)
                    return open_blob(self._repository.kernel_key, sealed, blob, place.uncompressed_length)
                except (KernelError, RepositoryDamaged) as error:
                    failure = error
                except FileUnreadable as error:
                    failure = error
                    break
        if failure is None:
            raise RepositoryDamaged(f"{kind} blob {blob[:8]} is not in the index")
        if isinstance(failure, FileUnreadable):
            # No damage: a repair must not take what a server does not give today for lost.
            raise failure
        raise RepositoryDamaged(f"{kind} blob {blob[:8]} can't be read: {failure}") from failure

    def save_pack(self, pack: str, data: Buffer, kind: BlobKind) -> None:
        """Store a finished pack; durable when it returns. Waits for the second look at the locks, and no longer."""
        self._need_lock().confirm()
        file = File(FileKind.DATA, pack)
        self._repository.storage.save(file, data)
        if kind == "tree" and self._repository.cache is not None:
            self._repository.cache.save(file, data)

    def save_index(self, plaintext: bytes) -> str:
        """Store an index file whose packs are all stored; gives its name.

        The lock is proved before and after, as for a snapshot: an index that names packs which a prune removed
        meanwhile would make every later backup believe that it has them.
        """
        return self._publish(FileKind.INDEX, plaintext)
