"""The states of a repository, and what each refuses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from lowtide_engine.errors import (
    AppendOnly,
    BadInput,
    FileUnreadable,
    LockLost,
    RepositoryDamaged,
    RepositoryExists,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnsupported,
    StorageError,
    WrongPassword,
)
from lowtide_engine.repository import (
    Holder,
    IndexedRepository,
    Instant,
    LockFile,
    Password,
    Repository,
    Snapshot,
    init_repository,
    open_repository,
)
from lowtide_engine.repository.lock import LOST_AFTER
from lowtide_engine.repository.sealing import MasterKey
from lowtide_engine.storage import CONFIG, File, FileKind, Storage
from lowtide_engine.storage.memory import MemoryStorage
from lowtide_engine.storage.retry import Retrying
from tests.fakes import FakeClock, FaultyStorage
from tests.unit.repository.conftest import CHEAP, PASSWORD

TREE = b'{"nodes":[]}\n'
TREE_ID = hashlib.sha256(TREE).hexdigest()
SNAPSHOT = Snapshot(Instant.parse("2024-01-01T00:00:00Z"), TREE_ID, ("/data",))


def names(storage: Storage, kind: FileKind) -> list[str]:
    return [listed.name for listed in storage.list(kind)]


def store_tree(indexed: IndexedRepository, *, copies: int = 1) -> list[str]:
    """Store the empty tree raw, in `copies` packs of one blob each, and index it; gives the packs."""
    packs, entries = [], []
    for _ in range(copies):
        sealed = indexed.repository.kernel_key.seal(TREE)
        pack = hashlib.sha256(sealed).hexdigest()
        indexed.save_pack(pack, sealed, "tree")
        blob = {"id": TREE_ID, "type": "tree", "offset": 0, "length": len(sealed)}
        entries.append({"id": pack, "blobs": [blob]})
        packs.append(pack)
    indexed.save_index(json.dumps({"packs": entries}).encode())
    return packs


def test_what_is_made_opens(repository: Repository, storage: Storage, clock: FakeClock) -> None:
    with open_repository(storage, PASSWORD, clock=clock) as again:
        assert again.config == repository.config
        assert again.id in json.loads(again.config.encode())["id"]
        assert PASSWORD.reveal().decode() not in repr(again)


def test_the_config_is_not_compressed(repository: Repository, storage: Storage) -> None:
    assert len(storage.load(CONFIG)) in range(150, 160)


@pytest.mark.parametrize("version", [1, 2])
def test_init_refuses_what_is_there(storage: Storage, clock: FakeClock, version: int) -> None:
    init_repository(storage, PASSWORD, clock=clock, kdf=CHEAP, version=version)
    with pytest.raises(RepositoryExists, match="already"):
        init_repository(storage, PASSWORD, clock=clock, kdf=CHEAP)


@pytest.mark.parametrize("kind", [FileKind.KEY, FileKind.SNAPSHOT])
def test_init_refuses_remains(storage: Storage, clock: FakeClock, kind: FileKind) -> None:
    storage.save(File(kind, "ab" * 32), b"x")
    with pytest.raises(RepositoryExists, match=str(kind)):
        init_repository(storage, PASSWORD, clock=clock, kdf=CHEAP)
    assert len(names(storage, FileKind.KEY)) == (kind is FileKind.KEY)


def test_without_a_config_there_is_no_repository(repository: Repository, storage: Storage, clock: FakeClock) -> None:
    storage.delete(CONFIG)
    for password in (PASSWORD, Password("wrong")):
        with pytest.raises(RepositoryMissing) as caught:
            open_repository(storage, password, clock=clock)
        assert caught.value.exit_code == 10


def test_an_empty_storage_is_no_repository(storage: Storage, clock: FakeClock) -> None:
    with pytest.raises(RepositoryMissing):
        open_repository(storage, PASSWORD, clock=clock)


def test_a_config_of_another_key_is_damage_and_no_wrong_password(
    repository: Repository, storage: Storage, clock: FakeClock
) -> None:
    storage.save(CONFIG, MasterKey.generate().seal(repository.config.encode()))
    with pytest.raises(RepositoryDamaged, match="config"):
        open_repository(storage, PASSWORD, clock=clock)
    with pytest.raises(WrongPassword):
        open_repository(storage, Password("wrong"), clock=clock)


def with_config(storage: Storage, repository: Repository, clock: FakeClock, **extra: object) -> Repository:
    document = json.loads(repository.config.encode()) | extra
    storage.save(CONFIG, repository._master.seal(json.dumps(document).encode()))
    return open_repository(storage, PASSWORD, clock=clock)


def test_half_a_repository_is_refused(repository: Repository, storage: Storage, clock: FakeClock) -> None:
    with pytest.raises(RepositoryUnsupported, match="hot"):
        with_config(storage, repository, clock, is_hot=True)


def test_an_append_only_repository_loses_nothing(repository: Repository, storage: Storage, clock: FakeClock) -> None:
    again = with_config(storage, repository, clock, append_only=True)
    other = again.add_key(Password("other"), kdf=CHEAP)
    with again.locked(exclusive=True) as locked:
        stored = locked.save_snapshot(SNAPSHOT)
        with pytest.raises(AppendOnly):
            locked.delete_snapshot(stored.id)
        with pytest.raises(AppendOnly):
            again.remove_key(other)
        with pytest.raises(AppendOnly):
            again.change_password(Password("new"), kdf=CHEAP)
    assert len(names(storage, FileKind.SNAPSHOT)) == 1
    assert len(names(storage, FileKind.KEY)) == 2


def test_the_lock_is_gone_at_the_end_whatever_happens(repository: Repository, storage: Storage) -> None:
    with repository.locked():
        assert len(names(storage, FileKind.LOCK)) == 1
    assert names(storage, FileKind.LOCK) == []
    with pytest.raises(KeyboardInterrupt), repository.locked():
        raise KeyboardInterrupt
    assert names(storage, FileKind.LOCK) == []


def test_packs_index_and_snapshot_can_be_read_again(repository: Repository, storage: Storage) -> None:
    with repository.locked() as locked:
        indexed = locked.load_index()
        assert len(indexed.index) == 0
        store_tree(indexed)
        stored = indexed.save_snapshot(SNAPSHOT)
    with repository.locked() as locked:
        assert locked.snapshots() == [stored]
        indexed = locked.load_index()
        assert len(indexed.index) == 1
        assert indexed.load_blob("tree", TREE_ID) == TREE
        with pytest.raises(RepositoryDamaged, match="not in the index"):
            indexed.load_blob("data", TREE_ID)


def test_a_damaged_copy_of_a_blob_is_replaced_by_another(repository: Repository, storage: Storage) -> None:
    with repository.locked() as locked:
        packs = store_tree(locked.load_index(), copies=2)
        indexed = locked.load_index()
        storage.save(File(FileKind.DATA, packs[0]), bytes(len(storage.load(File(FileKind.DATA, packs[0])))))
        assert indexed.load_blob("tree", TREE_ID) == TREE
        storage.save(File(FileKind.DATA, packs[1]), b"short")
        with pytest.raises(RepositoryDamaged, match=TREE_ID[:8]):
            indexed.load_blob("tree", TREE_ID)
        for pack in packs:
            storage.delete(File(FileKind.DATA, pack))
        with pytest.raises(RepositoryDamaged, match="not in memory"):
            indexed.load_piece(packs[0], 0, 10, "data")


class Unreadable(MemoryStorage):
    """Can't read the files in `broken`, and gives all others."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[File] = set()

    def load(self, file: File, offset: int = 0, length: int | None = None) -> bytes:
        if file in self.broken:
            raise FileUnreadable(f"could not read {file}: Input/output error", retryable=True)
        return super().load(file, offset, length)


