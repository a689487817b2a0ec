"""Find what a Restore restores, and where to: written down once, when it starts. No match is a failure, never an
empty success."""

from __future__ import annotations

from lowtide_operator.api import RestoreSpec, RestoreStatus
from lowtide_operator.api.conditions import is_true
from lowtide_operator.api.mover import MoverSecurityContext
from lowtide_operator.api.repository import Repository
from lowtide_operator.api.restore import (
    PartialGroup,
    PolicySource,
    ResolvedRestore,
    ResolvedRestoreVolume,
    RestoreVolume,
)
from lowtide_operator.api.snapshot import ResolvedVolume, VolumeOutcome
from lowtide_operator.api.values import format_time
from lowtide_operator.planning.movers import consumer_identity, consumer_tolerations
from lowtide_operator.planning.observed import Claim, SnapshotObject
from lowtide_operator.planning.policy import is_good
from lowtide_operator.planning.resolve import check_privilege
from lowtide_operator.planning.run import Run
from lowtide_operator.planning.stamp import StampState, read_stamp, spec_hash

Restoring = Run[RestoreStatus]

ALREADY_DONE = "AlreadyRestored"


def resolve_source(run: Restoring, spec: RestoreSpec) -> bool:
    """Start the run by writing what it goes by; whether that was done before."""
    if run.status.resolved is not None:
        return True
    if _ran_before(run, spec):
        return False
    check_privilege(run, spec.mover)
    if run.failing:
        return False
    repository = spec.source.repository
    if repository is not None:
        plain = Repository.model_validate({name: getattr(repository, name) for name in Repository.model_fields})
        resolved = ResolvedRestore(repository=plain)
        ids = {volume.claim: (repository.id or "", volume.path) for volume in spec.volumes}
        known: dict[str, ResolvedVolume] = {}
    else:
        snapshot = _snapshot(run, spec)
        if snapshot is None or snapshot.status.resolved is None:
            return False
        resolved = ResolvedRestore(
            snapshot_name=snapshot.meta.name,
            captured_time=snapshot.status.captured_time,
            repository=snapshot.status.resolved.repository,
            repository_id=snapshot.status.resolved.repository_id,
        )
        ids = _ids(run, spec, snapshot)
        known = {volume.claim: volume for volume in snapshot.status.resolved.volumes}
    if run.failing:
        return False
    volumes = tuple(_volume(run, volume, *ids[volume.claim], known.get(volume.claim)) for volume in spec.volumes)
    if run.failing:
        return False
    run.update(
        start_time=run.now,
        attempt=1,
        resolved=resolved.model_copy(update={"volumes": tuple(v for v in volumes if v is not None)}),
    )
    run.waiting("Preflight", "The repository is being opened before anything is stopped.")
    run.look_again(1)
    return False


def find_claim(run: Restoring, name: str) -> Claim | None:
    """The claim of that name."""
    return next((claim for claim in run.world.claims if claim.meta.name == name), None)


def find_by_policy(source: PolicySource, snapshots: tuple[SnapshotObject, ...]) -> SnapshotObject | str:
    """The good Snapshot that the source means, or the sentence why there is none."""
    good = [
        (snapshot.status.captured_time, snapshot.meta.name, snapshot)
        for snapshot in snapshots
        if snapshot.spec is not None
        and snapshot.spec.policy_name == source.name
        and is_good(snapshot)
        and snapshot.status.captured_time is not None
        and (source.as_of is None or snapshot.status.captured_time <= source.as_of)
    ]
    good.sort(key=lambda entry: entry[:2], reverse=True)
    if source.offset < len(good):
        return good[source.offset][2]
    when = f" of {format_time(source.as_of)} or before" if source.as_of is not None else ""
    text = f"There are {len(good)} good Snapshots of policy {source.name}{when}"
    return f"{text}, and offset {source.offset} goes back beyond them." if source.offset else f"{text}."


def _ran_before(run: Restoring, spec: RestoreSpec) -> bool:
    """Whether a Restore of this name and spec wrote here already, and its object came back without its status."""
    wanted = spec_hash(spec)
    for volume in spec.volumes:
        claim = find_claim(run, volume.new_claim.name if volume.new_claim else volume.claim)
        stamp = read_stamp(claim) if claim is not None else None
        if stamp is None or (stamp.name, stamp.spec) != (run.meta.name, wanted):
            continue
        if stamp.state is StampState.RESTORED:
            run.fail(ALREADY_DONE, "It ran before, as its claim's annotation says: to restore now, make another one.")
        else:
            run.fail(
                "AlreadyRan",
                "It ran before and did not end well, as its claim's annotation says: to restore now, make another one.",
            )
        return True
    return False


