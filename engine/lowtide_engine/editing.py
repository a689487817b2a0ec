"""Snapshots that take the place of others: what tag, rewrite and repair snapshots end with.

The new one is stored before the old one is deleted, so that a command which is killed in between loses nothing; run
again, it finds the new one and only deletes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from lowtide_engine._kernel import sha256
from lowtide_engine.errors import FileMissing
from lowtide_engine.packing import PACK_SIZE, IndexWriter, PackWriter
from lowtide_engine.standing import PARTIAL_TAG, RUN_PREFIX, TAG_PREFIX, value_of
from lowtide_engine.unpacking import raise_stop

if TYPE_CHECKING:
    from lowtide_engine.repository import IndexedRepository, LockedRepository, Snapshot


class SnapshotEditor:
    """Stores edited snapshots. `snapshots` are all that the repository has; deleting needs an exclusive lock."""

    def __init__(self, locked: LockedRepository, snapshots: Iterable[Snapshot]) -> None:
        self._locked = locked
        self._stored = {snapshot.encode(): snapshot for snapshot in snapshots}

    def put(self, old: Snapshot, new: Snapshot, *, forget: bool) -> Snapshot:
        """Store `new`, unless its equal is there, and delete `old` if it is to be forgotten; gives the stored one."""
        plaintext = new.encode()
        stored = self._stored.get(plaintext)
        if stored is None or stored.id == old.id:
            stored = self._stored[plaintext] = self._locked.save_snapshot(replace(new, id=""))
        if forget:
            self.forget(old)
        return stored

    def forget(self, old: Snapshot) -> None:
        """Delete a snapshot; that it is gone already is no failure."""
        try:
            self._locked.delete_snapshot(old.id)
        except FileMissing:
            return


class Edited(NamedTuple):
    """What becomes of a snapshot: `snapshot` None where nothing of it stays; `lost` where it lacks what was backed
    up."""

    snapshot: Snapshot | None
    lost: bool = False


def rewrite_each(
    indexed: IndexedRepository,
    snapshots: Sequence[Snapshot],
    chosen: Sequence[Snapshot],
    edit: Callable[[Snapshot, Callable[[bytes], str]], Edited],
    stop: threading.Event,
    *,
    mark: str,
    forget: bool = False,
    dry_run: bool = False,
    pack_size: int = PACK_SIZE,
) -> Iterator[tuple[Snapshot, Snapshot | None]]:
    """Edit the `chosen` of all `snapshots`; gives (old, new) of each that changes, where new is None if nothing stays.

    `edit` gives a snapshot as it was where it doesn't change; it hands new trees to the function that it is given. They
    are stored and indexed before the snapshot is; that is marked as in `rewritten`. With `forget`, which needs an
    exclusive lock, the old one is deleted after that. `dry_run` writes nothing.
    """
    if forget and not dry_run:
        indexed.repository.config.refuse_deleting("replace a snapshot")
    indexes = IndexWriter(indexed)
    packs = PackWriter(indexed, indexes, pack_size=pack_size)
    editor = SnapshotEditor(indexed, snapshots)
    for old in chosen:
        raise_stop(indexed, stop, "snapshots were rewritten")
        new, lost = edit(old, sha256 if dry_run else lambda tree: packs.store("tree", tree))
        if new == old:
            continue
        if dry_run:
            yield old, new
            continue
        packs.finish()
        indexes.flush()
        if new is not None:
            yield old, editor.put(old, rewritten(old, new, forget=forget, mark=mark, lost=lost), forget=forget)
            continue
        if forget:
            editor.forget(old)
        yield old, None
    if not dry_run:
        # A lost tree that is replaced by itself, as an empty folder's is, changes no snapshot, and has to be stored.
        packs.finish()
        indexes.flush()


def rewritten(old: Snapshot, new: Snapshot, *, forget: bool, mark: str, lost: bool = False) -> Snapshot:
    """`new`, made of `old`, with the tags and the `original` of a snapshot whose content or facts were changed.

    As in restic, `original` is the one it was made of, and one beside it is tagged with `mark`. Different from restic
    where Lowtide's runs are concerned: one beside the original belongs to no run, which would have it twice; one in the
    original's place keeps the first id, which the run's verdict names. `lost` marks it as partial.
    """
    tags = list(new.tags)
    if not forget:
        tags = [tag for tag in tags if tag == PARTIAL_TAG or not tag.startswith(TAG_PREFIX)]
        tags = with_tags(tags, [mark])
    if lost:
        tags = with_tags(tags, [PARTIAL_TAG])
    first = (old.original or old.id) if value_of(old, RUN_PREFIX) and forget else old.id
    return replace(new, tags=tuple(tags), original=first, id="")


def with_tags(tags: Sequence[str], more: Iterable[str]) -> list[str]:
    """`tags`, and those of `more` that are not among them."""
    return list(dict.fromkeys([*tags, *more]))