def test_a_copy_that_the_storage_cannot_read_is_replaced_by_another(clock: FakeClock) -> None:
    storage = Unreadable()
    repository = init_repository(Retrying(storage, clock), PASSWORD, clock=clock, kdf=CHEAP)
    with repository.locked() as locked:
        packs = store_tree(locked.load_index(), copies=2)
        indexed = locked.load_index()
        storage.broken = {File(FileKind.DATA, packs[0])}
        assert indexed.load_blob("tree", TREE_ID) == TREE
        storage.broken = {File(FileKind.DATA, pack) for pack in packs}
        with pytest.raises(FileUnreadable, match="Input/output error"):
            indexed.load_blob("tree", TREE_ID)


def test_a_snapshot_and_a_key_that_cannot_be_read_cost_nothing_else(clock: FakeClock) -> None:
    storage = Unreadable()
    repository = init_repository(Retrying(storage, clock), PASSWORD, clock=clock, kdf=CHEAP)
    other = repository.add_key(Password("other"), kdf=CHEAP)
    with repository.locked() as locked:
        good, bad = locked.save_snapshot(SNAPSHOT), locked.save_snapshot(replace(SNAPSHOT, hostname="other"))
        storage.broken = {File(FileKind.SNAPSHOT, bad.id)}
        told: list[str] = []
        assert locked.snapshots(on_damaged=lambda name, error: told.append(name)) == [good]
        assert told == [bad.id]
    storage.broken = {File(FileKind.KEY, repository.key_name)}
    assert open_repository(Retrying(storage, clock), Password("other"), clock=clock).key_name == other


