"""Blobs from packs that go into new packs, sealed as they are: each is unsealed and hashed on its way, none is lost.

A sealed blob is self-contained (restic-format 1.4), so its bytes are copied. Blobs go at random to one of two open
packs of their kind, so that a pack doesn't show in which order a file was cut (restic-format 1.5).
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lowtide_engine._kernel import KernelError, open_blob, read_pack_header, zstd_compress
from lowtide_engine.errors import EngineError, Interrupted, RepositoryDamaged
from lowtide_engine.reporting import Counted
from lowtide_engine.repository.go_text import go_json

if TYPE_CHECKING:
    from lowtide_engine._kernel import BlobKind, PackEntry
    from lowtide_engine.prune_plan import PrunePlan, Survey
    from lowtide_engine.reporting import Reporter
    from lowtide_engine.repository import IndexedRepository

RANGE_BYTES = 8 * 1024 * 1024
RANGES_AHEAD = 2
OPEN_PACKS = 2
MOST_BLOBS = 400_000
"""A pack's header, 41 bytes for each blob, must stay under 16 MiB."""
INDEX_BLOBS = 50_000
INDEX_PACKS = 32
INDEX_SECONDS = 120.0


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

    def add(self, pack: str, entries: Sequence[_Entry]) -> None:
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


@dataclass(frozen=True, slots=True)
class _Entry:
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


def entries_of(entries: Iterable[PackEntry]) -> list[_Entry]:
    """What the kernel's index says of a pack, in the order of the pack."""
    found = [_Entry(e.kind, e.blob, e.offset, e.length, e.uncompressed_length) for e in entries]
    return sorted(found, key=lambda entry: entry.offset)


@dataclass(slots=True)
class _OpenPack:
    data: bytearray = field(default_factory=bytearray)
    entries: list[_Entry] = field(default_factory=list)

    def add(self, entry: _Entry, sealed: bytes) -> None:
        moved = _Entry(entry.kind, entry.blob, len(self.data), len(sealed), entry.uncompressed_length)
        self.entries.append(moved)
        self.data += sealed

    def take_over(self, other: _OpenPack) -> None:
        """Put another's blobs behind ours."""
        for entry in other.entries:
            self.add(entry, bytes(memoryview(other.data)[entry.offset : entry.offset + entry.length]))


