"""Other tags for snapshots that are stored. Reserved ones say whose a snapshot is: they stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lowtide_engine.editing import SnapshotEditor, with_tags
from lowtide_engine.errors import Interrupted
from lowtide_engine.standing import TAG_PREFIX

if TYPE_CHECKING:
    from lowtide_engine.repository import LockedRepository, Snapshot


@dataclass(frozen=True, slots=True)
class TagChange:
    """Tags in place of all others (`replacing` None: the others stay), tags to add, and tags to remove."""

    replacing: Sequence[str] | None = None
    adding: Sequence[str] = ()
    removing: Sequence[str] = ()

    def apply(self, tags: Sequence[str]) -> list[str] | None:
        """What becomes of a snapshot's tags; None where nothing changes. Replacing always counts as a change."""
        if self.replacing is not None:
            reserved = [tag for tag in tags if tag.startswith(TAG_PREFIX)]
            return with_tags([tag for tag in self.replacing if tag], reserved)
        changed = [tag for tag in with_tags(tags, self.adding) if tag not in self.removing]
        return changed if changed != list(tags) else None


def tag(
    locked: LockedRepository,
    chosen: Sequence[Snapshot],
    snapshots: Sequence[Snapshot],
    change: TagChange,
    stop: threading.Event,
) -> Iterator[tuple[Snapshot, Snapshot]]:
    """Store the `chosen` of the repository's `snapshots` with other tags, and delete the old ones: gives (old, new) of
    each that changed. Under an exclusive lock."""
    locked.repository.config.refuse_deleting("replace a snapshot by one with other tags")
    editor = SnapshotEditor(locked, snapshots)
    for old in chosen:
        if stop.is_set():
            raise Interrupted("stopped by a signal before all snapshots had their tags", hint="run it again to go on")
        tags = change.apply(old.tags)
        if tags is not None:
            yield old, editor.put(old, old.retagged(tags), forget=True)
