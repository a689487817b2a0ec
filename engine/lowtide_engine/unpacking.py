"""Blobs out of packs: read in ranges, some ahead, each unsealed and hashed on its way by the threads that read; what
prune, copy and repair packs read with.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lowtide_engine._kernel import KernelError, check_blobs, open_blob, read_pack_header
from lowtide_engine.errors import Interrupted, RepositoryDamaged, Unreadable
from lowtide_engine.packing import Entry, entries_of
from lowtide_engine.storage import File, FileKind

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lowtide_engine._kernel import Key
    from lowtide_engine.repository import IndexedRepository, Repository

RANGE_BYTES = 8 * 1024 * 1024
RANGES_AHEAD = 2
MOST_HEADER = 17 * 1024 * 1024
"""The longest sealed header that is read: restic writes none over 16 MiB."""
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that was read and is what its id says: `sealed` are its bytes as they are in a pack. `pack` and `read` are
    where it was looked for and how long its place there is, whichever copy it came from in the end."""

    entry: Entry
    sealed: Buffer
    pack: str
    read: int

    def content(self, key: Key) -> bytes:
        """What it holds, opened anew by the key of its repository."""
        return open_blob(key, self.sealed, self.entry.blob, self.entry.uncompressed_length)


def read_blobs(
    indexed: IndexedRepository, wanted: Iterable[tuple[str, Sequence[Entry]]], stop: threading.Event, *, doing: str
) -> Iterator[Blob]:
    """The blobs that are `wanted` of each pack (name, entries by offset), in that order.

    One that doesn't read right is fetched from any copy that the index knows. Raises RepositoryDamaged where there is
    none, LockLost, and Interrupted ("stopped by a signal while …`doing`") between two ranges once `stop` is set.
    """
    ranges = (piece for pack, entries in wanted for piece in _ranges(pack, entries))
    with ThreadPoolExecutor(RANGES_AHEAD, thread_name_prefix="unpack") as pool:
        ahead: deque[tuple[str, list[Entry], Future[_Range | None]]] = deque()
        try:
            while True:
                while len(ahead) < RANGES_AHEAD and (upcoming := next(ranges, None)) is not None:
                    ahead.append((*upcoming, pool.submit(_fetch, indexed, *upcoming)))
                if not ahead:
                    return
                raise_stop(indexed, stop, doing)
                pack, entries, future = ahead.popleft()
                yield from _opened(indexed, pack, entries, future.result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def pack_contents(repository: Repository, pack: str, size: int) -> list[Entry]:
    """What a pack of `size` bytes says itself that it holds (restic-format 1.5). RepositoryDamaged where its header
    can't be read or its blobs don't fill it; FileMissing.
    """
    file = File(FileKind.DATA, pack)
    if size < _LENGTH.size:
        raise RepositoryDamaged(f"pack {pack[:8]} has {size} bytes, which is no pack")
    (length,) = _LENGTH.unpack(repository.storage.load(file, size - _LENGTH.size, _LENGTH.size))
    start = size - _LENGTH.size - length
    if start < 0 or length > MOST_HEADER:
        raise RepositoryDamaged(f"pack {pack[:8]} says that its header has {length} bytes, and has {size} itself")
    try:
        entries = entries_of(read_pack_header(repository.kernel_key, repository.storage.load(file, start, length)))
    except KernelError as error:
        raise RepositoryDamaged(f"pack {pack[:8]} has no header that can be read: {error}") from None
    if sum(entry.length for entry in entries) != start:
        raise RepositoryDamaged(f"pack {pack[:8]} is shorter or longer than its header says")
    return entries


def raise_stop(indexed: IndexedRepository, stop: threading.Event, doing: str) -> None:
    """Raise what ends a job between two steps: the lock that was lost, or Interrupted."""
    lock = indexed.lock
    if lock is not None and lock.failure is not None:
        raise lock.failure
    if stop.is_set():
        raise Interrupted(f"stopped by a signal while {doing}", hint="run it again to go on")


def _ranges(pack: str, entries: Sequence[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """Runs of neighbours of one kind, each at most 8 MiB or one blob."""
    run: list[Entry] = []
    for entry in entries:
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


@dataclass(frozen=True, slots=True)
class _Range:
    """A range of a pack, and of each of its blobs whether it is what its id says."""

    data: bytes
    good: Sequence[bool]


def _fetch(indexed: IndexedRepository, pack: str, entries: list[Entry]) -> _Range | None:
    """None where the range is damaged as a whole, so that its blobs are looked for one by one."""
    start, end = entries[0].offset, entries[-1].offset + entries[-1].length
    try:
        data = indexed.load_piece(pack, start, end - start, entries[0].kind)
    except Unreadable:
        return None
    places = [(entry.offset - start, entry.length, entry.uncompressed_length, entry.blob) for entry in entries]
    return _Range(data, check_blobs(indexed.repository.kernel_key, data, places))


def _opened(indexed: IndexedRepository, pack: str, entries: list[Entry], found: _Range | None) -> Iterator[Blob]:
    start = entries[0].offset
    view = None if found is None else memoryview(found.data)
    for number, entry in enumerate(entries):
        if found is not None and view is not None and found.good[number]:
            sealed = view[entry.offset - start : entry.offset - start + entry.length]
            yield Blob(entry, sealed, pack, entry.length)
        else:
            yield Blob(*_from_any_copy(indexed, entry), pack, entry.length)


def _from_any_copy(indexed: IndexedRepository, entry: Entry) -> tuple[Entry, bytes]:
    """The blob from wherever it can be read, fetched anew."""
    for place in indexed.index.locate(entry.kind, entry.blob):
        try:
            sealed = indexed.load_piece(place.pack, place.offset, place.length, entry.kind, fresh=True)
            open_blob(indexed.repository.kernel_key, sealed, entry.blob, place.uncompressed_length)
        except (KernelError, Unreadable):
            continue
        return Entry(entry.kind, entry.blob, 0, place.length, place.uncompressed_length), sealed
    raise RepositoryDamaged(
        f"{entry.kind} blob {entry.blob} is needed and can't be read from any pack; no pack that is in the index "
        "was removed",
        hint="run `lowtide check --read-data`",
    )
