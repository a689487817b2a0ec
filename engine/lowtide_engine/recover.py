"""A snapshot of all folders that no snapshot reaches: for when one was forgotten by mistake and nothing was pruned."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lowtide_engine._kernel import encode_tree
from lowtide_engine.errors import RepositoryDamaged
from lowtide_engine.packing import IndexWriter, PackWriter
from lowtide_engine.reporting import Counted, Reporter
from lowtide_engine.repository import Instant, Snapshot
from lowtide_engine.repository.go_text import go_json
from lowtide_engine.repository.keys import own_username
from lowtide_engine.standing import program_version
from lowtide_engine.trees import load_tree
from lowtide_engine.unpacking import raise_stop

if TYPE_CHECKING:
    from lowtide_engine.repository import IndexedRepository, LockedRepository

PATH = "/recover"
TAG = "recovered"


def recover(
    locked: LockedRepository, host: str, reporter: Reporter, stop: threading.Event
) -> tuple[Snapshot | None, Sequence[str]]:
    """Store a snapshot of all trees that no other tree and no snapshot names, each as a folder called by the beginning
    of its id; gives it (None where there is none), and their ids.

    Needs an index that is right (`repair_index`), and an exclusive lock, so that no backup is under way whose trees
    have no snapshot yet. Trees and snapshots that can't be read are told and passed over.
    """
    snapshots = locked.snapshots(on_damaged=lambda _, error: reporter.notice(error.message))
    indexed = locked.load_index()
    roots = _roots(indexed, snapshots, reporter, stop)
    if not roots:
        return None, roots
    moment = Instant.at(time.time())
    indexes = IndexWriter(indexed)
    packs = PackWriter(indexed, indexes)
    tree = packs.store("tree", encode_tree(_folders(roots, moment)))
    packs.finish()
    indexes.flush()
    snapshot = Snapshot(
        time=moment,
        tree=tree,
        paths=(PATH,),
        hostname=host,
        username=own_username(),
        uid=os.getuid(),
        gid=os.getgid(),
        tags=(TAG,),
        program_version=program_version(),
    )
    return indexed.save_snapshot(snapshot), roots


def _roots(
    indexed: IndexedRepository, snapshots: Sequence[Snapshot], reporter: Reporter, stop: threading.Event
) -> list[str]:
    """The trees that can be read and that nothing names, sorted."""
    index = indexed.index
    trees = sorted({e.blob for pack in index.packs() for e in index.pack_entries(pack) if e.kind == "tree"})
    named = {snapshot.tree for snapshot in snapshots}
    readable = set()
    for number, tree in enumerate(trees, start=1):
        raise_stop(indexed, stop, "trees were read")
        try:
            nodes = load_tree(indexed, tree)
        except RepositoryDamaged as error:
            reporter.notice(error.message)
            continue
        readable.add(tree)
        named.update(node.subtree for node in nodes if node.type == "dir" and node.subtree is not None)
        reporter.progress(Counted(number, len(trees), 0, 0, current=(tree.encode(),)))
    return sorted(readable - named)


def _folders(roots: Sequence[str], moment: Instant) -> list[tuple[bytes, bytes]]:
    """A node for each, as restic writes it. Two whose ids begin alike are called by the whole id."""
    beginnings = [root[:8] for root in roots]
    names = {root: root[:8] if beginnings.count(root[:8]) == 1 else root for root in roots}
    folders = []
    for root, name in sorted(names.items(), key=lambda item: item[1]):
        times = dict.fromkeys(("mtime", "atime", "ctime"), str(moment))
        node = {"name": name, "type": "dir", "mode": 0o755, **times, "uid": 0, "gid": 0, "content": None}
        folders.append((name.encode(), go_json({**node, "subtree": root})))
    return folders
