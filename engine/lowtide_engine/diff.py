"""What differs between two trees: paths with restic's letters, and how much was added and removed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from lowtide_engine.errors import Interrupted
from lowtide_engine.trees import load_tree

if TYPE_CHECKING:
    from lowtide_engine._kernel import BlobKind, Node
    from lowtide_engine.repository import IndexedRepository

    Blobs = set[tuple[BlobKind, str]]
    Pair = tuple[Node | None, Node | None]

_FACTS = (
    *("name", "type", "mode", "mtime", "atime", "ctime", "uid", "gid", "user", "group", "inode", "device_id", "size"),
    *("links", "linktarget", "device", "extended_attributes", "generic_attributes"),
)


@dataclass(slots=True)
class Amount:
    """What was added, or removed. `bytes` are of blobs, before compression."""

    files: int = 0
    dirs: int = 0
    others: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    bytes: int = 0

    def count(self, node: Node) -> None:
        """Count one node by its type."""
        self.files += node.type == "file"
        self.dirs += node.type == "dir"
        self.others += node.type not in ("file", "dir")


@dataclass(slots=True)
class Difference:
    """The sums of a comparison, final once it is through."""

    changed_files: int = 0
    added: Amount = field(default_factory=Amount)
    removed: Amount = field(default_factory=Amount)

    def document(self) -> dict[str, object]:
        """As restic's --json has it."""
        return asdict(self)


class Comparison:
    """Compares the trees `before` and `after`. `metadata` also tells items of which only that changed."""

    def __init__(
        self, indexed: IndexedRepository, before: str, after: str, stop: threading.Event, *, metadata: bool = False
    ) -> None:
        self._indexed = indexed
        self._roots = (before, after)
        self._stop = stop
        self._metadata = metadata
        self._before: Blobs = {("tree", before)}
        self._after: Blobs = {("tree", after)}
        self._common: Blobs = set()
        self.difference = Difference()

    def changes(self) -> Iterator[tuple[bytes, str]]:
        """(path, letters) of each item that differs, folders before what they hold and with a slash at their end: + -
        M (content) U (metadata) T (type) M? (content, though all metadata is the same). Raises RepositoryDamaged."""
        before, after = self._roots
        if before == after:
            self._collect(before)
            return
        open_folders = [(b"", self._pairs(before, after))]
        while open_folders:
            if self._stop.is_set():
                raise Interrupted("the comparison was stopped by a signal")
            above, pairs = open_folders[-1]
            pair = next(pairs, None)
            if pair is None:
                open_folders.pop()
                continue
            last = pair[1] or pair[0]
            if last is None:
                continue
            path = above + b"/" + last.name
            letters = self._letters(*pair)
            if letters:
                yield path + (b"/" if last.type == "dir" else b""), letters
            below = self._below(*pair)
            if below is not None:
                open_folders.append((path, below))
        self._sum_up()

    def _pairs(self, before: str | None, after: str | None) -> Iterator[Pair]:
        """The nodes of both trees by name; a tree that isn't there has none."""
        left = load_tree(self._indexed, before) if before is not None else []
        right = load_tree(self._indexed, after) if after is not None else []
        return _side_by_side(left, right)

    def _letters(self, before: Node | None, after: Node | None) -> str:
        """What happened to one name; counts it."""
        for node, blobs in ((before, self._before), (after, self._after)):
            if node is not None:
                blobs.update(_blobs(node))
        if before is None or after is None:
            alone, amount, letter = (
                (after, self.difference.added, "+") if before is None else (before, self.difference.removed, "-")
            )
            if alone is not None:
                amount.count(alone)
            return letter
        letters = "T" if before.type != after.type else ""
        if before.type == after.type == "file" and before.content != after.content:
            self.difference.changed_files += 1
            return letters + ("M?" if _same_facts(before, after) else "M")
        if self._metadata and not (_same_facts(before, after) and before.subtree == after.subtree):
            letters += "U"
        return letters

    def _below(self, before: Node | None, after: Node | None) -> Iterator[Pair] | None:
        """What is to be compared inside of a pair; None where there is nothing."""
        left, right = (node.subtree if node is not None and node.type == "dir" else None for node in (before, after))
        if before is not None and after is not None and (left is None or right is None):
            return None
        if left is None and right is None:
            return None
        if left is not None and left == right:
            self._collect(left)
            return None
        return self._pairs(left, right)

    def _collect(self, tree: str) -> None:
        """Remember what is below a tree that both have."""
        waiting = [tree]
        while waiting:
            for node in load_tree(self._indexed, waiting.pop()):
                if node.type == "dir" and node.subtree is not None and ("tree", node.subtree) not in self._common:
                    waiting.append(node.subtree)
                self._common.update(_blobs(node))

    def _sum_up(self) -> None:
        both = (self._before & self._after) | self._common
        for blobs, amount in ((self._before, self.difference.removed), (self._after, self.difference.added)):
            for kind, blob in blobs - both:
                amount.data_blobs += kind == "data"
                amount.tree_blobs += kind == "tree"
                amount.bytes += self._indexed.blob_size(kind, blob) or 0


def _side_by_side(left: Sequence[Node], right: Sequence[Node]) -> Iterator[Pair]:
    """Both lists, which are sorted by name, merged."""
    i = j = 0
    while i < len(left) or j < len(right):
        if j == len(right) or (i < len(left) and left[i].name < right[j].name):
            yield left[i], None
            i += 1
        elif i == len(left) or right[j].name < left[i].name:
            yield None, right[j]
            j += 1
        else:
            yield left[i], right[j]
            i, j = i + 1, j + 1


def _same_facts(one: Node, other: Node) -> bool:
    """Whether all but content and subtree is equal."""
    return all(getattr(one, fact) == getattr(other, fact) for fact in _FACTS)


def _blobs(node: Node) -> Iterator[tuple[BlobKind, str]]:
    if node.type == "file":
        for blob in node.content or []:
            yield "data", blob
    elif node.type == "dir" and node.subtree is not None:
        yield "tree", node.subtree
