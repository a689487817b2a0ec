"""Blobs into packs, packs into index files: what prune, copy, rewrite, repair and recover write with.

Blobs go at random to one of two open packs of their kind, so that a pack doesn't show in which order a file was cut
(restic-format 1.5). A pack is stored before an index names it; `IndexWriter.flush` comes before any snapshot.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lowtide_engine._kernel import KernelError, open_blob, read_pack_header, sha256, zstd_compress
from lowtide_engine.errors import EngineError
from lowtide_engine.repository.go_text import go_json

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lowtide_engine._kernel import BlobKind, PackEntry
    from lowtide_engine.repository import IndexedRepository

OPEN_PACKS = 2
MOST_BLOBS = 400_000
"""A pack's header, 41 bytes for each blob, must stay under 16 MiB."""
INDEX_BLOBS = 50_000
INDEX_PACKS = 32
INDEX_SECONDS = 120.0
PACK_SIZE = 16 * 1024 * 1024


class FaultyMachine(EngineError):
    """What was just sealed reads differently."""

    reason = "FaultyMachine"
    default_hint = "memory or processor are faulty"


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob in a pack; lengths as the kernel's PackEntry has them."""

    kind: BlobKind
    blob: str
    offset: int
    length: int
    uncompressed_length: int

    def document(self) -> dict[str, object]:
        """Its entry in an index file, in restic's order of keys."""
        document: dict[str, object] = {"id": self.blob, "type": self.kind, "offset": self.offset, "length": self.length}
        if self.uncompressed_length:
            document["uncompressed_length"] = self.uncompressed_length
        return document

    def header(self) -> bytes:
        """Its entry in the pack's header (restic-format 1.5)."""
        number = {"data": 0, "tree": 1}[self.kind]
        if self.uncompressed_length:
            lengths = struct.pack("<BII", number + 2, self.length, self.uncompressed_length)
        else:
            lengths = struct.pack("<BI", number, self.length)
        return lengths + bytes.fromhex(self.blob)


def entries_of(entries: Iterable[PackEntry]) -> list[Entry]:
    """What the kernel says of a pack, in the order of the pack."""
    found = [Entry(e.kind, e.blob, e.offset, e.length, e.uncompressed_length) for e in entries]
    return sorted(found, key=lambda entry: entry.offset)


def seal_blob(indexed: IndexedRepository, kind: BlobKind, content: bytes, blob: str) -> tuple[Entry, bytes]:
    """A blob's sealed bytes, compressed where the repository's version has that; opened again before they are given."""
    key = indexed.repository.kernel_key
    compressed = indexed.repository.config.version >= 2 and bool(content)
    sealed = key.seal(zstd_compress(content) if compressed else content)
    entry = Entry(kind, blob, 0, len(sealed), len(content) if compressed else 0)
    try:
        whole = open_blob(key, sealed, blob, entry.uncompressed_length) == content
    except KernelError:
        whole = False
    if not whole:
        raise FaultyMachine(f"{kind} blob {blob[:8]} was just sealed and reads differently")
    return entry, sealed


class IndexWriter:
    """Collects packs that are stored and writes them into index files of at most 50,000 blobs, or one pack.

    `names` are the files written.
    """

    def __init__(self, indexed: IndexedRepository) -> None:
        self._indexed = indexed
        self._packs: list[dict[str, object]] = []
        self._blobs = 0
        self.names: list[str] = []

    @property
    def waiting(self) -> int:
        """How many packs no file names yet."""
        return len(self._packs)

    def add(self, pack: str, entries: Sequence[Entry]) -> None:
        """Take a pack with all its blobs, in order."""
        if self._packs and self._blobs + len(entries) > INDEX_BLOBS:
            self.flush()
        self._packs.append({"id": pack, "blobs": [entry.document() for entry in entries]})
        self._blobs += len(entries)

    def flush(self) -> None:
        """Write what waits. Proves the lock before and after."""
        if self._packs:
            self.names.append(self._indexed.save_index(go_json({"packs": self._packs}) + b"\n"))
            self._packs, self._blobs = [], 0


