"""Index files in place of others, and files that are deleted: what prune and the repairs end with.

Always in this order: what the new index names is stored, the new index files are written, then the old ones deleted,
then packs that no index names any more. Every deletion is under the exclusive lock, which is proved before it and every
30 s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence, Set
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import TYPE_CHECKING

from lowtide_engine.errors import FileMissing
from lowtide_engine.packing import IndexWriter, entries_of
from lowtide_engine.prune_plan import plan_indexes
from lowtide_engine.reporting import Counted, Reporter
from lowtide_engine.storage import File, FileKind
from lowtide_engine.unpacking import raise_stop

if TYPE_CHECKING:
    from lowtide_engine.repository import IndexedRepository

ENSURE_SECONDS = 30.0
"""How often the lock is proved while many files are deleted."""
DOING = "files were removed"


def write_what_stays(
    indexed: IndexedRepository, writer: IndexWriter, obsolete: Set[str], gone: Collection[str]
) -> None:
    """Write what the `obsolete` index files name anew, but for the packs that are `gone`, behind what `writer` has."""
    index = indexed.index
    for pack in sorted(index.packs()):
        if pack not in gone and not obsolete.isdisjoint(index.index_files_of(pack)):
            writer.add(pack, entries_of(index.pack_entries(pack)))
    writer.flush()


def replace_indexes(
    indexed: IndexedRepository,
    writer: IndexWriter,
    listed: Sequence[str],
    reporter: Reporter,
    stop: threading.Event,
    *,
    gone: Set[str],
    obsolete: Set[str] = frozenset(),
) -> tuple[int, int]:
    """Name what `writer` has, and no more what other index files say of packs that are `gone`; `listed` are those that
    `indexed` has in memory, `obsolete` others that go in any case. Gives how many were written and removed.
    """
    going = {*obsolete, *plan_indexes(indexed.index, listed, gone)}
    write_what_stays(indexed, writer, going, gone)
    delete_files(indexed, FileKind.INDEX, sorted(going), indexed.ensure, reporter, stop)
    return len(writer.names), len(going)


def delete_files(
    indexed: IndexedRepository,
    kind: FileKind,
    names: Sequence[str],
    prove: Callable[[], None],
    reporter: Reporter,
    stop: threading.Event,
) -> None:
    """Delete files, some at once, with the right to do so proved before and every 30 s. The first failure ends it."""
    if not names:
        return
    prove()
    storage = indexed.repository.storage
    clock = indexed.repository.clock
    proved = clock.monotonic()
    waiting = iter(names)
    for number, batch in enumerate(iter(lambda: list(islice(waiting, storage.connections)), []), start=1):
        raise_stop(indexed, stop, DOING)
        if clock.monotonic() - proved >= ENSURE_SECONDS:
            prove()
            proved = clock.monotonic()
        with ThreadPoolExecutor(len(batch), thread_name_prefix="delete") as pool:
            for done in as_completed([pool.submit(_delete_one, indexed, File(kind, name)) for name in batch]):
                done.result()
        reporter.progress(Counted(min(number * storage.connections, len(names)), len(names), 0, 0))


def _delete_one(indexed: IndexedRepository, file: File) -> None:
    try:
        indexed.repository.storage.delete(file)
    except FileMissing:
        return
