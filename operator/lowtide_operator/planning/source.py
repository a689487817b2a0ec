"""Find what a Restore restores, and where to: written down once, when it starts. No match is a failure, never an
empty success."""

from __future__ import annotations

from dataclasses import dataclass

from lowtide_operator.api import RestoreSpec, RestoreStatus
from lowtide_operator.api.conditions import is_true
from lowtide_operator.api.mover import MoverSecurityContext
from lowtide_operator.api.repository import Repository
from lowtide_operator.api.restore import (
    NewClaim,
    PartialGroup,
    PolicySource,
    ResolvedRestore,
    ResolvedRestoreVolume,
    RestoreVolume,
)
from lowtide_operator.api.snapshot import ResolvedVolume, VolumeMode, VolumeOutcome
from lowtide_operator.api.values import format_time
from lowtide_operator.planning.allowed import refusal_of_mover
from lowtide_operator.planning.copies import bytes_of
from lowtide_operator.planning.movers import consumer_identity, consumer_tolerations
from lowtide_operator.planning.naming import path_in_snapshot
from lowtide_operator.planning.observed import Claim, SnapshotObject
from lowtide_operator.planning.policy import is_good
from lowtide_operator.planning.run import Run
from lowtide_operator.planning.stamp import StampState, read_stamp, spec_hash

Restoring = Run[RestoreStatus]

ALREADY_DONE = "AlreadyRestored"


@dataclass(frozen=True, slots=True)
class Found:
    """What is to be restored of a volume: the snapshot's id ("" where the preflight has still to find it), the path in
    it, and where a Snapshot tells, the volume as it was, and how many bytes were stored of it."""

    snapshot_id: str
    path: str | None
    before: ResolvedVolume | None = None
    bytes: int | None = None


def resolve_source(run: Restoring, spec: RestoreSpec) -> bool:
    """Start the run by writing what it goes by; whether that was done before."""
    if run.status.resolved is not None:
        return True
    if _ran_before(run, spec):
        return False
    refused = refusal_of_mover(spec.mover, elevated=run.world.elevated_allowed)
    if refused is not None:
        run.fail(*refused)
    if run.failing:
        return False
    repository = spec.source.repository
    if repository is not None:
        plain = Repository.model_validate({name: getattr(repository, name) for name in Repository.model_fields})
        resolved = ResolvedRestore(repository=plain)
        ids = {volume.claim: Found(repository.id or "", volume.path) for volume in spec.volumes}
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
    if run.failing:
        return False
    volumes = tuple(_volume(run, spec, volume, ids[volume.claim]) for volume in spec.volumes)
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


def _ids(run: Restoring, spec: RestoreSpec, snapshot: SnapshotObject) -> dict[str, Found]:
    """Per claim what was stored of it."""
    resolved = snapshot.status.resolved
    known = {volume.claim: volume for volume in resolved.volumes} if resolved is not None else {}
    found: dict[str, Found] = {}
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
            before = known.get(volume.claim)
            block = before is not None and before.volume_mode is VolumeMode.BLOCK
            path = volume.path or path_in_snapshot(volume.claim, block=block)
            found[volume.claim] = Found(stored.snapshot_id, path, before, stored.bytes)
    return found


def _volume(run: Restoring, spec: RestoreSpec, volume: RestoreVolume, found: Found) -> ResolvedRestoreVolume | None:
    new, source = volume.new_claim, find_claim(run, volume.claim)
    saved = found.before.volume_mode if found.before is not None else None
    if new is not None:
        if find_claim(run, new.name) is not None:
            run.fail(
                "ClaimExists", f"PersistentVolumeClaim {new.name} exists already: choose another name for newClaim."
            )
            return None
        mode = new.volume_mode or saved or VolumeMode.FILESYSTEM
    elif source is None or source.meta.deleted is not None:
        run.fail(
            "ClaimMissing",
            f"There is no PersistentVolumeClaim {volume.claim} to restore into: make it, or use newClaim.",
        )
        return None
    elif source.pod:
        run.fail(
            "ClaimsWouldBeDeleted",
            f"PersistentVolumeClaim {volume.claim} goes with pod {source.pod} (a generic ephemeral volume), so nothing "
            f"could be restored into it while the pod is away: use newClaim.",
        )
        return None
    elif source.phase != "Bound":
        run.fail(
            "ClaimUnbound",
            f"PersistentVolumeClaim {volume.claim} is {source.phase}, not Bound: a mover never binds it.",
        )
        return None
    else:
        mode = VolumeMode(source.volume_mode)
    size = _size(run, new, source, found.bytes or 0 if mode is VolumeMode.BLOCK else 0) if new is not None else None
    _check_mode(run, spec, volume, mode, saved)
    if run.failing:
        return None
    # Whom the mover runs as: whoever uses the claim now, else (its workload may be gone) whoever did at the backup.
    identity = consumer_identity(volume.claim, run.world)
    tolerations = consumer_tolerations(volume.claim, run.world)
    if found.before is not None:
        identity = found.before.identity if identity == MoverSecurityContext() else identity
        tolerations = tolerations or found.before.tolerations
    return ResolvedRestoreVolume(
        claim=volume.claim,
        target=new.name if new is not None else volume.claim,
        target_uid=source.meta.uid if new is None and source is not None else None,
        in_place=new is None,
        snapshot_id=found.snapshot_id,
        path=found.path,
        volume_mode=mode,
        size=size,
        identity=identity,
        tolerations=tolerations,
    )


def _size(run: Restoring, new: NewClaim, source: Claim | None, needed: int) -> str | None:
    """The size of a new claim, which must hold `needed` bytes. Fails the run where it can't, or is not known."""
    if new.size is not None:
        if bytes_of(new.size) < needed:
            run.fail(
                "SizeTooSmall",
                f"newClaim {new.name} has the size {new.size}, and the device that was backed up has "
                f"{needed} bytes: say a size of at least that.",
            )
        return new.size
    size = source.size if source is not None else ""
    if bytes_of(size) < needed:
        return str(needed)
    if not size:
        run.fail(
            "SizeUnknown",
            f"How large {new.name} is to be is not known, since the claim that was backed up is gone: say size.",
        )
    return size


def _check_mode(
    run: Restoring, spec: RestoreSpec, volume: RestoreVolume, mode: VolumeMode, saved: VolumeMode | None
) -> None:
    """Fail the run where what was backed up is not what is to be written, unless a path says what is meant."""
    target = volume.new_claim.name if volume.new_claim is not None else volume.claim
    if saved is not None and mode is not saved and volume.path is None:
        run.fail(
            "VolumeModeDiffers",
            f"{volume.claim} was backed up with the volumeMode {saved.value}, and {target} has {mode.value}: restore "
            f"it into a claim with {saved.value}, or say in path which file becomes the device, or which folder the "
            f"volume.",
        )
    elif mode is VolumeMode.BLOCK and (spec.include or spec.exclude):
        run.fail(
            "PatternsOnBlockVolume",
            f"{target} is a block device, of which include and exclude can choose nothing: leave them out, or restore "
            f"it by a Restore of its own.",
        )