@dataclass(slots=True)
class _OpenPack:
    data: bytearray = field(default_factory=bytearray)
    entries: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry, sealed: Buffer) -> None:
        offset = len(self.data)
        self.data += sealed
        self.entries.append(replace(entry, offset=offset, length=len(self.data) - offset))

    def take_over(self, other: _OpenPack) -> None:
        """Put another's blobs behind ours."""
        for entry in other.entries:
            self.add(entry, memoryview(other.data)[entry.offset : entry.offset + entry.length])


class PackWriter:
    """Puts sealed blobs into packs and stores them; each pack then waits in `indexes`, or is in an index already.

    `written` counts bytes in packs that are stored, `added` bytes of content that `store` took in.
    """

    def __init__(self, indexed: IndexedRepository, indexes: IndexWriter, *, pack_size: int = PACK_SIZE) -> None:
        self._indexed = indexed
        self._key = indexed.repository.kernel_key
        self._clock = indexed.repository.clock
        self._indexes = indexes
        self._pack_size = pack_size
        self._open: dict[BlobKind, list[_OpenPack]] = {}
        self._taken: set[tuple[BlobKind, str]] = set()
        self._flushed = self._clock.monotonic()
        self.written = 0
        self.added = 0

    def has(self, kind: BlobKind, blob: str) -> bool:
        """Whether the repository has the blob, or this writer took it."""
        return (kind, blob) in self._taken or self._indexed.index.contains(kind, blob)

    def store(self, kind: BlobKind, content: bytes) -> str:
        """Take a blob's content, unless the repository has it; gives its id."""
        blob = sha256(content)
        if not self.has(kind, blob):
            self.add(*seal_blob(self._indexed, kind, content, blob))
            self.added += len(content)
        return blob

    def add(self, entry: Entry, sealed: Buffer) -> None:
        """Take a blob that is sealed for this repository, whether or not it is there already."""
        self._taken.add((entry.kind, entry.blob))
        packs = self._open.setdefault(entry.kind, [_OpenPack() for _ in range(OPEN_PACKS)])
        number = secrets.randbelow(OPEN_PACKS)
        pack = packs[number]
        pack.add(entry, sealed)
        if len(pack.data) >= self._pack_size or len(pack.entries) >= MOST_BLOBS:
            packs[number] = _OpenPack()
            self._store(pack, entry.kind)

    def finish(self) -> None:
        """Store the packs that are open. The index of the last ones is not written yet: `IndexWriter.flush`."""
        for kind in list(self._open):
            self._close_all(kind)

    def _close_all(self, kind: BlobKind) -> None:
        first, *others = sorted(self._open.pop(kind), key=lambda pack: -len(pack.data))
        for other in others:
            blobs = len(first.entries) + len(other.entries)
            if len(first.data) + len(other.data) <= self._pack_size and blobs <= MOST_BLOBS:
                first.take_over(other)
            else:
                self._store(other, kind)
        self._store(first, kind)

    def _store(self, pack: _OpenPack, kind: BlobKind) -> None:
        if not pack.entries:
            return
        header = self._key.seal(b"".join(entry.header() for entry in pack.entries))
        try:
            whole = entries_of(read_pack_header(self._key, header)) == pack.entries
        except KernelError:
            whole = False
        if not whole:
            raise FaultyMachine("a pack's header was just sealed and reads differently")
        pack.data += header + struct.pack("<I", len(header))
        name = hashlib.sha256(pack.data).hexdigest()
        self._indexed.save_pack(name, pack.data, kind)
        self.written += len(pack.data)
        self._indexes.add(name, pack.entries)
        if self._indexes.waiting >= INDEX_PACKS or self._clock.monotonic() - self._flushed >= INDEX_SECONDS:
            self._indexes.flush()
            self._flushed = self._clock.monotonic()
