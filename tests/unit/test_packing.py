"""What prune, copy, rewrite and the repairs seal is opened again before it leaves: a machine that errs spoils no
pack."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from lowtide_engine import packing
from lowtide_engine._kernel import sha256
from lowtide_engine.copy import _sealed_anew
from lowtide_engine.packing import Entry, FaultyMachine, IndexWriter, PackWriter, seal_blob
from lowtide_engine.repository import IndexedRepository, init_repository
from lowtide_engine.storage import FileKind
from lowtide_engine.storage.memory import MemoryStorage
from lowtide_engine.unpacking import Blob
from tests.fakes import FakeClock
from tests.unit.repository.conftest import CHEAP, PASSWORD

TEXT = b"some text " * 100
OTHER = sha256(b"another text")


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def indexed(storage: MemoryStorage, clock: FakeClock) -> Iterator[IndexedRepository]:
    with init_repository(storage, PASSWORD, clock=clock, kdf=CHEAP) as made, made.locked() as locked:
        yield locked.load_index()


def test_what_was_sealed_opens_to_its_id(indexed: IndexedRepository) -> None:
    entry, sealed = seal_blob(indexed, "data", TEXT, sha256(TEXT))
    assert Blob(entry, sealed, "", 0).content(indexed.repository.kernel_key) == TEXT


def test_a_blob_that_reads_differently_is_never_packed(indexed: IndexedRepository) -> None:
    with pytest.raises(FaultyMachine):
        seal_blob(indexed, "data", TEXT, OTHER)


def test_a_copied_blob_that_reads_differently_is_never_packed(indexed: IndexedRepository) -> None:
    entry, sealed = seal_blob(indexed, "data", TEXT, sha256(TEXT))
    spoilt = Entry("data", OTHER, 0, entry.length, entry.uncompressed_length)
    with pytest.raises(FaultyMachine):
        _sealed_anew(Blob(spoilt, sealed, "", 0), indexed, indexed, compress=True)


@pytest.mark.parametrize("header", [bytes(41), Entry("data", OTHER, 0, 59, 1000).header()], ids=["zeros", "another"])
def test_a_pack_whose_header_reads_differently_is_never_stored(
    header: bytes, indexed: IndexedRepository, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    packs = PackWriter(indexed, IndexWriter(indexed))
    packs.store("data", TEXT)
    monkeypatch.setattr(Entry, "header", lambda entry: header)
    with pytest.raises(FaultyMachine):
        packs.finish()
    assert [*storage.list(FileKind.DATA)] == []


@pytest.mark.parametrize(("most", "packs"), [(3, 2), (4, 1)])
def test_the_last_packs_become_one_where_its_header_is_not_too_long(
    most: int, packs: int, indexed: IndexedRepository, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MOST_BLOBS", most)
    turns = count()
    monkeypatch.setattr(packing.secrets, "randbelow", lambda among: next(turns) % among)
    writer = PackWriter(indexed, IndexWriter(indexed))
    for number in range(4):
        writer.store("data", bytes([number]))
    writer.finish()

    assert len(list(storage.list(FileKind.DATA))) == packs


def test_an_index_is_written_after_32_packs_or_two_minutes(indexed: IndexedRepository, clock: FakeClock) -> None:
    """Whoever is killed loses no more than that."""
    indexes = IndexWriter(indexed)
    writer = PackWriter(indexed, indexes, pack_size=1)
    written = []
    for number in range(70):
        writer.store("data", bytes([number]))
        written.append(len(indexes.names))
    assert written == [0] * 31 + [1] * 32 + [2] * 7

    clock.pass_by(119)
    writer.store("data", b"before its time")
    clock.pass_by(1)
    assert len(indexes.names) == 2
    writer.store("data", b"in its time")
    assert (len(indexes.names), indexes.waiting) == (3, 0)
    clock.pass_by(119)
    writer.store("data", b"counted from the last index")
    assert len(indexes.names) == 3