class Repacker:
    """Copies what is kept of some packs into new ones. `run` is called once.

    Nothing is deleted here. Raises RepositoryDamaged where a blob can't be read from any copy, and Interrupted between
    two ranges once `stop` is set; what is stored by then is in an index, and the next prune goes on from it.
    """

    def __init__(
        self,
        indexed: IndexedRepository,
        survey: Survey,
        plan: PrunePlan,
        writer: IndexWriter,
        reporter: Reporter,
        stop: threading.Event,
        *,
        pack_size: int,
        compress: bool = False,
    ) -> None:
        self._indexed = indexed
        self._key = indexed.repository.kernel_key
        self._version = indexed.repository.config.version
        self._clock = indexed.repository.clock
        self._survey = survey
        self._plan = plan
        self._gone = plan.gone
        self._writer = writer
        self._reporter = reporter
        self._stop = stop
        self._pack_size = pack_size
        self._compress = compress
        self._open: dict[BlobKind, list[_OpenPack]] = {}
        self._flushed = self._clock.monotonic()
        self._read = 0
        self.written = 0

    def run(self) -> None:
        """Copy all; afterwards every new pack is stored, and waits in the writer or is in an index already."""
        try:
            self._copy()
            for kind in list(self._open):
                self._close_all(kind)
        except Interrupted:
            self._writer.flush()
            raise

    def _copy(self) -> None:
        ranges = (piece for pack in self._plan.repack for piece in self._ranges(pack))
        with ThreadPoolExecutor(RANGES_AHEAD, thread_name_prefix="repack") as pool:
            ahead: deque[tuple[str, list[_Entry], Future[bytes | None]]] = deque()
            try:
                while True:
                    while len(ahead) < RANGES_AHEAD and (upcoming := next(ranges, None)) is not None:
                        ahead.append((*upcoming, pool.submit(self._fetch, *upcoming)))
                    if not ahead:
                        return
                    self._raise_stop()
                    pack, entries, future = ahead.popleft()
                    self._copy_range(pack, entries, future.result())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _ranges(self, pack: str) -> Iterator[tuple[str, list[_Entry]]]:
        """What is copied of a pack, as runs of neighbours of one kind, each at most 8 MiB or one blob."""
        run: list[_Entry] = []
        known = self._indexed.index.pack_entries(pack)
        needed = [e for e in known if self._survey.keeps(pack, e) and not self._survey.copy_in(e, self._gone)]
        for entry in entries_of(needed):
            fits = run and (
                run[-1].offset + run[-1].length == entry.offset
                and run[-1].kind == entry.kind
                and entry.offset + entry.length - run[0].offset <= RANGE_BYTES
            )
            if run and not fits:
                yield pack, run
                run = []
            run.append(entry)
        if run:
            yield pack, run

    def _fetch(self, pack: str, entries: list[_Entry]) -> bytes | None:
        """A range of a pack; None where it is damaged, so that its blobs are looked for one by one."""
        start, end = entries[0].offset, entries[-1].offset + entries[-1].length
        try:
            return self._indexed.load_piece(pack, start, end - start, entries[0].kind)
        except RepositoryDamaged:
            return None

    def _copy_range(self, pack: str, entries: list[_Entry], data: bytes | None) -> None:
        start = entries[0].offset
        for entry in entries:
            sealed = b"" if data is None else data[entry.offset - start : entry.offset - start + entry.length]
            try:
                content = open_blob(self._key, sealed, entry.blob, entry.uncompressed_length)
            except KernelError:
                entry, sealed, content = self._from_any_copy(entry)
            if self._should_compress(entry, content):
                entry, sealed = self._compressed(entry, content)
            self._add(entry, sealed)
            self._read += entry.length
        total = len(self._plan.repack)
        self._reporter.progress(Counted(0, total, self._read, self._plan.repack_size, current=(pack.encode(),)))

    def _from_any_copy(self, entry: _Entry) -> tuple[_Entry, bytes, bytes]:
        """The blob from wherever it can be read, fetched anew."""
        for place in self._indexed.index.locate(entry.kind, entry.blob):
            try:
                sealed = self._indexed.load_piece(place.pack, place.offset, place.length, entry.kind, fresh=True)
                content = open_blob(self._key, sealed, entry.blob, place.uncompressed_length)
            except (KernelError, RepositoryDamaged):
                continue
            return _Entry(entry.kind, entry.blob, 0, place.length, place.uncompressed_length), sealed, content
        raise RepositoryDamaged(
            f"{entry.kind} blob {entry.blob} is needed and can't be read from any pack; no pack that is in the index "
            "was removed",
            hint="run `lowtide check --read-data`",
        )

    def _should_compress(self, entry: _Entry, content: bytes) -> bool:
        raw = self._version >= 2 and not entry.uncompressed_length and len(content) > 0
        return raw and (entry.kind == "tree" or self._compress)

    def _compressed(self, entry: _Entry, content: bytes) -> tuple[_Entry, bytes]:
        sealed = self._key.seal(zstd_compress(content))
        if open_blob(self._key, sealed, entry.blob, len(content)) != content:
            raise EngineError("a blob that was just sealed reads differently: memory or processor are faulty")
        return _Entry(entry.kind, entry.blob, 0, len(sealed), len(content)), sealed

    def _add(self, entry: _Entry, sealed: bytes) -> None:
        packs = self._open.setdefault(entry.kind, [_OpenPack() for _ in range(OPEN_PACKS)])
        number = secrets.randbelow(OPEN_PACKS)
        pack = packs[number]
        pack.add(entry, sealed)
        if len(pack.data) >= self._pack_size or len(pack.entries) >= MOST_BLOBS:
            packs[number] = _OpenPack()
            self._store(pack, entry.kind)

    def _close_all(self, kind: BlobKind) -> None:
        first, *others = sorted(self._open.pop(kind), key=lambda pack: -len(pack.data))
        for other in others:
            if len(first.data) + len(other.data) <= self._pack_size:
                first.take_over(other)
            else:
                self._store(other, kind)
        self._store(first, kind)

    def _store(self, pack: _OpenPack, kind: BlobKind) -> None:
        if not pack.entries:
            return
        header = self._key.seal(b"".join(entry.header() for entry in pack.entries))
        if entries_of(read_pack_header(self._key, header)) != pack.entries:
            raise EngineError("a pack's header that was just sealed reads differently: memory or processor are faulty")
        pack.data += header + struct.pack("<I", len(header))
        name = hashlib.sha256(pack.data).hexdigest()
        self._indexed.save_pack(name, pack.data, kind)
        self.written += len(pack.data)
        self._writer.add(name, pack.entries)
        if self._writer.waiting >= INDEX_PACKS or self._clock.monotonic() - self._flushed >= INDEX_SECONDS:
            self._writer.flush()
            self._flushed = self._clock.monotonic()

    def _raise_stop(self) -> None:
        lock = self._indexed.lock
        if lock is not None and lock.failure is not None:
            raise lock.failure
        if self._stop.is_set():
            raise Interrupted("stopped by a signal while packs were written anew", hint="run it again to go on")
