"""Frees what no snapshot needs: reads everything, plans, then acts in restic's order (restic-format 1.11).

All of it is one phase under the exclusive lock: packs that no index names are deleted; what is still needed of packs
that go is copied into new packs; new index files are written; then old index files are deleted, then old packs. So at
any moment every blob that a snapshot needs is in a pack that an index names, and a prune that was killed anywhere is
simply run again. A snapshot, index file or tree that can't be read, or a needed blob that is missing, stops it before
anything is deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lowtide_engine._kernel import Check
from lowtide_engine.errors import BadInput, RepositoryDamaged, RepositoryError
from lowtide_engine.packing import IndexWriter
from lowtide_engine.prune_plan import PackUse, PruneOptions, PrunePlan, Survey, plan_indexes, plan_prune
from lowtide_engine.reindexing import delete_files, write_what_stays
from lowtide_engine.repack import Repacker
from lowtide_engine.reporting import Counting, Reporter
from lowtide_engine.storage import FileKind
from lowtide_engine.transfer import Transfer, told_as_engine_error

if TYPE_CHECKING:
    from lowtide_engine._kernel import BlobKind
    from lowtide_engine.repository import IndexedRepository, LockedRepository


class NoSnapshots(RepositoryError):
    """A repository without snapshots, of which everything would be removed."""

    reason = "NoSnapshots"
    default_hint = "look whether its snapshots are where they should be; --unsafe-allow-remove-all goes on"


class RepositoryBusy(RepositoryError):
    """Somebody wrote into the repository although we hold the exclusive lock."""

    reason = "RepositoryBusy"
    default_retryable = True
    default_hint = "find out who does, then run it again"


@dataclass(frozen=True, slots=True)
class Pruned:
    """The plan, and what came of it: bytes in new packs, and index files written."""

    plan: PrunePlan
    written: int = 0
    new_indexes: int = 0


def prune(
    locked: LockedRepository,
    options: PruneOptions,
    reporter: Reporter,
    stop: threading.Event,
    *,
    dry_run: bool = False,
    ignoring: Collection[str] = (),
    allow_empty: bool = False,
) -> Pruned:
    """Plan, and act unless `dry_run`. `ignoring` are snapshots that count as removed, for a dry run.

    Needs an exclusive lock unless `dry_run`. `allow_empty` goes on where there is no snapshot. Raises AppendOnly,
    RepositoryDamaged, NoSnapshots or RepositoryBusy before anything is deleted.
    """
    if not dry_run:
        if ignoring:
            raise BadInput("only a dry run may take snapshots for removed that are there")
        if locked.lock is None or not locked.lock.exclusive:
            raise BadInput("a prune needs an exclusive lock")
        locked.repository.config.refuse_deleting("prune")
    reading = _Reading.of(locked, ignoring, allow_empty)
    indexed = reading.indexed
    version = indexed.repository.config.version
    survey = Survey(indexed.index, _unused(indexed, reading, reporter, stop), reading.packs)
    uses: dict[str, PackUse] = dict(survey.uses(version=version))
    plan = plan_prune(uses, reading.packs, options, version=version)
    plan.obsolete_indexes = plan_indexes(indexed.index, reading.indexes, plan.gone)
    if dry_run or plan.idle:
        return Pruned(plan)
    return _Execution(reading, survey, plan, options, reporter, stop).run()


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was in the repository when it was read: names of snapshots and index files, packs with their sizes."""

    indexed: IndexedRepository
    roots: list[str]
    snapshots: frozenset[str]
    indexes: list[str]
    packs: dict[str, int]

    @classmethod
    def of(cls, locked: LockedRepository, ignoring: Collection[str], allow_empty: bool) -> _Reading:
        """Read snapshots, then the list of packs, then the index: a pack that is listed and named is seen as named."""
        storage = locked.repository.storage
        names = frozenset(entry.name for entry in storage.list(FileKind.SNAPSHOT))
        snapshots = locked.snapshots()
        if names != {snapshot.id for snapshot in snapshots}:
            raise RepositoryBusy("snapshots came or went while they were read, so nothing was removed")
        packs = {entry.name: entry.size for entry in storage.list(FileKind.DATA)}
        roots = list(dict.fromkeys(snapshot.tree for snapshot in snapshots if snapshot.id not in ignoring))
        if packs and not roots and not allow_empty:
            raise NoSnapshots(f"there is no snapshot in {storage.location}, and everything would be removed")
        indexes = sorted(entry.name for entry in storage.list(FileKind.INDEX))
        indexed = locked.load_index()
        reading = cls(indexed, roots, names, indexes, packs)
        reading.refuse_changed(())
        return reading

    def refuse_changed(self, ours: Collection[str]) -> None:
        """Raise RepositoryBusy where a snapshot or index file came that isn't ours: it may name what we delete."""
        storage = self.indexed.repository.storage
        for kind, known in ((FileKind.SNAPSHOT, self.snapshots), (FileKind.INDEX, {*self.indexes, *ours})):
            for entry in storage.list(kind):
                if entry.name not in known:
                    raise RepositoryBusy(f"{kind}/{entry.name[:8]} was written by somebody else during the prune")


def _unused(
    indexed: IndexedRepository, reading: _Reading, reporter: Reporter, stop: threading.Event
) -> frozenset[tuple[BlobKind, str]]:
    """The blobs that no snapshot needs, after every tree was read; RepositoryDamaged where something is missing."""
    counting = Counting(reporter)
    with told_as_engine_error():
        run = Check(indexed.repository.kernel_key, indexed.index, roots=reading.roots)
        Transfer(run, indexed, counting, stop, outage_ends_it=True).drive()
    if counting.problems:
        raise RepositoryDamaged(
            f"{counting.problems} problems were found in what snapshots need, so nothing was removed"
        )
    return frozenset(run.unused())


class _Execution:
    """Carries a plan out, once."""

    def __init__(
        self,
        reading: _Reading,
        survey: Survey,
        plan: PrunePlan,
        options: PruneOptions,
        reporter: Reporter,
        stop: threading.Event,
    ) -> None:
        self._reading = reading
        self._indexed = reading.indexed
        self._survey = survey
        self._plan = plan
        self._options = options
        self._reporter = reporter
        self._stop = stop
        self._writer = IndexWriter(reading.indexed)

    def run(self) -> Pruned:
        plan = self._plan
        for pack in plan.vanished:
            self._reporter.notice(f"pack {pack} is missing, and not needed: it is taken out of the index")
        self._delete(FileKind.DATA, sorted(plan.unindexed))
        repacker = Repacker(
            self._indexed,
            self._survey,
            plan,
            self._writer,
            self._reporter,
            self._stop,
            pack_size=self._options.pack_size,
            compress=self._options.compress,
        )
        repacker.run()
        write_what_stays(self._indexed, self._writer, plan.obsolete_indexes, plan.gone)
        self._delete(FileKind.INDEX, sorted(plan.obsolete_indexes))
        self._delete(FileKind.DATA, [*plan.remove, *plan.repack])
        return Pruned(plan, repacker.written, len(self._writer.names))

    def _delete(self, kind: FileKind, names: Sequence[str]) -> None:
        delete_files(self._indexed, kind, names, self._prove, self._reporter, self._stop)

    def _prove(self) -> None:
        self._indexed.ensure()
        self._reading.refuse_changed(self._writer.names)
