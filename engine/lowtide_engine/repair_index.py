"""An index that names what is in the packs: what index files lack is read from the packs themselves."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lowtide_engine._kernel import Index, KernelError
from lowtide_engine.errors import BadInput, FileMissing, FileShort, FileUnreadable, RepositoryDamaged, Unreadable
from lowtide_engine.packing import IndexWriter, entries_of
from lowtide_engine.reindexing import replace_indexes
from lowtide_engine.reporting import Counted, Reporter
from lowtide_engine.repository import IndexedRepository
from lowtide_engine.storage import FileKind
from lowtide_engine.unpacking import pack_contents, raise_stop

if TYPE_CHECKING:
    from lowtide_engine.repository import LockedRepository


@dataclass(slots=True)
class IndexRepair:
    """What was done: packs whose contents were read, that are damaged, that the storage can't give, that the index
    named and are not there; index files that can't be read, and how many were written and removed."""

    added: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    damaged_indexes: list[str] = field(default_factory=list)
    written: int = 0
    removed: int = 0


def repair_index(
    locked: LockedRepository, reporter: Reporter, stop: threading.Event, *, read_all: bool = False
) -> IndexRepair:
    """Make the index agree with the packs: read those that no index file names, or names with another size (all of them
    with `read_all`), and leave out those that are not there or are damaged. What index files say of one that the
    storage can't give is kept, for it may be all that is known of it.

    Under an exclusive lock. No pack is deleted; old index files are, once the new ones are stored. Raises a
    StorageError where the storage is out of reach: that is not taken for damage.
    """
    if locked.lock is None or not locked.lock.exclusive:
        raise BadInput("the index is repaired under an exclusive lock only")
    locked.repository.config.refuse_deleting("replace index files")
    repair = IndexRepair()
    storage = locked.repository.storage
    names = sorted(entry.name for entry in storage.list(FileKind.INDEX))
    indexed = IndexedRepository(locked.repository, locked.lock, Index())
    if not read_all:
        repair.damaged_indexes = _load(indexed, names, reporter)
    present = {entry.name: entry.size for entry in storage.list(FileKind.DATA)}
    index = indexed.index
    known = {pack: index.pack_size(pack) for pack in index.packs()}
    repair.missing = sorted(known.keys() - present.keys())
    for pack in repair.missing:
        reporter.notice(f"pack {pack} is not there, and is taken out of the index")
    unlike = {pack: size for pack, size in present.items() if known.get(pack) != size}
    writer = IndexWriter(indexed)
    _read(indexed, unlike, writer, repair, reporter, stop)
    if read_all and repair.withheld:
        replaced = IndexedRepository(locked.repository, locked.lock, Index())
        repair.damaged_indexes = _load(replaced, names, reporter)
        for pack in sorted({*repair.withheld}.intersection(replaced.index.packs())):
            writer.add(pack, entries_of(replaced.index.pack_entries(pack)))
    repair.written, repair.removed = replace_indexes(
        indexed,
        writer,
        [name for name in names if name not in repair.damaged_indexes] if not read_all else [],
        reporter,
        stop,
        gone={*repair.missing, *unlike} - {*repair.withheld},
        obsolete=frozenset(names if read_all else repair.damaged_indexes),
    )
    return repair


def _load(indexed: IndexedRepository, names: Sequence[str], reporter: Reporter) -> list[str]:
    """Take in the index files; gives those that can't be read."""
    damaged = []
    for name in names:
        try:
            indexed.index.add(name, indexed.repository.load_file(FileKind.INDEX, name))
        except FileMissing:
            continue
        except (Unreadable, KernelError) as error:
            # What it says is said by the packs too.
            reporter.notice(f"index {name} can't be read, and is removed: {error}")
            damaged.append(name)
    return damaged


def _read(
    indexed: IndexedRepository,
    packs: Mapping[str, int],
    writer: IndexWriter,
    repair: IndexRepair,
    reporter: Reporter,
    stop: threading.Event,
) -> None:
    """Have written what the packs say that they hold; nothing is kept of them, for there may be millions of blobs."""
    for number, (pack, size) in enumerate(sorted(packs.items()), start=1):
        raise_stop(indexed, stop, "packs were read")
        try:
            writer.add(pack, pack_contents(indexed.repository, pack, size))
            repair.added.append(pack)
        except FileUnreadable as error:
            reporter.warn(f"pack {pack} can't be read, and what index files say of it stays: {error.message}")
            repair.withheld.append(pack)
        except (RepositoryDamaged, FileShort, FileMissing) as error:
            reporter.notice(f"{error.message}; it is left out of the index")
            repair.unreadable.append(pack)
        reporter.progress(Counted(number, len(packs), 0, 0, current=(pack.encode(),)))
