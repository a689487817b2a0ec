"""One VolumeGroupSnapshot of all volumes of a run: their state at one moment, as their driver takes it.

    recorded ─ claims marked ─ made ─ bound ─ marks taken off ─ ready, and one member of each claim ready ─> held fast

It selects claims by a label, so those of the group carry one, with the run's uid as its value, from right before it is
made until it is bound: then its volumes are settled. The mark is no state of its own: whatever carries it, and is not
to, loses it. That the members are those of the group and no others is checked, not trusted.
"""

from __future__ import annotations

from collections.abc import Mapping

from lowtide_operator.api import SnapshotStatus
from lowtide_operator.api.snapshot import CopyRecord, GroupSnapshotRecord, Resolved
from lowtide_operator.planning.actions import CreateGroupSnapshot, Ref, StampClaim
from lowtide_operator.planning.copyrecords import given_up, is_late, put, record_of, source_of, span
from lowtide_operator.planning.naming import GROUP_SNAPSHOT_LABEL, copy_labels, copy_name, group_snapshot_name
from lowtide_operator.planning.observed import Claim
from lowtide_operator.planning.observed_copies import GroupSnapshot, VolumeSnapshot
from lowtide_operator.planning.run import Run

SILENT = (
    "its driver has not said why. It may have no group snapshots, or the snapshot controller and the driver's "
    "csi-snapshotter run without them"
)


def take_together(run: Run[SnapshotStatus], policy: str, resolved: Resolved) -> None:
    """Take the next step of the VolumeGroupSnapshot, and note what is seen of its members. Fails the run where it can't
    be had."""
    sources = [source for volume in resolved.volumes if (source := source_of(run, volume)) is not None]
    if run.failing:
        return
    record = run.status.group_snapshot
    if record is None:
        record = GroupSnapshotRecord(name=group_snapshot_name(run.meta.uid), asked_at=run.now)
        run.update(group_snapshot=record)
        for source in sources:
            claim = source.meta.name
            put(run, CopyRecord(claim=claim, name=copy_name(run.meta.uid, claim), asked_at=run.now))
    called = f"The VolumeGroupSnapshot {record.name}"
    marked = (f"PersistentVolumeClaim {run.meta.namespace}/{source.meta.name}:" for source in sources)
    found = next((known for known in run.world.group_snapshots if known.meta.name == record.name), None)
    if found is None:
        if record.uid is not None:
            run.fail("CopyLost", f"{called} was deleted by someone else.")
        elif not given_up(run, called, record.asked_at, resolved, record.name, *marked):
            _mark(run, sources)
            run.do(_create(run, policy, resolved, record.name))
        return
    if found.meta.deleted is not None or record.uid not in (None, found.meta.uid):
        run.fail("CopyLost", f"{called} was deleted by someone else.")
        return
    run.update(group_snapshot=record.model_copy(update={"uid": found.meta.uid}))
    if found.bound:
        unmark(run)
    members = _members(run, found, {source.meta.name for source in sources}, called)
    if run.failing:
        return
    waits = [name for name, member in members.items() if member is None or not member.ready]
    if found.ready and not waits:
        for name, member in members.items():
            _note(run, name, member)
    elif is_late(run, record.asked_at, resolved):
        run.fail(
            "CopyNotReady",
            f"{called} was not ready within {span(resolved)}: {_trouble(run, found, members, sources)}",
        )
    elif not found.bound:
        _mark(run, sources)


def unmark(run: Run[SnapshotStatus]) -> None:
    """Take the run's mark off every claim that carries it."""
    for claim in run.world.claims:
        if claim.meta.labels.get(GROUP_SNAPSHOT_LABEL) == run.meta.uid:
            run.do(group_mark_removal(claim))


def group_mark_removal(claim: Claim) -> StampClaim:
    """Take the mark off the claim."""
    return _stamp(claim, None)


def _mark(run: Run[SnapshotStatus], sources: list[Claim]) -> None:
    """Mark the claims. What carries another run's mark had it left there: one run at a time captures a claim."""
    for source in sources:
        if source.meta.labels.get(GROUP_SNAPSHOT_LABEL) != run.meta.uid:
            run.do(_stamp(source, run.meta.uid))


def _stamp(claim: Claim, value: str | None) -> StampClaim:
    meta = claim.meta
    ref = Ref("v1", "PersistentVolumeClaim", meta.namespace, meta.name, meta.uid)
    return StampClaim(ref, meta.resource_version, labels={GROUP_SNAPSHOT_LABEL: value})


def _create(run: Run[SnapshotStatus], policy: str, resolved: Resolved, name: str) -> CreateGroupSnapshot:
    (snapshot_class,) = {volume.copied.snapshot_class_name for volume in resolved.volumes if volume.copied is not None}
    return CreateGroupSnapshot(
        run.meta.namespace,
        name,
        copy_labels(run.meta.uid, policy),
        run.ref,
        selected={GROUP_SNAPSHOT_LABEL: run.meta.uid},
        snapshot_class=snapshot_class,
    )


def _members(
    run: Run[SnapshotStatus], group: GroupSnapshot, claims: set[str], called: str
) -> Mapping[str, VolumeSnapshot | None]:
    """The member of each claim; None where there is none yet. Fails the run where there is one of another claim, or
    two."""
    members: dict[str, VolumeSnapshot | None] = dict.fromkeys(sorted(claims))
    for snapshot in run.world.volume_snapshots:
        if not any(owner.uid == group.meta.uid for owner in snapshot.meta.owners):
            continue
        if members.get(snapshot.claim, snapshot) is not None:
            of = f"claim {snapshot.claim}" if snapshot.claim else "a claim that is not known"
            run.fail(
                "GroupDiffers",
                f"{called} has a snapshot of {of} that does not belong to it: someone else set the label "
                f"{GROUP_SNAPSHOT_LABEL}, or the snapshot controller mistook its selector.",
            )
            continue
        if snapshot.meta.deleted is not None:
            run.fail("CopyLost", f"The VolumeSnapshot of claim {snapshot.claim} was deleted by someone else.")
        members[snapshot.claim] = snapshot
    return members


def _note(run: Run[SnapshotStatus], claim: str, member: VolumeSnapshot | None) -> None:
    record = record_of(run, claim)
    if record is not None and member is not None:
        seen = {"uid": member.meta.uid, "snapshot_name": member.meta.name, "size": member.size or None}
        put(run, record.model_copy(update={**seen, "ready_at": record.ready_at or run.now}))


def _trouble(
    run: Run[SnapshotStatus],
    group: GroupSnapshot,
    members: Mapping[str, VolumeSnapshot | None],
    sources: list[Claim],
) -> str:
    """Why it is not ready, as far as that is known."""
    if group.error:
        return group.error
    bare = [s.meta.name for s in sources if s.meta.labels.get(GROUP_SNAPSHOT_LABEL) != run.meta.uid]
    if bare and not group.bound:
        return f"something takes the label {GROUP_SNAPSHOT_LABEL} off claim {', '.join(bare)}, by which it is selected."
    said = [member.error for member in members.values() if member is not None and member.error]
    if said:
        return said[0]
    missing = [name for name, member in members.items() if member is None]
    if group.ready and missing:
        return f"it has no snapshot of claim {', '.join(missing)}."
    return f"{SILENT}."
