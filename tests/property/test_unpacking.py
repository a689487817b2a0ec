"""Packs are fetched in small ranges, and one says itself what it holds, or is damaged."""

from __future__ import annotations

import hashlib
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide_engine.errors import RepositoryDamaged
from lowtide_engine.packing import Entry
from lowtide_engine.repository import Repository, init_repository
from lowtide_engine.storage import File, FileKind
from lowtide_engine.storage.memory import MemoryStorage
from lowtide_engine.unpacking import RANGE_BYTES, _ranges, pack_contents
from tests.fakes import FakeClock
from tests.unit.repository.conftest import CHEAP, PASSWORD

if TYPE_CHECKING:
    from lowtide_engine._kernel import BlobKind

MIB = 1 << 20
KINDS: st.SearchStrategy[BlobKind] = st.sampled_from(["data", "tree"])
PLACES = st.lists(st.tuples(KINDS, st.integers(0, 2) | st.integers(1, 9 * MIB), st.integers(1, 6 * MIB)), max_size=12)


@given(PLACES)
def test_ranges_are_short_and_hold_every_blob_once(places: list[tuple[BlobKind, int, int]]) -> None:
    """Blobs lie at growing offsets, with gaps or without."""
    entries, at = [], 0
    for number, (kind, gap, length) in enumerate(places):
        at += gap
        entries.append(Entry(kind, f"{number:064}", at, length, 0))
        at += length
    ranges = [run for _, run in _ranges("p", entries)]
    assert [entry for run in ranges for entry in run] == entries
    for run in ranges:
        assert len(run) == 1 or run[-1].offset + run[-1].length - run[0].offset <= RANGE_BYTES
        assert len({entry.kind for entry in run}) == 1
        assert all(one.offset + one.length == other.offset for one, other in pairwise(run))


@pytest.fixture(scope="module")
def repository() -> Repository:
    return init_repository(MemoryStorage(), PASSWORD, clock=FakeClock(), kdf=CHEAP)


CLAIMS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 200) | st.just(2**32 - 1)), max_size=4)
WRONG_LENGTHS = st.none() | st.integers(0, 300)


@settings(max_examples=300)
@given(CLAIMS, WRONG_LENGTHS, WRONG_LENGTHS | st.integers(0, 2**32 - 1), st.none() | st.binary(max_size=80))
def test_a_pack_says_what_fills_it_or_is_damaged(
    repository: Repository, claims: list[tuple[int, int]], held: int | None, says: int | None, junk: bytes | None
) -> None:
    """Blobs of as many bytes as the header claims, or `held`; the header, or `junk`; its length, or what it `says`."""
    claimed = sum(length for _, length in claims)
    blobs = bytes(claimed if claimed < 1000 and held is None else held or 0)
    plain = b"".join(
        struct.pack("<BI", kind, length) + (b"\0\0\0\1" if kind & 2 else b"") + b"i" * 32 for kind, length in claims
    )
    header = repository.kernel_key.seal(plain) if junk is None else junk
    pack = blobs + header + struct.pack("<I", len(header) if says is None else says)
    name = hashlib.sha256(pack).hexdigest()
    repository.storage.save(File(FileKind.DATA, name), pack)
    sound = claims and all(kind < 2 and length > 32 for kind, length in claims) and len(blobs) == claimed
    try:
        entries = pack_contents(repository, name, len(pack))
    except RepositoryDamaged:
        assert not sound or junk is not None or says is not None
    else:
        assert [(entry.length, entry.blob) for entry in entries] == [(length, "69" * 32) for _, length in claims]
        assert sum(entry.length for entry in entries) == len(blobs)
