"""How rewrite and repair snapshots say what they did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lowtide_engine.contract import Result

if TYPE_CHECKING:
    from lowtide_engine.cli.session import Session
    from lowtide_engine.repository import Snapshot


def say_rewritten(
    session: Session, changes: Iterable[tuple[Snapshot, Snapshot | None]], *, forget: bool, dry_run: bool
) -> Result:
    """Carry `changes` out by going through them, and say each; gives the command's answer."""
    output = session.output
    changed, stored = 0, []
    for old, new in changes:
        changed += 1
        if new is None:
            fate = "would be removed" if dry_run and forget else "is removed" if forget else "stays as it is"
            output.line(f"snapshot {old.short_id}: nothing of it can be read, it {fate}")
            output.message("unreadable", {"snapshot_id": old.id})
        elif dry_run:
            output.line(f"snapshot {old.short_id} would be {'replaced' if forget else 'rewritten'}")
            output.message("would_change", {"old_snapshot_id": old.id})
        else:
            stored.append(new.id)
            output.line(f"snapshot {old.short_id} is {'replaced by' if forget else 'rewritten as'} {new.short_id}")
            output.message("changed", {"old_snapshot_id": old.id, "new_snapshot_id": new.id})
    would = "would be modified" if dry_run else "modified"
    output.summary({"changed_snapshots": changed, "dry_run": dry_run}, [f"{changed} snapshots {would}"])
    return session.result(snapshot_ids=stored[-32:])
