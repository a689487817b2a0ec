"""Where in snapshots something is: files by patterns, or what uses a blob, tree or pack."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lowtide_engine._kernel import KernelError, Patterns
from lowtide_engine.errors import BadInput, Interrupted
from lowtide_engine.storage import FileKind
from lowtide_engine.trees import walk
from lowtide_engine.unpacking import pack_contents

if TYPE_CHECKING:
    from datetime import datetime

    from lowtide_engine._kernel import BlobKind, Node
    from lowtide_engine.repository import IndexedRepository, Snapshot

Objects = Literal["blob", "tree", "pack"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Files whose path matches any of the patterns, and whose mtime is not outside of the times."""

    patterns: Sequence[bytes]
    ignore_case: bool = False
    oldest: datetime | None = None
    newest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A blob or tree that was looked for: where it is used. `parent` is the tree that names a file's blob."""

    kind: Literal["blob", "tree"]
    id: str
    path: bytes
    parent: str = ""


def find_files(
    indexed: IndexedRepository, snapshot: Snapshot, wanted: Wanted, stop: threading.Event
) -> Iterator[tuple[bytes, Node]]:
    """The files and folders of a snapshot that are wanted. Raises RepositoryDamaged; BadInput for a bad pattern."""
    # restic's find knows no negation, and takes no notice of its mark.
    plain = [pattern.removeprefix(b"!") for pattern in wanted.patterns]
    literal = [b"\\" + pattern if pattern.startswith(b"!") else pattern for pattern in plain]
    try:
        patterns = Patterns(literal, ignore_case=wanted.ignore_case)
    except KernelError as error:
        raise BadInput(str(error)) from error
    oldest, newest = (_moment(time) for time in (wanted.oldest, wanted.newest))
    for path, node in walk(indexed, snapshot.tree, enter=lambda path: patterns.verdict(path)[1]):
        _raise_stop(stop)
        late_enough = oldest is None or node.mtime >= oldest
        if late_enough and (newest is None or node.mtime <= newest) and patterns.verdict(path)[0]:
            yield path, node


@dataclass(slots=True)
class Search:
    """Blobs and trees that are looked for, by the beginnings of their ids, or as all of some packs."""

    blobs: set[str] = field(default_factory=set)
    trees: set[str] = field(default_factory=set)
    prefixes: tuple[str, ...] = ()
    prefix_kind: Literal["blob", "tree", ""] = ""

    @classmethod
    def of(cls, indexed: IndexedRepository, objects: Objects, ids: Sequence[str]) -> Search:
        """For what `ids` (or their beginnings) name. Raises BadInput for a pack that is nowhere."""
        if objects != "pack":
            return cls(prefixes=tuple(wanted.lower() for wanted in ids), prefix_kind=objects)
        found = cls()
        for kind, blob in _blobs_of_packs(indexed, ids):
            (found.trees if kind == "tree" else found.blobs).add(blob)
        return found

    def uses(self, indexed: IndexedRepository, snapshot: Snapshot, stop: threading.Event) -> Iterator[Hit]:
        """Each place in a snapshot where one of them is used. Raises RepositoryDamaged."""
        if self._is_wanted("tree", snapshot.tree):
            yield Hit("tree", snapshot.tree, b"/")
        trees = {b"": snapshot.tree}
        for path, node in walk(indexed, snapshot.tree):
            _raise_stop(stop)
            if node.type == "dir" and node.subtree is not None:
                trees[path] = node.subtree
                if self._is_wanted("tree", node.subtree):
                    yield Hit("tree", node.subtree, path)
            elif node.type == "file":
                for blob in node.content or []:
                    if self._is_wanted("blob", blob):
                        yield Hit("blob", blob, path, trees[path.rpartition(b"/")[0]])

    def _is_wanted(self, kind: Literal["blob", "tree"], name: str) -> bool:
        if kind == self.prefix_kind and name.startswith(self.prefixes):
            return True
        return name in (self.blobs if kind == "blob" else self.trees)


def _blobs_of_packs(indexed: IndexedRepository, ids: Sequence[str]) -> Iterator[tuple[BlobKind, str]]:
    """What is in the packs that `ids` name: by the index, or by their own headers where no index names them."""
    repository = indexed.repository
    known = indexed.index.packs()
    unnamed = {entry.name: entry.size for entry in repository.storage.list(FileKind.DATA)}
    for wanted in ids:
        named = [pack for pack in known if pack.startswith(wanted.lower())]
        others = [pack for pack in unnamed if pack.startswith(wanted.lower()) and pack not in named]
        if not named and not others:
            raise BadInput(f"no pack begins with {wanted}")
        for pack in named:
            yield from ((entry.kind, entry.blob) for entry in indexed.index.pack_entries(pack))
        for pack in others:
            yield from ((entry.kind, entry.blob) for entry in pack_contents(repository, pack, unnamed[pack]))


def _moment(time: datetime | None) -> tuple[int, int] | None:
    return None if time is None else (int(time.replace(microsecond=0).timestamp()), time.microsecond * 1000)


def _raise_stop(stop: threading.Event) -> None:
    if stop.is_set():
        raise Interrupted("the search was stopped by a signal")
