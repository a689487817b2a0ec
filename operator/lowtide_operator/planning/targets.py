"""The claims that a Restore writes to: found again at each step, made where they are new, and stamped with what was
done to them."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide_operator.api import RestoreSpec
from lowtide_operator.api.restore import ResolvedRestore, ResolvedRestoreVolume, RestoreVolume
from lowtide_operator.api.snapshot import VolumeMode
from lowtide_operator.planning.actions import CreateClaim, Ref, StampClaim
from lowtide_operator.planning.naming import MANAGED_BY, MANAGED_BY_LABEL, RESTORED_ANNOTATION
from lowtide_operator.planning.observed import Claim
from lowtide_operator.planning.source import Restoring, find_claim
from lowtide_operator.planning.stamp import Stamp, StampState, read_stamp, spec_hash


def in_place(resolved: ResolvedRestore) -> tuple[ResolvedRestoreVolume, ...]:
    """The volumes that are written over."""
    return tuple(volume for volume in resolved.volumes if volume.in_place)


def same_claims(run: Restoring, resolved: ResolvedRestore) -> bool:
    """Whether the targets in place are still the claims that were found at the start."""
    for volume in in_place(resolved):
        if not is_same_claim(run, volume):
            run.fail("ClaimReplaced", f"PersistentVolumeClaim {volume.target} was deleted or replaced during the run.")
            return False
    return True


def is_same_claim(run: Restoring, volume: ResolvedRestoreVolume) -> bool:
    """Whether the target in place is still the claim that was found at the start."""
    claim = find_claim(run, volume.target)
    return claim is not None and claim.meta.uid == volume.target_uid


def make_claims(run: Restoring, spec: RestoreSpec, resolved: ResolvedRestore) -> bool:
    """Create the new claims, with the stamp that says that they are being written; whether all are there."""
    wanted = {volume.claim: volume for volume in spec.volumes}
    done = True
    for volume in resolved.volumes:
        new = wanted[volume.claim].new_claim
        if new is None:
            continue
        claim = find_claim(run, volume.target)
        if claim is None and volume.target_uid is None:
            run.do(_new_claim(run, spec, wanted[volume.claim], volume))
            run.look_again(2)
            done = False
        elif claim is None or volume.target_uid not in (None, claim.meta.uid):
            run.fail("ClaimReplaced", f"PersistentVolumeClaim {volume.target} was deleted or replaced during the run.")
            return False
        elif (stamp := read_stamp(claim)) is None or stamp.run != run.meta.uid:
            run.fail("ClaimExists", f"Someone else made PersistentVolumeClaim {volume.target}: choose another name.")
            return False
        elif volume.target_uid is None:
            _put_resolved(run, volume.model_copy(update={"target_uid": claim.meta.uid}))
    return done


def stamp_claims(
    run: Restoring, spec: RestoreSpec, volumes: Iterable[ResolvedRestoreVolume], state: StampState
) -> bool:
    """Make the targets' stamps say `state`; whether they do, in what was observed."""
    stamp = Stamp(run.meta.name, run.meta.uid, spec_hash(spec), state)
    done = True
    for volume in volumes:
        claim = find_claim(run, volume.target)
        if claim is not None and read_stamp(claim) != stamp:
            run.do(StampClaim(_claim_ref(claim), claim.meta.resource_version, {RESTORED_ANNOTATION: stamp.text()}))
            run.look_again(2)
            done = False
    return done


def are_whole(run: Restoring, resolved: ResolvedRestore, *states: StampState) -> bool:
    """Whether the stamps of all targets in place say that this run left them in one of `states` (absent: in any but
    Writing). Without such targets: no."""
    claims = [find_claim(run, volume.target) for volume in in_place(resolved)]
    stamps = [read_stamp(claim) if claim is not None else None for claim in claims]
    wanted = states or tuple(state for state in StampState if state is not StampState.WRITING)
    return bool(stamps) and all(s is not None and s.run == run.meta.uid and s.state in wanted for s in stamps)


def unstamp_claims(run: Restoring, resolved: ResolvedRestore) -> bool:
    """Remove this run's stamps from the targets in place: nothing was written. Whether none is left."""
    done = True
    for volume in in_place(resolved):
        claim = find_claim(run, volume.target)
        stamp = read_stamp(claim) if claim is not None else None
        if claim is not None and stamp is not None and stamp.run == run.meta.uid:
            run.do(StampClaim(_claim_ref(claim), claim.meta.resource_version, {RESTORED_ANNOTATION: None}))
            run.look_again(2)
            done = False
    return done


def _new_claim(
    run: Restoring, spec: RestoreSpec, volume: RestoreVolume, resolved: ResolvedRestoreVolume
) -> CreateClaim:
    new, source = volume.new_claim, find_claim(run, volume.claim)
    assert new is not None  # noqa: S101 - the caller asked
    modes = tuple(mode.value for mode in new.access_modes) or (source.access_modes if source is not None else ())
    stamp = Stamp(run.meta.name, run.meta.uid, spec_hash(spec), StampState.WRITING)
    return CreateClaim(
        namespace=run.meta.namespace,
        name=new.name,
        labels={MANAGED_BY_LABEL: MANAGED_BY},
        annotations={RESTORED_ANNOTATION: stamp.text()},
        size=resolved.size or new.size or (source.size if source is not None else ""),
        access_modes=modes or ("ReadWriteOnce",),
        storage_class=new.storage_class_name or (source.storage_class if source is not None else ""),
        block=resolved.volume_mode is VolumeMode.BLOCK,
    )


def _put_resolved(run: Restoring, volume: ResolvedRestoreVolume) -> None:
    resolved = run.status.resolved
    if resolved is not None:
        volumes = tuple(volume if known.claim == volume.claim else known for known in resolved.volumes)
        run.update(resolved=resolved.model_copy(update={"volumes": volumes}))


def _claim_ref(claim: Claim) -> Ref:
    meta = claim.meta
    return Ref("v1", "PersistentVolumeClaim", meta.namespace, meta.name, meta.uid)