def test_one_damaged_index_stops_everything(repository: Repository, storage: Storage) -> None:
    with repository.locked() as locked:
        store_tree(locked.load_index())
        repository.files.save(FileKind.INDEX, b'{"packs":"none"}')
        with pytest.raises(RepositoryDamaged, match="index/"):
            locked.load_index()


def test_a_damaged_snapshot_stops_or_is_told(repository: Repository, storage: Storage) -> None:
    with repository.locked() as locked:
        good = locked.save_snapshot(SNAPSHOT)
        bad = repository.files.save(FileKind.SNAPSHOT, b"{}")
        with pytest.raises(RepositoryDamaged, match=bad[:8]):
            locked.snapshots()
        told: list[str] = []
        assert locked.snapshots(on_damaged=lambda name, error: told.append(name)) == [good]
        assert told == [bad]


def test_the_cache_keeps_only_packs_that_the_index_names(storage: Storage, clock: FakeClock, tmp_path: Path) -> None:
    init_repository(storage, PASSWORD, clock=clock, kdf=CHEAP)
    repository = open_repository(storage, PASSWORD, clock=clock, cache_root=tmp_path)
    assert repository.cache is not None
    with repository.locked() as locked:
        (kept,) = store_tree(locked.load_index())
    pruned = File(FileKind.DATA, "ab" * 32)
    repository.cache.save(pruned, b"a pack that a prune removed")
    repository.unlocked().load_index()
    assert [path.name for path in (repository.cache.folder / "data").iterdir()] == [kept]


def test_without_a_lock_nothing_is_written(repository: Repository, storage: Storage) -> None:
    indexed = repository.unlocked().load_index()
    for write in (
        lambda: indexed.save_pack("ab" * 32, b"x", "data"),
        lambda: indexed.save_index(b"{}"),
        lambda: indexed.save_snapshot(SNAPSHOT),
        lambda: indexed.delete_snapshot("ab" * 32),
        indexed.ensure,
    ):
        with pytest.raises(BadInput, match="without a lock"):
            write()
    assert indexed.snapshots() == []
    assert [names(storage, kind) for kind in (FileKind.DATA, FileKind.INDEX, FileKind.SNAPSHOT)] == [[], [], []]


def test_snapshots_are_deleted_under_an_exclusive_lock_only(repository: Repository, storage: Storage) -> None:
    with repository.locked() as locked:
        stored = locked.save_snapshot(SNAPSHOT)
        with pytest.raises(BadInput, match="exclusive"):
            locked.delete_snapshot(stored.id)
    with repository.locked(exclusive=True) as locked:
        locked.delete_snapshot(stored.id)
    assert names(storage, FileKind.SNAPSHOT) == []


