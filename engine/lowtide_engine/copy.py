"""Snapshots from one repository into another, with what they need and the other lacks.

Trees of the source are read first: where something that a snapshot needs is missing, nothing is written. Then each
pack is read once, whatever snapshots need it; blobs are unsealed, hashed and sealed anew with the other's key; packs,
index, snapshots, in this order. A copy that was stopped goes on where it was: what is stored is not read again.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lowtide_engine._kernel import Check, KernelError, open_blob
from lowtide_engine.errors import BadInput, Interrupted, RepositoryDamaged
from lowtide_engine.packing import PACK_SIZE, Entry, FaultyMachine, IndexWriter, PackWriter, entries_of, seal_blob
from lowtide_engine.reporting import Counted, Counting, Reporter
from lowtide_engine.transfer import Transfer, told_as_engine_error
from lowtide_engine.unpacking import Blob, raise_stop, read_blobs

if TYPE_CHECKING:
    from lowtide_engine._kernel import BlobKind
    from lowtide_engine.repository import IndexedRepository, LockedRepository, Snapshot

_DOING = "snapshots were copied"


def copied_before(chosen: Sequence[Snapshot], present: Sequence[Snapshot]) -> dict[str, Snapshot]:
    """Of the `chosen`, by their ids, those of which `present` has a copy, and that: the same `original`, and the same
    but for parent and summary."""
    copies: defaultdict[str, list[Snapshot]] = defaultdict(list)
    for snapshot in present:
        copies[snapshot.id].append(snapshot)
        copies[snapshot.original].append(snapshot)
    found = {}
    for snapshot in chosen:
        for known in copies[snapshot.original or snapshot.id]:
            if _facts(known) == _facts(snapshot):
                found[snapshot.id] = known
                break
    return found


def copy(
    source: LockedRepository,
    target: LockedRepository,
    chosen: Sequence[Snapshot],
    reporter: Reporter,
    stop: threading.Event,
    *,
    pack_size: int = PACK_SIZE,
    compress: bool = True,
) -> Iterator[tuple[Snapshot, Snapshot]]:
    """Copy the `chosen` snapshots of `source`, which `target` lacks; gives (source's, target's) of each once it is
    stored. `compress` is for data that the source has raw.

    Raises RepositoryDamaged before anything is written where a needed tree or blob isn't in the source's index, and
    Interrupted; what is stored by then is in an index.
    """
    if source.repository.id == target.repository.id:
        raise BadInput(f"{source.repository.location} and {target.repository.location} are the same repository")
    reading, writing = source.load_index(), target.load_index()
    unused = _unused(reading, chosen, reporter, stop)
    indexes = IndexWriter(writing)
    packs = PackWriter(writing, indexes, pack_size=pack_size)
    total = sum(entry.length for _, entries in _needed(reading, unused, packs) for entry in entries)
    read = 0
    try:
        for blob in read_blobs(reading, _needed(reading, unused, packs), stop, doing=_DOING):
            if not packs.has(blob.entry.kind, blob.entry.blob):
                packs.add(*_sealed_anew(blob, reading, writing, compress=compress))
            read += blob.read
            reporter.progress(Counted(0, len(chosen), read, max(read, total), current=(blob.pack.encode(),)))
        packs.finish()
    except Interrupted:
        indexes.flush()
        raise
    indexes.flush()
    for snapshot in chosen:
        raise_stop(writing, stop, _DOING)
        yield snapshot, writing.save_snapshot(_copied(snapshot))


def _copied(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, parent="", original=snapshot.original or snapshot.id, id="")


def _facts(snapshot: Snapshot) -> Snapshot:
    """A snapshot without what may differ between it and its copy."""
    paths, tags = sorted(snapshot.paths), sorted(snapshot.tags)
    plain = replace(snapshot, paths=tuple(paths), tags=tuple(tags), id="", parent="", original="")
    return replace(plain, program_version="", summary=None, extra={})


def _unused(
    reading: IndexedRepository, chosen: Sequence[Snapshot], reporter: Reporter, stop: threading.Event
) -> frozenset[tuple[BlobKind, str]]:
    """What none of the snapshots needs; RepositoryDamaged where something that one needs is missing."""
    counting = Counting(reporter)
    with told_as_engine_error():
        roots = list(dict.fromkeys(snapshot.tree for snapshot in chosen))
        run = Check(reading.repository.kernel_key, reading.index, roots=roots)
        Transfer(run, reading, counting, stop, outage_ends_it=True).drive()
    if counting.problems:
        raise RepositoryDamaged(
            f"{counting.problems} problems were found in what the snapshots need, so nothing was copied",
            hint="run `lowtide check` on the source; other snapshots can be copied by their ids",
        )
    return frozenset(run.unused())


def _needed(
    reading: IndexedRepository, unused: frozenset[tuple[BlobKind, str]], packs: PackWriter
) -> Iterator[tuple[str, list[Entry]]]:
    for pack in sorted(reading.index.packs()):
        entries = [
            entry
            for entry in reading.index.pack_entries(pack)
            if (entry.kind, entry.blob) not in unused and not packs.has(entry.kind, entry.blob)
        ]
        if entries:
            yield pack, entries_of(entries)


def _sealed_anew(
    blob: Blob, reading: IndexedRepository, writing: IndexedRepository, *, compress: bool
) -> tuple[Entry, bytes]:
    """The blob under the target's key: compressed as it was, or for the first time; raw for a target of version 1."""
    entry, version = blob.entry, writing.repository.config.version
    if version < 2 or (not entry.uncompressed_length and (compress or entry.kind == "tree")):
        return seal_blob(writing, entry.kind, blob.content(reading.repository.kernel_key), entry.blob)
    key = writing.repository.kernel_key
    sealed = key.seal(reading.repository.kernel_key.unseal(blob.sealed))
    try:
        open_blob(key, sealed, entry.blob, entry.uncompressed_length)
    except KernelError:
        raise FaultyMachine(f"{entry.kind} blob {entry.blob[:8]} was just sealed and reads differently") from None
    return entry, sealed
