"""A cache that is never trusted and never needed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lowtide_engine.errors import FileMissing
from lowtide_engine.repository.cache import OLD_AFTER, Cache, CachedStorage, cache_root, load_piece
from lowtide_engine.storage import File, FileKind
from lowtide_engine.storage.memory import MemoryStorage
from tests.fakes import FaultyStorage

ID = "ab" * 32
DATA = os.urandom(50_000)
PACK = File(FileKind.DATA, hashlib.sha256(DATA).hexdigest())
INDEX = File(FileKind.INDEX, PACK.name)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache.open(tmp_path / "lowtide", ID)
    assert made is not None
    return made


@pytest.fixture
def origin() -> FaultyStorage:
    """The storage behind; it counts what it is asked for."""
    return FaultyStorage(MemoryStorage())


def test_where_it_is(tmp_path: Path) -> None:
    assert cache_root({"XDG_CACHE_HOME": "/x"}) == Path("/x/lowtide")
    assert cache_root({"XDG_CACHE_HOME": "/x", "RESTIC_CACHE_DIR": "/r"}) == Path("/r/lowtide")
    assert cache_root({"RESTIC_CACHE_DIR": "/r"}, "/given") == Path("/given/lowtide")
    assert cache_root({}) == Path.home() / ".cache" / "lowtide"


def test_it_is_private_and_marked_as_a_cache(cache: Cache, tmp_path: Path) -> None:
    assert cache.folder == tmp_path / "lowtide" / ID
    assert stat.S_IMODE(cache.folder.stat().st_mode) == stat.S_IMODE(cache.folder.parent.stat().st_mode) == 0o700
    assert (
        (tmp_path / "lowtide" / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")
    )
    cache.save(INDEX, DATA)
    assert stat.S_IMODE((cache.folder / "index" / INDEX.name).stat().st_mode) == 0o600


def test_index_and_snapshots_are_fetched_once(cache: Cache, origin: FaultyStorage) -> None:
    origin.inner.save(INDEX, DATA)
    storage = CachedStorage(origin, cache)
    assert [storage.load(INDEX) for _ in range(3)] == [DATA] * 3
    assert origin.calls["load"] == 1


def test_what_we_save_is_cached(cache: Cache, origin: FaultyStorage) -> None:
    storage = CachedStorage(origin, cache)
    storage.save(INDEX, DATA)
    assert storage.load(INDEX) == DATA
    assert origin.calls["load"] == 0


@pytest.mark.parametrize("kind", [FileKind.KEY, FileKind.LOCK, FileKind.DATA])
def test_keys_locks_and_data_are_not_cached(cache: Cache, origin: FaultyStorage, kind: FileKind) -> None:
    file = File(kind, PACK.name)
    storage = CachedStorage(origin, cache)
    storage.save(file, DATA)
    assert [storage.load(file) for _ in range(2)] == [DATA] * 2
    assert origin.calls["load"] == 2


@pytest.mark.parametrize("damage", [b"", DATA[:-1], b"x" + DATA[1:], DATA + b"x"])
def test_a_damaged_entry_is_dropped_and_fetched_again(cache: Cache, origin: FaultyStorage, damage: bytes) -> None:
    origin.inner.save(INDEX, DATA)
    (cache.folder / "index" / INDEX.name).write_bytes(damage)
    assert CachedStorage(origin, cache).load(INDEX) == DATA
    assert (cache.folder / "index" / INDEX.name).read_bytes() == DATA


def test_what_comes_damaged_is_not_cached(cache: Cache, origin: FaultyStorage) -> None:
    origin.inner.save(INDEX, b"not this")
    assert CachedStorage(origin, cache).load(INDEX) == b"not this"
    assert [*(cache.folder / "index").iterdir()] == []


def test_what_is_no_longer_listed_or_was_deleted_is_dropped(cache: Cache, origin: FaultyStorage) -> None:
    storage = CachedStorage(origin, cache)
    storage.save(INDEX, DATA)
    cache.save(File(FileKind.INDEX, "cd" * 32), b"of old")
    assert [entry.name for entry in storage.list(FileKind.INDEX)] == [INDEX.name]
    assert [entry.name for entry in (cache.folder / "index").iterdir()] == [INDEX.name]
    storage.delete(INDEX)
    with pytest.raises(FileMissing):
        storage.load(INDEX)
    assert [*(cache.folder / "index").iterdir()] == []


def piece(origin: FaultyStorage, cache: Cache | None, offset: int, length: int, *, fresh: bool = False) -> bytes:
    return load_piece(origin, cache, PACK.name, offset, length, len(DATA), fresh=fresh)


def test_a_tree_pack_is_fetched_whole_and_once(cache: Cache, origin: FaultyStorage) -> None:
    origin.inner.save(PACK, DATA)
    for offset in range(0, 40_000, 1000):
        assert piece(origin, cache, offset, 1234) == DATA[offset : offset + 1234]
    assert origin.calls["load"] == 1
    assert piece(origin, None, 5, 5) == DATA[5:10]
    assert origin.calls["load"] == 2


def test_threads_that_want_one_pack_fetch_it_once(cache: Cache, origin: FaultyStorage) -> None:
    origin.inner.save(PACK, DATA)
    with ThreadPoolExecutor(8) as pool:
        pieces = [*pool.map(lambda offset: piece(origin, cache, offset, 100), range(0, 40_000, 400))]
    assert pieces == [DATA[offset : offset + 100] for offset in range(0, 40_000, 400)]
    assert origin.calls["load"] == 1


def test_a_pack_that_is_too_large_is_read_in_ranges(cache: Cache, origin: FaultyStorage) -> None:
    origin.inner.save(PACK, DATA)
    assert load_piece(origin, cache, PACK.name, 7, 9, 10**9) == DATA[7:16]
    assert [*(cache.folder / "data").iterdir()] == []


def test_where_the_disk_is_full_pieces_are_read_and_no_whole_packs(
    cache: Cache, origin: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is cached by then is still of use."""
    loaded: list[tuple[str, int | None]] = []
    load = origin.load

    def note(file: File, offset: int = 0, length: int | None = None) -> bytes:
        loaded.append((file.name, length))
        return load(file, offset, length)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    other = os.urandom(50_000)
    name = hashlib.sha256(other).hexdigest()
    origin.inner.save(PACK, DATA)
    origin.inner.save(File(FileKind.DATA, name), other)
    assert piece(origin, cache, 0, 10) == DATA[:10]
    monkeypatch.setattr(origin, "load", note)
    monkeypatch.setattr(os, "rename", full)
    for offset in range(0, 40_000, 10_000):
        assert load_piece(origin, cache, name, offset, 10, len(other)) == other[offset : offset + 10]
        assert piece(origin, cache, offset, 10) == DATA[offset : offset + 10]
    assert loaded == [(name, None), (name, 10), (name, 10), (name, 10)]