class World:
    """A repository over a storage that fails as planned, behind retries."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.memory = MemoryStorage()
        self.faulty = FaultyStorage(self.memory)
        self.repository = init_repository(Retrying(self.faulty, self.clock), PASSWORD, clock=self.clock, kdf=CHEAP)


@pytest.fixture
def world() -> World:
    return World()


def test_a_process_that_was_stopped_publishes_nothing(world: World) -> None:
    """Stopped between its packs and its snapshot for longer than others respect its lock."""
    with world.repository.locked() as locked:
        indexed = locked.load_index()
        store_tree(indexed)
        world.clock.pass_by(LOST_AFTER)
        with pytest.raises(LockLost):
            indexed.save_index(b'{"packs":[]}')
        with pytest.raises(LockLost):
            indexed.save_snapshot(SNAPSHOT)
    assert names(world.memory, FileKind.SNAPSHOT) == []


@pytest.mark.parametrize("kind", [FileKind.SNAPSHOT, FileKind.INDEX])
@pytest.mark.parametrize("reply", ["ok", "lost"])
def test_what_was_stored_while_the_lock_was_lost_is_taken_back(world: World, reply: str, kind: FileKind) -> None:
    """Stopped exactly between the proof and the save: by then a prune may have removed what the file names."""

    class Stopping(FaultyStorage):
        def save(self, file: File, data: object) -> None:
            super().save(file, data)  # type: ignore[arg-type]
            if file.kind is kind:
                world.clock.pass_by(LOST_AFTER)
                if reply == "lost":
                    raise StorageError("the reply was lost, and the connection with it")

    storage = Stopping(world.memory)
    repository = open_repository(storage, PASSWORD, clock=world.clock)
    with repository.locked() as locked:
        indexed = locked.load_index()
        with pytest.raises(LockLost):
            indexed.save_snapshot(SNAPSHOT) if kind is FileKind.SNAPSHOT else indexed.save_index(b"{}")
    assert storage.calls["save"] == 2
    assert names(world.memory, kind) == []


def test_where_it_cant_be_taken_back_it_is_named(world: World) -> None:
    class Stopping(FaultyStorage):
        def save(self, file: File, data: object) -> None:
            super().save(file, data)  # type: ignore[arg-type]
            if file.kind is FileKind.SNAPSHOT:
                world.clock.pass_by(LOST_AFTER)
                self.plan = {"delete": ["final"]}

    repository = open_repository(Stopping(world.memory), PASSWORD, clock=world.clock)
    with repository.locked() as locked, pytest.raises(LockLost, match="lowtide forget"):
        locked.save_snapshot(SNAPSHOT)


def test_a_save_that_failed_for_good_is_an_error(world: World) -> None:
    with world.repository.locked() as locked:
        indexed = locked.load_index()
        world.faulty.plan = {"save": ["final"]}
        with pytest.raises(StorageError, match="for good"):
            indexed.save_pack("ab" * 32, b"x", "data")
        world.faulty.plan = {"save": ["final"]}
        with pytest.raises(StorageError, match="for good"):
            indexed.save_snapshot(SNAPSHOT)


def test_nothing_is_uploaded_before_the_second_look(world: World) -> None:
    """Another process writes its lock between our two looks, as we do between its."""
    other = open_repository(world.memory, PASSWORD, clock=FakeClock())
    theirs = LockFile(Instant.at(world.clock.now()), False, Holder("other", "u", 1, 1, 1))
    world.clock.on_sleep = lambda seconds: other.files.save(FileKind.LOCK, theirs.encode()) and None
    with world.repository.locked(exclusive=True, defer_second_look=True) as locked:
        indexed = locked.load_index()
        with pytest.raises(RepositoryLocked, match="u on other"):
            indexed.save_pack("ab" * 32, b"x", "data")
    assert names(world.memory, FileKind.DATA) == []
    assert len(names(world.memory, FileKind.LOCK)) == 1


def test_the_cache_is_used_where_one_is_given(repository: Repository, storage: Storage, tmp_path: Path) -> None:
    faulty = FaultyStorage(storage)
    with repository.locked() as locked:
        [pack] = store_tree(locked.load_index())
        locked.save_snapshot(SNAPSHOT)
    for expected in (1, 0):
        with open_repository(faulty, PASSWORD, clock=FakeClock(), cache_root=tmp_path) as cached:
            faulty.calls.clear()
            unlocked = cached.unlocked()
            assert len(unlocked.snapshots()) == 1
            assert unlocked.load_index().load_blob("tree", TREE_ID) == TREE
            assert faulty.calls["load"] == 3 * expected
    assert (tmp_path / repository.id / "data" / pack).exists()
