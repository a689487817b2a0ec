"""What can still be read of damaged packs goes into new ones, and the damaged ones go.

Nothing is deleted before what was saved is in packs and indexes, and a copy of each damaged pack is on the disk here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from lowtide_engine._kernel import KernelError, open_blob
from lowtide_engine.errors import BadInput, FileMissing, FileUnreadable, Unreadable
from lowtide_engine.packing import PACK_SIZE, Entry, IndexWriter, PackWriter, entries_of
from lowtide_engine.reindexing import delete_files, replace_indexes
from lowtide_engine.reporting import Reporter
from lowtide_engine.storage import File, FileKind, save_durably, sync
from lowtide_engine.unpacking import pack_contents, raise_stop

if TYPE_CHECKING:
    from lowtide_engine.repository import IndexedRepository, LockedRepository
    from lowtide_engine.storage import Storage

PART_BYTES = 64 * 1024
"""What is lost around a spot that the storage can't read."""


@dataclass(slots=True)
class PackRepair:
    """What was done: how many blobs were saved, and the (kind, id) of those that can't be read."""

    saved: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)


def repair_packs(
    locked: LockedRepository,
    packs: Sequence[str],
    copies: Path,
    reporter: Reporter,
    stop: threading.Event,
    *,
    pack_size: int = PACK_SIZE,
) -> PackRepair:
    """Save what can be read of `packs` (whole names), take them out of the index, and delete them. A copy of each is
    kept as `copies`/pack-<name>, or pack-<name>.2 and so on where another file has that name.

    Under an exclusive lock. Raises BadInput where one isn't there, or a copy can't be written, and FileUnreadable where
    the storage gives nothing of one; no pack is deleted then.
    """
    if locked.lock is None or not locked.lock.exclusive:
        raise BadInput("packs are repaired under an exclusive lock only")
    locked.repository.config.refuse_deleting("delete packs")
    listed = sorted(entry.name for entry in locked.repository.storage.list(FileKind.INDEX))
    indexed = locked.load_index()
    repair = PackRepair()
    writer = IndexWriter(indexed)
    saving = PackWriter(indexed, writer, pack_size=pack_size)
    for pack in packs:
        raise_stop(indexed, stop, "packs were read")
        data = _read(indexed, pack)
        _keep(data, copies / f"pack-{pack}", reporter)
        _save(indexed, pack, data, saving, repair, reporter)
    saving.finish()
    replace_indexes(indexed, writer, listed, reporter, stop, gone=frozenset(packs))
    delete_files(indexed, FileKind.DATA, packs, indexed.ensure, reporter, stop)
    return repair


def _read(indexed: IndexedRepository, pack: str) -> bytes:
    """The pack's bytes, whatever they are; zeros where the storage can't give them."""
    storage, file = indexed.repository.storage, File(FileKind.DATA, pack)
    try:
        try:
            return storage.load(file)
        except FileUnreadable as error:
            return _in_parts(storage, file, error)
    except FileMissing:
        raise BadInput(
            f"pack {pack} is not there", hint="`lowtide repair index` takes missing packs out of the index"
        ) from None


def _in_parts(storage: Storage, file: File, why: FileUnreadable) -> bytes:
    size, parts, read = storage.stat(file), [], 0
    for offset in range(0, size, PART_BYTES):
        length = min(PART_BYTES, size - offset)
        try:
            parts.append(storage.load(file, offset, length))
            read += length
        except FileUnreadable:
            parts.append(bytes(length))
    if not read:
        raise why
    return b"".join(parts)


def _keep(data: bytes, copy: Path, reporter: Reporter) -> None:
    """Have the pack's bytes at `copy`, durably; beside it where another file is there, such as an earlier run's copy of
    a pack of which other parts could be read then.
    """
    target = copy
    try:
        for target in _names(copy):
            if not target.exists():
                save_durably(target, data)
                break
            if target.read_bytes() == data:
                # Whoever wrote it may have been stopped before it was on the disk.
                sync(target)
                sync(target.parent)
                break
    except OSError as error:
        raise BadInput(
            f"a copy of the pack could not be written to {target}: {error.strerror}",
            hint="no pack was removed; run it in a folder that has room and may be written to",
        ) from error
    if target != copy:
        reporter.notice(f"{copy} is there, and is another file; the copy is {target.name}")


def _names(copy: Path) -> Iterator[Path]:
    yield copy
    yield from (copy.with_name(f"{copy.name}.{number}") for number in count(2))


def _save(
    indexed: IndexedRepository,
    pack: str,
    data: bytes,
    saving: PackWriter,
    repair: PackRepair,
    reporter: Reporter,
) -> None:
    """Put every blob that can be read into new packs, by the index and by the pack's own header."""
    index = indexed.index
    places: dict[Entry, None] = {}
    if pack in index.packs():
        places = dict.fromkeys(entries_of(index.pack_entries(pack)))
    try:
        places |= dict.fromkeys(pack_contents(indexed.repository, pack, len(data)))
    except Unreadable as error:
        reporter.notice(f"{error.message}; what the index says of it counts")
    if not places:
        reporter.notice(f"nothing is known about what is in pack {pack}")
    saved: set[tuple[str, str]] = set()
    lost: dict[tuple[str, str], None] = {}
    for entry in places:
        sealed = data[entry.offset : entry.offset + entry.length]
        try:
            open_blob(indexed.repository.kernel_key, sealed, entry.blob, entry.uncompressed_length)
        except KernelError:
            lost[entry.kind, entry.blob] = None
            continue
        if (entry.kind, entry.blob) not in saved:
            saved.add((entry.kind, entry.blob))
            saving.add(entry, sealed)
    repair.saved += len(saved)
    for kind, blob in lost:
        if (kind, blob) not in saved:
            repair.lost.append((kind, blob))
            reporter.notice(f"{kind} blob {blob} of pack {pack} can't be read")
