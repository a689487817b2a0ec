"""Snapshots out of the list, by id or by run; what they alone used is freed by the next prune."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lowtide_engine.errors import EngineError, FileMissing
from lowtide_engine.reporting import Reporter
from lowtide_engine.repository.snapshot import SnapshotFilter

if TYPE_CHECKING:
    from lowtide_engine.repository import LockedRepository, Snapshot


class AmbiguousId(EngineError):
    """The beginning of an id that several snapshots share."""

    reason = "AmbiguousId"
    default_hint = "write more of it"


def forget(
    locked: LockedRepository,
    ids: Sequence[str],
    only: SnapshotFilter | None,
    reporter: Reporter,
    *,
    dry_run: bool = False,
) -> list[Snapshot]:
    """Delete the snapshots that `ids` name (ids or their beginnings) and those that `only` selects; gives them.

    Under an exclusive lock. An id that is gone already is told, and no failure: forgetting may be repeated. Nothing is
    deleted where one of the ids is ambiguous, or a snapshot can't be read.
    """
    snapshots = locked.snapshots()
    chosen: dict[str, Snapshot] = {}
    for wanted in ids:
        found = [snapshot for snapshot in snapshots if snapshot.id.startswith(wanted.lower())]
        if len(found) > 1:
            raise AmbiguousId(f"{len(found)} snapshots begin with {wanted}; nothing was forgotten")
        if not found:
            reporter.notice(f"snapshot {wanted} is gone already")
        chosen |= {snapshot.id: snapshot for snapshot in found}
    if only is not None:
        chosen |= {snapshot.id: snapshot for snapshot in snapshots if only.matches(snapshot)}
    if not dry_run:
        for snapshot_id in chosen:
            try:
                locked.delete_snapshot(snapshot_id)
            except FileMissing:
                reporter.notice(f"snapshot {snapshot_id[:8]} was removed by somebody else meanwhile")
    return list(chosen.values())
