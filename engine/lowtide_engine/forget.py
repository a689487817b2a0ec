"""Snapshots out of the list, by id, by run or by rules; what they alone used is freed by the next prune."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lowtide_engine.errors import EngineError, FileMissing, Interrupted
from lowtide_engine.expiry import Expiry, plan_expiry
from lowtide_engine.reporting import Reporter
from lowtide_engine.repository import Instant
from lowtide_engine.repository.snapshot import SnapshotFilter
from lowtide_engine.retention import Rules

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
    deleted where one of the ids is ambiguous, or a snapshot can't be read that it may mean; by its whole id such a one
    is removed too, and told.
    """
    asked = {wanted.lower() for wanted in ids}
    damaged: list[str] = []

    def unreadable(name: str, error: EngineError) -> None:
        if name in asked:
            damaged.append(name)
        elif only is not None or any(name.startswith(wanted) for wanted in asked):
            raise error

    snapshots = locked.snapshots(on_damaged=unreadable)
    chosen: dict[str, Snapshot] = {}
    for wanted in ids:
        if wanted.lower() in damaged:
            continue
        found = [snapshot for snapshot in snapshots if snapshot.id.startswith(wanted.lower())]
        if len(found) > 1:
            raise AmbiguousId(f"{len(found)} snapshots begin with {wanted}; nothing was forgotten")
        if not found:
            reporter.notice(f"snapshot {wanted} is gone already")
        chosen |= {snapshot.id: snapshot for snapshot in found}
    if only is not None:
        chosen |= {snapshot.id: snapshot for snapshot in snapshots if only.matches(snapshot)}
    if not dry_run:
        _delete(locked, [*chosen, *damaged], reporter)
    for name in damaged:
        reporter.notice(f"{'would remove' if dry_run else 'removed'} snapshot {name[:8]}, which can't be read")
    return list(chosen.values())


def forget_by_rules(
    locked: LockedRepository,
    rules: Rules,
    reporter: Reporter,
    stop: threading.Event,
    *,
    only: SnapshotFilter | None = None,
    by: Sequence[str] = ("host", "paths"),
    allow_partial: bool = False,
    dry_run: bool = False,
) -> Expiry:
    """Delete the snapshots that the rules don't keep (see `plan_expiry`); gives the decisions.

    Under an exclusive lock. Nothing is deleted where a snapshot can't be read or the rules keep nothing of a group.
    """
    if not dry_run:
        locked.repository.config.refuse_deleting("remove snapshots")
    now = Instant.at(locked.repository.clock.now())
    expiry = plan_expiry(locked.snapshots(), rules, now, only=only, by=by, allow_partial=allow_partial)
    for unit in expiry.left_alone:
        reporter.notice(f"run {unit.run} is left alone: only a part of its snapshots was selected")
    if not dry_run:
        _delete(locked, [snapshot.id for snapshot in expiry.removed], reporter, stop)
    return expiry


def _delete(
    locked: LockedRepository, ids: Iterable[str], reporter: Reporter, stop: threading.Event | None = None
) -> None:
    for snapshot_id in ids:
        if stop is not None and stop.is_set():
            raise Interrupted("stopped by a signal before all snapshots were removed", hint="run it again to go on")
        try:
            locked.delete_snapshot(snapshot_id)
        except FileMissing:
            reporter.notice(f"snapshot {snapshot_id[:8]} was removed by somebody else meanwhile")