def _snapshot(run: Restoring, spec: RestoreSpec) -> SnapshotObject | None:
    if spec.source.policy is not None:
        found = find_by_policy(spec.source.policy, run.world.snapshots)
        if isinstance(found, str):
            run.fail("NoMatch", f"{found} Nothing was restored.")
            return None
        return found
    name = spec.source.snapshot_name
    snapshot = next((s for s in run.world.snapshots if s.meta.name == name), None)
    if snapshot is None:
        run.fail("SnapshotMissing", f"There is no Snapshot {name} in this namespace.")
        return None
    if snapshot.meta.deleted is not None:
        run.fail("SnapshotDeleting", f"Snapshot {name} is being deleted.")
        return None
    if snapshot.status.end_time is None:
        run.waiting("WaitingForSnapshot", f"Snapshot {name} is not done yet.")
        run.look_again(15)
        return None
    if not is_true(snapshot.status.conditions, "Ready") and spec.partial_group is not PartialGroup.ALLOW:
        failure = snapshot.status.failure
        why = f": {failure.message}" if failure is not None else "."
        run.fail(
            "SnapshotNotGood",
            f"Snapshot {name} did not end well{why} Set partialGroup: Allow to restore from it anyway.",
        )
        return None
    return snapshot


def _ids(run: Restoring, spec: RestoreSpec, snapshot: SnapshotObject) -> dict[str, tuple[str, str | None]]:
    """Per claim the id of its snapshot, and the folder in it."""
    found: dict[str, tuple[str, str | None]] = {}
    for volume in spec.volumes:
        stored = next((known for known in snapshot.status.volumes if known.claim == volume.claim), None)
        if stored is None or not stored.snapshot_id:
            run.fail("VolumeMissing", f"Snapshot {snapshot.meta.name} holds no volume {volume.claim}.")
        elif stored.outcome is not VolumeOutcome.STORED and spec.partial_group is not PartialGroup.ALLOW:
            run.fail(
                "VolumePartial",
                f"Snapshot {snapshot.meta.name} lacks files of volume {volume.claim}. Set partialGroup: Allow to "
                f"restore from it anyway.",
            )
        else:
            found[volume.claim] = (stored.snapshot_id, volume.path or f"/volumes/{volume.claim}")
    return found


def _volume(
    run: Restoring, volume: RestoreVolume, snapshot_id: str, path: str | None, before: ResolvedVolume | None
) -> ResolvedRestoreVolume | None:
    # Whom the mover runs as: whoever uses the claim now, else (its workload may be gone) whoever did at the backup.
    identity = consumer_identity(volume.claim, run.world)
    tolerations = consumer_tolerations(volume.claim, run.world)
    if before is not None:
        identity = before.identity if identity == MoverSecurityContext() else identity
        tolerations = tolerations or before.tolerations
    if volume.new_claim is not None:
        name = volume.new_claim.name
        if find_claim(run, name) is not None:
            run.fail("ClaimExists", f"PersistentVolumeClaim {name} exists already: choose another name for newClaim.")
            return None
        source = find_claim(run, volume.claim)
        if volume.new_claim.size is None and (source is None or not source.size):
            run.fail("SizeUnknown", f"How large {name} is to be is not known, since {volume.claim} is gone: say size.")
            return None
        return ResolvedRestoreVolume(
            claim=volume.claim,
            target=name,
            in_place=False,
            snapshot_id=snapshot_id,
            path=path,
            identity=identity,
            tolerations=tolerations,
        )
    target = find_claim(run, volume.claim)
    if target is None or target.meta.deleted is not None:
        run.fail(
            "ClaimMissing",
            f"There is no PersistentVolumeClaim {volume.claim} to restore into: make it, or use newClaim.",
        )
        return None
    if target.phase != "Bound":
        run.fail(
            "ClaimUnbound",
            f"PersistentVolumeClaim {volume.claim} is {target.phase}, not Bound: a mover never binds it.",
        )
        return None
    if target.volume_mode != "Filesystem":
        run.fail("BlockVolume", f"PersistentVolumeClaim {volume.claim} is a block volume: only files are restored.")
        return None
    return ResolvedRestoreVolume(
        claim=volume.claim,
        target=volume.claim,
        target_uid=target.meta.uid,
        in_place=True,
        snapshot_id=snapshot_id,
        path=path,
        identity=identity,
        tolerations=tolerations,
    )
