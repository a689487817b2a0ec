"""How much snapshots hold, counted in one of restic's four ways."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from lowtide_engine._kernel import Check
from lowtide_engine.errors import Interrupted, RepositoryDamaged
from lowtide_engine.reporting import Counted, Counting, Reporter
from lowtide_engine.transfer import Transfer, told_as_engine_error
from lowtide_engine.trees import walk

if TYPE_CHECKING:
    from lowtide_engine._kernel import Node
    from lowtide_engine.repository import IndexedRepository, Snapshot

Mode = Literal["restore-size", "files-by-contents", "blobs-per-file", "raw-data"]
MODES: tuple[Mode, ...] = get_args(Mode)
_SEAL = 32


@dataclass(slots=True)
class Stats:
    """What was counted. Sizes in bytes: of files, of blobs' contents, or (raw-data) of sealed blobs as they are stored;
    the last four are for raw-data in a repository of version 2.
    """

    snapshots: int = 0
    size: int = 0
    files: int = 0
    blobs: int = 0
    uncompressed: int = 0
    compressed_blobs: int = 0
    compressed_blobs_uncompressed: int = 0

    @property
    def ratio(self) -> float:
        """How many times larger the compressed blobs are before compression."""
        return self.compressed_blobs_uncompressed / self.compressed_blobs if self.compressed_blobs else 0.0

    @property
    def progress(self) -> float:
        """The part, in percent, that is compressed."""
        return self.compressed_blobs_uncompressed / self.uncompressed * 100 if self.uncompressed else 0.0

    @property
    def saving(self) -> float:
        """What compression saves, in percent."""
        return (1 - self.size / self.uncompressed) * 100 if self.uncompressed else 0.0


def count(
    indexed: IndexedRepository, snapshots: Sequence[Snapshot], mode: Mode, reporter: Reporter, stop: threading.Event
) -> Stats:
    """Count what `snapshots` hold. Raises RepositoryDamaged where a tree or blob that they need is missing.

    restore-size: every file, one with several names once. files-by-contents: files of equal content once.
    blobs-per-file: of those, each blob once a file. raw-data: each blob once, as it is stored.
    """
    if mode == "raw-data":
        return _raw_data(indexed, snapshots, reporter, stop)
    counter = _Counter(indexed, mode)
    for number, snapshot in enumerate(snapshots, start=1):
        counter.begin()
        for path, node in walk(indexed, snapshot.tree):
            if stop.is_set():
                raise Interrupted("the counting was stopped by a signal")
            counter.add(path, node)
        reporter.progress(Counted(number, len(snapshots), counter.stats.size, 0))
    return counter.stats


class _Counter:
    def __init__(self, indexed: IndexedRepository, mode: Mode) -> None:
        self._indexed = indexed
        self._mode = mode
        self._linked: set[tuple[int, int]] = set()
        self._contents: set[tuple[str, ...]] = set()
        self._blobs: dict[bytes, set[str]] = {}
        self.stats = Stats()

    def begin(self) -> None:
        """The next snapshot: names of one file are known by its inode within one only."""
        self._linked = set()
        self.stats.snapshots += 1

    def add(self, path: bytes, node: Node) -> None:
        if self._mode == "restore-size":
            self._add_size(node)
            return
        content = tuple(node.content or ())
        if content in self._contents:
            return
        self._contents.add(content)
        if self._mode == "files-by-contents":
            self.stats.files += 1
            self.stats.size += node.size
        else:
            self._add_blobs(path, content)

    def _add_size(self, node: Node) -> None:
        self.stats.files += 1
        place = (node.device_id, node.inode)
        if node.links != 1 and node.type != "dir" and node.inode:
            if place in self._linked:
                return
            self._linked.add(place)
        self.stats.size += node.size

    def _add_blobs(self, path: bytes, content: Sequence[str]) -> None:
        if content and path not in self._blobs:
            self._blobs[path] = set()
            self.stats.files += 1
        for blob in content:
            if blob in self._blobs[path]:
                continue
            size = self._indexed.blob_size("data", blob)
            if size is None:
                raise RepositoryDamaged(f"data blob {blob[:8]} is not in the index")
            self._blobs[path].add(blob)
            self.stats.blobs += 1
            self.stats.size += size


def _raw_data(
    indexed: IndexedRepository, snapshots: Sequence[Snapshot], reporter: Reporter, stop: threading.Event
) -> Stats:
    stats = Stats(snapshots=len(snapshots))
    counting = Counting(reporter)
    index = indexed.index
    with told_as_engine_error():
        roots = list(dict.fromkeys(snapshot.tree for snapshot in snapshots))
        run = Check(indexed.repository.kernel_key, index, roots=roots)
        Transfer(run, indexed, counting, stop, outage_ends_it=True).drive()
    if counting.problems:
        raise RepositoryDamaged(f"{counting.problems} problems were found in what the snapshots need")
    seen = set(run.unused())
    for pack in index.packs():
        for entry in index.pack_entries(pack):
            if (entry.kind, entry.blob) in seen:
                continue
            seen.add((entry.kind, entry.blob))
            stats.blobs += 1
            stats.size += entry.length
            if indexed.repository.config.version >= 2:
                plain = entry.uncompressed_length + _SEAL if entry.uncompressed_length else entry.length
                stats.uncompressed += plain
                if entry.uncompressed_length:
                    stats.compressed_blobs += entry.length
                    stats.compressed_blobs_uncompressed += plain
    return stats
