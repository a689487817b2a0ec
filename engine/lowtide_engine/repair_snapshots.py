"""Snapshots without what is lost: folders that can't be read become empty, files lose the pieces that are missing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lowtide_engine.editing import Edited, rewrite_each
from lowtide_engine.errors import RepositoryDamaged
from lowtide_engine.packing import PACK_SIZE
from lowtide_engine.reporting import Reporter, shown
from lowtide_engine.tree_editing import RawNode, Rules, edit_tree

if TYPE_CHECKING:
    from lowtide_engine.repository import IndexedRepository, LockedRepository, Snapshot

MARK = "repaired"


def repair_snapshots(
    locked: LockedRepository,
    chosen: Sequence[Snapshot],
    snapshots: Sequence[Snapshot],
    reporter: Reporter,
    stop: threading.Event,
    *,
    forget: bool = False,
    dry_run: bool = False,
    pack_size: int = PACK_SIZE,
) -> Iterator[tuple[Snapshot, Snapshot | None]]:
    """Repair the `chosen` of the repository's `snapshots`; gives (old, new) of each that was damaged, where new is None
    if its root can't be read. What is left out is told; the new one is tagged as partial.

    Needs an index that is right (`repair_index`), and with `forget`, which deletes the damaged ones, an exclusive lock.
    """
    indexed = locked.load_index()
    sound: set[str] = set()

    def edit(old: Snapshot, store: Callable[[bytes], str]) -> Edited:
        mending = _Mending(indexed, reporter)
        rules = Rules(mending.node, unreadable=mending.unreadable, foreign_too=True, sound=sound)
        tree = edit_tree(indexed, old.tree, rules, store)
        if tree is None:
            return Edited(None, lost=True)
        return Edited(replace(old, tree=tree), lost=mending.lost)

    yield from rewrite_each(
        indexed, snapshots, chosen, edit, stop, mark=MARK, forget=forget, dry_run=dry_run, pack_size=pack_size
    )


class _Mending:
    """What is left of each node. `lost` once anything was left out."""

    def __init__(self, indexed: IndexedRepository, reporter: Reporter) -> None:
        self._indexed = indexed
        self._reporter = reporter
        self.lost = False

    def node(self, path: bytes, raw: RawNode) -> str | None:
        node = raw.node
        if node.type in ("", "irregular"):
            self._tell(f"{shown(path)} is left out: its type is {node.type or 'none'!r}")
            return None
        if node.type != "file":
            return raw.text
        sizes = {blob: self._indexed.blob_size("data", blob) for blob in node.content or []}
        content = [blob for blob in node.content or [] if sizes[blob] is not None]
        size = sum(sizes[blob] or 0 for blob in content)
        if content != (node.content or []):
            self._tell(f"{shown(path)} lacks {len(node.content or []) - len(content)} pieces, which are lost")
        elif size != node.size:
            self._reporter.notice(f"{shown(path)} has {size} bytes, not {node.size} as was said")
        return raw.edited(content=content, size=size)

    def unreadable(self, path: bytes, error: RepositoryDamaged) -> bool:
        if path == b"/":
            self._tell(f"nothing can be read: {error.message}")
            return False
        self._tell(f"{shown(path)} is empty now: {error.message}")
        return True

    def _tell(self, sentence: str) -> None:
        self.lost = True
        self._reporter.notice(sentence)
