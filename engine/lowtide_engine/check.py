"""Looks for damage: snapshots, index files, packs, trees, and on demand every byte (restic-format 1.14).

Damage is told to the reporter and counted; only a storage that can't be reached, or a stop, ends a check early. Hints
(what costs space or time, and no data) don't fail it.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from lowtide_engine._kernel import Check, Index, KernelError, verify_pack
from lowtide_engine.errors import FileMissing, FileShort, FileUnreadable, Interrupted, Unreadable
from lowtide_engine.reporting import Counted, Reporter
from lowtide_engine.repository import IndexedRepository
from lowtide_engine.storage import File, FileKind
from lowtide_engine.subset import Subset
from lowtide_engine.transfer import Transfer, told_as_engine_error

if TYPE_CHECKING:
    from lowtide_engine._kernel import BlobKind
    from lowtide_engine.repository import LockedRepository, Snapshot
    from lowtide_engine.storage import Storage

READERS = 2


@dataclass(slots=True)
class CheckReport:
    """What was found. `broken_packs` are those that are missing or whose content is damaged."""

    problems: int = 0
    broken_packs: list[str] = field(default_factory=list)
    suggest_repair_index: bool = False
    suggest_prune: bool = False
    packs: int = 0
    snapshots: int = 0


class _Listening:
    """A reporter that counts problems on their way to the real one."""

    def __init__(self, inner: Reporter, report: CheckReport) -> None:
        self._inner = inner
        self._report = report
        self.progress = inner.progress
        self.item_error = inner.item_error
        self.item_done = inner.item_done
        self.warn = inner.warn
        self.notice = inner.notice

    def problem(self, kind: str, message: str) -> None:
        self._report.problems += 1
        self._inner.problem(kind, message)


def check(
    locked: LockedRepository,
    reporter: Reporter,
    stop: threading.Event,
    *,
    read_data: Subset | None = None,
    check_unused: bool = False,
    choose: Callable[[list[Snapshot]], list[Snapshot]] | None = None,
) -> CheckReport:
    """Check the whole repository. `read_data` says which packs are read and verified, None for none; `check_unused`
    makes blobs that nothing names a problem. With `choose` only the trees of the snapshots that it gives are looked
    through, and of the packs only those are read that hold what they need; indexes and packs are compared all the same.
    Raises a StorageError where the storage is out of reach.
    """
    report = CheckReport()
    listening = _Listening(reporter, report)
    snapshots = locked.snapshots(
        on_damaged=lambda name, error: listening.problem("SnapshotDamaged", f"snapshot {name[:8]}: {error.message}")
    )
    listed = len(snapshots) + report.problems
    if choose is not None:
        snapshots = choose(snapshots)
    report.snapshots = len(snapshots)
    _check_keys(locked.repository.storage, listening)
    indexed = _load_index(locked, listening, report, stop)
    present = {entry.name: entry.size for entry in locked.repository.storage.list(FileKind.DATA)}
    packs = _compare_packs(indexed.index, present, listening, report)
    roots = list(dict.fromkeys(snapshot.tree for snapshot in snapshots))
    before = report.problems
    with told_as_engine_error():
        run = Check(locked.repository.kernel_key, indexed.index, roots=roots)
        Transfer(run, indexed, listening, stop, outage_ends_it=True).drive()
    if check_unused and report.problems == before and len(snapshots) == listed:
        for kind, blob in run.unused():
            listening.problem("BlobUnused", f"{kind} blob {blob} is not used by any snapshot")
    elif check_unused:
        listening.notice("what is unused can't be told while snapshots or trees are damaged")
    if read_data is not None:
        if choose is not None and report.problems == before:
            unused = frozenset(run.unused())
            packs = [(pack, size) for pack, size in packs if _is_needed(indexed.index, pack, unused)]
        _read_packs(indexed, read_data.choose(packs, random.SystemRandom()), listening, report, stop)
    return report


def _is_needed(index: Index, pack: str, unused: frozenset[tuple[BlobKind, str]]) -> bool:
    return any((entry.kind, entry.blob) not in unused for entry in index.pack_entries(pack))


def _check_keys(storage: Storage, reporter: Reporter) -> None:
    """Also of keys that others open the repository with: whoever has that password would learn of it too late."""
    names = sorted(entry.name for entry in storage.list(FileKind.KEY))
    for name, loaded in _in_parallel(names, lambda name: storage.load(File(FileKind.KEY, name))):
        if isinstance(loaded, bytes) and hashlib.sha256(loaded).hexdigest() != name:
            reporter.problem("KeyDamaged", f"key {name[:8]} doesn't hash to its name: its password opens nothing")
        elif isinstance(loaded, FileUnreadable):
            reporter.problem("KeyDamaged", f"key {name[:8]} can't be read: {loaded.message}")


def _load_index(
    locked: LockedRepository, reporter: Reporter, report: CheckReport, stop: threading.Event
) -> IndexedRepository:
    repository = locked.repository
    index = Index()
    seen: dict[str, tuple[int, str]] = {}
    names = sorted(entry.name for entry in repository.storage.list(FileKind.INDEX))
    for name, loaded in _in_parallel(names, lambda name: repository.load_file(FileKind.INDEX, name)):
        _raise_stop(stop)
        if isinstance(loaded, FileMissing | Unreadable):
            reporter.problem("IndexDamaged", f"index {name[:8]}: {loaded.message}")
            report.suggest_repair_index = True
            continue
        try:
            index.add(name, loaded)
            _compare_copies(name, loaded, seen, reporter, report)
        except (KernelError, ValueError, KeyError, TypeError) as error:
            reporter.problem("IndexDamaged", f"index {name[:8]} can't be read: {error}")
            report.suggest_repair_index = True
    return IndexedRepository(repository, locked.lock, index)


def _compare_copies(
    name: str, plaintext: bytes, seen: dict[str, tuple[int, str]], reporter: Reporter, report: CheckReport
) -> None:
    """All blobs of a pack must be in each index file that names the pack."""
    for pack in json.loads(plaintext)["packs"]:
        blobs = hash(frozenset((blob["id"], blob["type"], blob["offset"], blob["length"]) for blob in pack["blobs"]))
        known = seen.setdefault(pack["id"], (blobs, name))
        if known[1] == name:
            continue
        report.suggest_repair_index = True
        if known[0] != blobs:
            message = f"pack {pack['id']} has other blobs in index {name[:8]} than in index {known[1][:8]}"
            reporter.problem("PackIndexedInParts", message)
        else:
            reporter.notice(f"pack {pack['id']} is in several index files, which costs a little space")


def _compare_packs(
    index: Index, present: dict[str, int], reporter: Reporter, report: CheckReport
) -> list[tuple[str, int]]:
    """Compare what the index names with what is there; gives the packs that are worth reading, by name."""
    readable = []
    named = sorted(index.packs())
    report.packs = len(named)
    for pack in named:
        expected, size = index.pack_size(pack), present.get(pack)
        if size is None:
            reporter.problem("PackMissing", f"pack {pack} is missing: the index names it, and it is not in the storage")
            report.broken_packs.append(pack)
            continue
        if size != expected:
            reporter.problem("PackSize", f"pack {pack} has {size} bytes, the index says {expected}")
            report.broken_packs.append(pack)
        if index.has_tree_blobs(pack) and len({entry.kind for entry in index.pack_entries(pack)}) > 1:
            reporter.notice(f"pack {pack} holds trees and data, as old programs wrote them; a prune separates them")
            report.suggest_prune = True
        readable.append((pack, size))
    orphans = present.keys() - set(named)
    if orphans:
        reporter.notice(
            f"{len(orphans)} packs are in no index, likely left by an interrupted backup; a prune removes them"
        )
        report.suggest_prune = True
    return readable


def _read_packs(
    indexed: IndexedRepository,
    packs: Sequence[tuple[str, int]],
    reporter: Reporter,
    report: CheckReport,
    stop: threading.Event,
) -> None:
    sizes = dict(packs)
    total, done = sum(sizes.values()), 0
    for number, (pack, found) in enumerate(_in_parallel([*sizes], lambda pack: _read_pack(indexed, pack)), start=1):
        _raise_stop(stop)
        if isinstance(found, Exception):
            found = [f"pack {pack}: {found}"]
        for message in found:
            reporter.problem("PackDamaged", message)
        if found and pack not in report.broken_packs:
            report.broken_packs.append(pack)
        done += sizes[pack]
        reporter.progress(Counted(number, len(sizes), done, total, report.problems))


def _read_pack(indexed: IndexedRepository, pack: str) -> list[str]:
    """What is wrong with a pack, after a second read: the network may have changed it."""
    repository = indexed.repository
    for last in (False, True):
        try:
            data = repository.storage.load(File(FileKind.DATA, pack))
        except (FileShort, FileUnreadable) as error:
            return [f"pack {pack} can't be read: {error.message}"]
        found = verify_pack(repository.kernel_key, indexed.index, pack, data)
        if not found or last:
            break
    return found


def _in_parallel(names: Sequence[str], load: Any) -> Iterator[tuple[str, Any]]:
    """(name, result) in order, at most READERS loaded ahead. A file that is missing, damaged or can't be read is its
    own result; other errors are raised."""
    waiting = iter(names)
    with ThreadPoolExecutor(READERS, thread_name_prefix="check") as pool:
        try:
            ahead = [(name, pool.submit(load, name)) for name in islice(waiting, READERS)]
            while ahead:
                name, future = ahead.pop(0)
                try:
                    result = future.result()
                except (FileMissing, Unreadable) as error:
                    result = error
                following = next(waiting, None)
                if following is not None:
                    ahead.append((following, pool.submit(load, following)))
                yield name, result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _raise_stop(stop: threading.Event) -> None:
    if stop.is_set():
        raise Interrupted("the check was stopped by a signal before it was done")