def test_a_damaged_pack_in_the_cache_is_found_out_when_it_is_opened(cache: Cache, origin: FaultyStorage) -> None:
    origin.inner.save(PACK, DATA)
    (cache.folder / "data" / PACK.name).write_bytes(b"x" + DATA[1:])
    assert piece(origin, cache, 0, 10) == DATA[:10]
    assert (cache.folder / "data" / PACK.name).read_bytes() == DATA


def test_fresh_passes_the_cache_over(cache: Cache, origin: FaultyStorage) -> None:
    """Damage after the pack was opened: whoever unseals the piece notices, and asks again with `fresh`."""
    origin.inner.save(PACK, DATA)
    assert piece(origin, cache, 0, 10) == DATA[:10]
    with (cache.folder / "data" / PACK.name).open("r+b") as file:
        file.write(b"damage")
    assert piece(origin, cache, 0, 10) != DATA[:10]
    assert piece(origin, cache, 0, 10, fresh=True) == DATA[:10]
    assert piece(origin, cache, 0, 10) == DATA[:10]


def test_a_pack_that_comes_damaged_is_given_as_it_is_and_not_kept(cache: Cache, origin: FaultyStorage) -> None:
    """Which blob of it is damaged is for whoever unseals them: the others must stay readable."""
    damaged = DATA[:-1] + bytes([DATA[-1] ^ 1])
    origin.inner.save(PACK, damaged)
    assert piece(origin, cache, 100, 50) == DATA[100:150]
    assert [*(cache.folder / "data").iterdir()] == []


def test_many_packs_dont_use_up_descriptors(cache: Cache, origin: FaultyStorage) -> None:
    packs = [os.urandom(100) for _ in range(100)]
    for data in packs:
        origin.inner.save(File(FileKind.DATA, hashlib.sha256(data).hexdigest()), data)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        for data in packs:
            assert load_piece(origin, cache, hashlib.sha256(data).hexdigest(), 10, 20, 100) == data[10:30]
    assert len(os.listdir("/proc/self/fd")) <= before + 32
    assert origin.calls["load"] == 100
    cache.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_old_caches_of_others_are_removed(tmp_path: Path) -> None:
    root = tmp_path / "lowtide"
    for name in ("01", "02"):
        assert Cache.open(root, name * 32) is not None
    (root / "not a cache").mkdir()
    os.utime(root / ("01" * 32), (0, 0))
    os.utime(root / "not a cache", (0, 0))
    now = (root / ("02" * 32)).stat().st_mtime
    assert Cache.open(root, ID, now=now + OLD_AFTER - 1) is not None
    assert sorted(p.name for p in root.iterdir()) == sorted(["CACHEDIR.TAG", "02" * 32, ID, "not a cache"])


def test_no_place_for_a_cache_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "lowtide").write_text("a file")
    assert Cache.open(tmp_path / "lowtide", ID) is None


def test_a_cache_that_vanishes_costs_only_time(cache: Cache, origin: FaultyStorage) -> None:
    origin.inner.save(INDEX, DATA)
    origin.inner.save(PACK, DATA)
    for kind in ("index", "snapshots", "data"):
        (cache.folder / kind).rmdir()
    storage = CachedStorage(origin, cache)
    assert storage.load(INDEX) == DATA
    assert piece(origin, cache, 3, 4) == DATA[3:7]
    assert len([*storage.list(FileKind.INDEX)]) == 1
