"""Files of one JSON document, in both versions, and what is refused of them."""

from __future__ import annotations

import hashlib

import pytest

from lowtide_engine import _kernel
from lowtide_engine.errors import EngineError, FileMissing, RepositoryDamaged
from lowtide_engine.repository import unpacked
from lowtide_engine.repository.sealing import MasterKey
from lowtide_engine.repository.unpacked import UnpackedFiles
from lowtide_engine.storage import File, FileKind
from lowtide_engine.storage.memory import MemoryStorage
from tests.fakes import FaultyStorage

TEXT = b'{"packs":[]}' + b" " * 5000
KIND = FileKind.INDEX


@pytest.fixture
def key() -> MasterKey:
    return MasterKey.generate()


@pytest.mark.parametrize("version", [1, 2])
def test_there_and_back(key: MasterKey, version: int) -> None:
    storage = MemoryStorage()
    files = UnpackedFiles(storage, key, version)
    name = files.save(KIND, TEXT)
    stored = storage.load(File(KIND, name))
    assert hashlib.sha256(stored).hexdigest() == name
    assert files.load(KIND, name) == files.load(KIND, name, unseal=key.for_kernel().unseal) == TEXT
    inner = key.unseal(stored)
    if version == 1:
        assert inner == TEXT
    else:
        assert inner[0] == 2
        assert len(inner) < len(TEXT)
        assert _kernel.zstd_decompress(inner[1:], 10_000) == TEXT


@pytest.mark.parametrize("inner", [b"{}", b"[]", b""])
def test_what_version_1_left_behind_is_read_in_version_2(key: MasterKey, inner: bytes) -> None:
    files = UnpackedFiles(MemoryStorage(), key, 2)
    assert files.decode(File(KIND, "ab" * 32), key.seal(inner)) == inner


@pytest.mark.parametrize("inner", [b"x", b"\x00{}", b"\x03{}", b" {}", b"\x02", b"\x02{}", b"\x02\x28\xb5\x2f\xfd"])
def test_another_beginning_is_refused(key: MasterKey, inner: bytes) -> None:
    files = UnpackedFiles(MemoryStorage(), key, 2)
    with pytest.raises(RepositoryDamaged, match="index/abab"):
        files.decode(File(KIND, "ab" * 32), key.seal(inner))


def test_a_bomb_is_stopped_at_the_limit(key: MasterKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "LIMIT", 100_000)
    files = UnpackedFiles(MemoryStorage(), key, 2)
    bomb = key.seal(b"\x02" + _kernel.zstd_compress(bytes(100_001)))
    assert len(bomb) < 1000
    with pytest.raises(RepositoryDamaged, match="decompress"):
        files.decode(File(KIND, "ab" * 32), bomb)
    assert files.decode(File(KIND, "ab" * 32), key.seal(b"\x02" + _kernel.zstd_compress(bytes(100_000))))
    with pytest.raises(RepositoryDamaged, match="that long"):
        files.decode(File(KIND, "ab" * 32), bytes(100_033))
    with pytest.raises(EngineError, match="longer than any reader"):
        files.encode(bytes(100_001))


def test_a_file_that_is_not_what_its_name_says_is_damaged(key: MasterKey) -> None:
    """Another valid file of the same repository under this name: sealed rightly, and still refused."""
    storage = MemoryStorage()
    files = UnpackedFiles(storage, key, 2)
    name, other = files.save(KIND, b"{}"), files.save(KIND, b'{"packs":[]}')
    storage.save(File(KIND, name), storage.load(File(KIND, other)))
    with pytest.raises(RepositoryDamaged, match="hash"):
        files.load(KIND, name)


def test_a_file_that_was_changed_on_its_way_is_asked_for_again(key: MasterKey) -> None:
    faulty = FaultyStorage(MemoryStorage())
    files = UnpackedFiles(faulty, key, 2)
    name = files.save(KIND, TEXT)
    faulty.plan = {"load": ["bad"]}
    assert files.load(KIND, name) == TEXT
    faulty.plan = {"load": ["bad", "bad"]}
    with pytest.raises(RepositoryDamaged):
        files.load(KIND, name)


def test_what_is_missing_is_missing(key: MasterKey) -> None:
    with pytest.raises(FileMissing):
        UnpackedFiles(MemoryStorage(), key, 2).load(KIND, "ab" * 32)


def test_a_seal_that_went_wrong_never_leaves(key: MasterKey, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    compress = _kernel.zstd_compress
    monkeypatch.setattr(_kernel, "zstd_compress", lambda data: compress(bytes(data) + b"!"))
    with pytest.raises(EngineError, match="faulty"):
        UnpackedFiles(storage, key, 2).save(KIND, TEXT)
    assert [*storage.list(KIND)] == []
