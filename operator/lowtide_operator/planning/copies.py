"""Capture by copies: each volume is held fast in a VolumeSnapshot or a clone while its workloads are down, and movers
read the copies when they run again.

    asked for (in the status) ─ made ─ seen to hold the state ─ in a later observation, no pod had come back ─> captured
    captured ─ workloads back ─ a claim from each VolumeSnapshot ─ movers read the claims ─> stored ─ copies deleted

A copy is recorded before it is made, has a name that follows from the run and the claim, and carries the run's label:
whatever a crash leaves is found again. Claims are deleted before the VolumeSnapshots that they were made from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal

from lowtide_operator.api import SnapshotStatus
from lowtide_operator.api.conditions import Truth, is_true
from lowtide_operator.api.policy import CaptureMethod
from lowtide_operator.api.snapshot import CopyRecord, Resolved, ResolvedCopy, ResolvedVolume, VolumeMode
from lowtide_operator.api.values import format_duration
from lowtide_operator.planning.actions import (
    Announce,
    CreateCopy,
    CreateVolumeSnapshot,
    DeleteCopy,
    Placement,
    Ref,
)
from lowtide_operator.planning.copyrecords import given_up, is_held_fast, put, record_of, source_of, span
from lowtide_operator.planning.groups import take_together, unmark
from lowtide_operator.planning.naming import COPY_LABEL, RUN_LABEL, copy_labels, copy_name
from lowtide_operator.planning.observed import Claim, Uid, World
from lowtide_operator.planning.observed_copies import GroupSnapshot, VolumeSnapshot
from lowtide_operator.planning.quiesce import watch
from lowtide_operator.planning.release import VOLUME_PURPOSES
from lowtide_operator.planning.run import Run

DISCARD_FOR = timedelta(minutes=5)
"""How long a run waits until its copies are gone, before it ends without them."""

HELD_IN = {
    CaptureMethod.SNAPSHOT: "VolumeSnapshots",
    CaptureMethod.GROUP_SNAPSHOT: "one VolumeGroupSnapshot, as it was at one moment",
    CaptureMethod.CLONE: "clones",
}

_SUFFIXES = {"": 0, "K": 1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def makes_copies(resolved: Resolved | None) -> bool:
    """Whether the run captures by copies."""
    return resolved is not None and resolved.capture.method is not CaptureMethod.DIRECT


def movers_of_volumes(resolved: Resolved | None) -> frozenset[str]:
    """The purposes of Jobs that have the volumes themselves, and must end before workloads start again."""
    return frozenset() if makes_copies(resolved) else VOLUME_PURPOSES


def take(run: Run[SnapshotStatus], policy: str, resolved: Resolved) -> bool:
    """Take the next step of copying all volumes; whether every copy holds the state of its volume, and the workloads
    stayed as they were until after that was seen."""
    if is_true(run.status.conditions, "Captured"):
        return True
    watch(run, frozenset(volume.claim for volume in resolved.volumes))
    if run.failing:
        return False
    if all(is_held_fast(run, volume.claim) for volume in resolved.volumes):
        # Seen in an earlier observation: the pods that this one shows were listed after every copy was ready.
        ledger = run.status.quiesce
        asked = min(record.asked_at for record in run.status.copies)
        run.update(captured_time=(ledger.gone_time if ledger is not None else None) or asked)
        what = HELD_IN[resolved.capture.method]
        unmark(run)
        run.condition("Captured", Truth.TRUE, "Copied", f"The state of all volumes is held fast in {what}.")
        return True
    if resolved.capture.method is CaptureMethod.GROUP_SNAPSHOT:
        take_together(run, policy, resolved)
    else:
        for volume in resolved.volumes:
            _take_one(run, policy, resolved, volume)
    waiting = [volume.claim for volume in resolved.volumes if not is_held_fast(run, volume.claim)]
    names = ", ".join(waiting)
    text = f"Copies are being made of {names}." if waiting else "The copies are ready."
    run.condition("Captured", Truth.FALSE, "Copying", text)
    run.look_soon(min((record.asked_at for record in run.status.copies), default=run.now))
    return False


def readable(run: Run[SnapshotStatus], policy: str, resolved: Resolved, volume: ResolvedVolume) -> str | None:
    """The claim that a mover reads in the place of the volume's own; None while it is not there yet."""
    record = record_of(run, volume.claim)
    if record is None or volume.copied is None:
        return None
    if resolved.capture.method is CaptureMethod.CLONE:
        return record.name
    if record.claimed_at is None:
        record = record.model_copy(update={"claimed_at": run.now})
        put(run, record)
    called = f"The claim {record.name}, made from the VolumeSnapshot of volume {volume.claim},"
    claim = copy_claim(run.world, run.meta.uid, record.name)
    since = record.claimed_at or run.now
    if claim is None:
        if record.claim_uid is not None:
            run.fail("CopyLost", f"{called} was deleted by someone else.")
        elif not given_up(run, called.rstrip(","), since, resolved, record.name):
            run.do(_claim_action(run, policy, volume, volume.copied, record))
            run.look_again(1)
        return None
    if claim.meta.deleted is not None or record.claim_uid not in (None, claim.meta.uid):
        run.fail("CopyLost", f"{called} was deleted by someone else.")
        return None
    if record.claim_uid is None:
        put(run, record.model_copy(update={"claim_uid": claim.meta.uid}))
    waits = any(known.name == volume.copied.storage_class_name and known.waits for known in run.world.storage_classes)
    if claim.phase == "Bound" or waits:
        return record.name
    if run.now >= since + resolved.capture.timeout:
        run.fail("CopyPending", f"{called} is still {claim.phase} after {span(resolved)}: {_trouble(claim)}")
    run.look_again(2)
    return None


def copy_placement(copy: str, source: str, world: World) -> Placement:
    """Where the mover of a copy must run: while the copy has no volume, where the volume of its source can be
    reached."""
    claim = next((known for known in world.claims if known.meta.name == copy), None)
    origin = next((known for known in world.claims if known.meta.name == source), None)
    if origin is None or (claim is not None and claim.phase == "Bound"):
        return Placement()
    volume = next((known for known in world.volumes if known.name == origin.volume), None)
    return Placement(required_terms=volume.node_terms if volume is not None else ())


def why_unbound(run: Run[SnapshotStatus], source: str) -> str:
    """What is known of a copy that has no volume; "" where it has one, or there is none."""
    record = record_of(run, source)
    claim = copy_claim(run.world, run.meta.uid, record.name) if record is not None else None
    return "" if claim is None or claim.phase == "Bound" else f"Its copy has no volume yet: {_trouble(claim)}"


def discard(run: Run[SnapshotStatus]) -> tuple[str, ...]:
    """Ask for the deletion of every copy of the run, whether it is recorded or not; what is still there, as words for
    a person."""
    own = run.meta.uid
    unmark(run)
    claims = [claim for claim in run.world.claims if _is_copy_of(claim.meta.labels, own)]
    for action in deletions(claims, run.world.volume_snapshots, run.world.group_snapshots):
        run.do(action)
    left = (
        *(f"PersistentVolumeClaim {claim.meta.name}" for claim in claims),
        *(f"VolumeSnapshot {found.meta.name}" for found in run.world.volume_snapshots),
        *(f"VolumeGroupSnapshot {found.meta.name}" for found in run.world.group_snapshots),
    )
    if left:
        run.look_again(2)
    return left


def discarded(run: Run[SnapshotStatus]) -> bool:
    """The same; whether they are gone, or waiting for that is over. What is left then is said, and still deleted
    later."""
    left = discard(run)
    since = run.status.failure.time if run.status.failure is not None else run.since("Uploaded")
    ledger = run.status.quiesce
    if since is not None and ledger is not None and ledger.released_time is not None:
        since = max(since, ledger.released_time)
    if left and since is not None and run.now < since + DISCARD_FOR:
        return False
    if left:
        text = (
            f"Copies are still there after {format_duration(DISCARD_FOR)}: {', '.join(left)}. Look at what their "
            f"driver says; their deletion is asked for again and again."
        )
        run.do(Announce(run.ref, warning=True, reason="CopiesLeft", message=text))
    return True


def deletions(
    claims: Iterable[Claim], snapshots: Iterable[VolumeSnapshot], groups: Iterable[GroupSnapshot]
) -> list[DeleteCopy]:
    """Delete the claims, those of the VolumeSnapshots from which no claim is left, and the VolumeGroupSnapshots of runs
    of which no claim is left: their members go with them, and not without them."""
    claims = tuple(claims)
    names = {claim.meta.name for claim in claims}
    runs = {claim.meta.labels.get(RUN_LABEL) for claim in claims}
    found = [("v1", "PersistentVolumeClaim", claim.meta) for claim in claims]
    found += [
        ("snapshot.storage.k8s.io/v1", "VolumeSnapshot", taken.meta)
        for taken in snapshots
        if COPY_LABEL in taken.meta.labels and taken.meta.name not in names
    ]
    found += [
        ("groupsnapshot.storage.k8s.io/v1", "VolumeGroupSnapshot", group.meta)
        for group in groups
        if group.meta.labels.get(RUN_LABEL) not in runs
    ]
    return [
        DeleteCopy(Ref(api_version, kind, meta.namespace, meta.name, meta.uid))
        for api_version, kind, meta in found
        if meta.deleted is None
    ]


def copy_claim(world: World, run: Uid, name: str) -> Claim | None:
    """The claim of that name that is a copy of the run."""
    return next((c for c in world.claims if c.meta.name == name and _is_copy_of(c.meta.labels, run)), None)


def bytes_of(quantity: str) -> Decimal:
    """A Kubernetes quantity as a number; nothing, and what is none, is 0."""
    match = re.fullmatch(r"([0-9.]+)([KMGTPEk]?)(i?)(m?)", quantity)
    if match is None:
        return Decimal(0)
    number = Decimal(match[1]) * Decimal(1024 if match[3] else 1000) ** _SUFFIXES[match[2]]
    return number / 1000 if match[4] else number


def _take_one(run: Run[SnapshotStatus], policy: str, resolved: Resolved, volume: ResolvedVolume) -> None:
    """Ask for the copy of one volume, or note what is seen of it. Fails the run where it can't be had."""
    if run.failing or volume.copied is None:
        return
    if source_of(run, volume) is None:
        return
    record = record_of(run, volume.claim)
    if record is None:
        record = CopyRecord(claim=volume.claim, name=copy_name(run.meta.uid, volume.claim), asked_at=run.now)
        put(run, record)
    taken = resolved.capture.method is CaptureMethod.SNAPSHOT
    called = f"The {'VolumeSnapshot' if taken else 'clone'} {record.name} of volume {volume.claim}"
    found = _snapshot(run, record.name) if taken else copy_claim(run.world, run.meta.uid, record.name)
    if found is None:
        if record.uid is not None:
            run.fail("CopyLost", f"{called} was deleted by someone else.")
        elif not given_up(run, called, record.asked_at, resolved, record.name):
            run.do(
                CreateVolumeSnapshot(
                    run.meta.namespace,
                    record.name,
                    copy_labels(run.meta.uid, policy),
                    run.ref,
                    volume.claim,
                    volume.copied.snapshot_class_name,
                )
                if taken
                else _claim_action(run, policy, volume, volume.copied, record)
            )
        return
    if found.meta.deleted is not None or record.uid not in (None, found.meta.uid):
        run.fail("CopyLost", f"{called} was deleted by someone else.")
        return
    changes: dict[str, object] = {"uid": found.meta.uid}
    ready = found.ready if isinstance(found, VolumeSnapshot) else found.phase == "Bound"
    if record.ready_at is None and ready:
        changes["ready_at"] = run.now
        changes["size"] = found.size or None
    elif not ready and run.now >= record.asked_at + resolved.capture.timeout:
        trouble = _trouble(found) if isinstance(found, Claim) else found.error or "its driver has not said why."
        run.fail("CopyNotReady", f"{called} was not ready within {span(resolved)}: {trouble}")
    put(run, record.model_copy(update=changes))


def _claim_action(
    run: Run[SnapshotStatus], policy: str, volume: ResolvedVolume, copied: ResolvedCopy, record: CopyRecord
) -> CreateCopy:
    source = next((claim for claim in run.world.claims if claim.meta.name == volume.claim), None)
    taken = bool(copied.snapshot_class_name)
    sizes = [source.size if source is not None else "", (record.size or "") if taken else ""]
    return CreateCopy(
        run.meta.namespace,
        record.name,
        copy_labels(run.meta.uid, policy),
        run.ref,
        volume.claim,
        size=max(sizes, key=bytes_of),
        access_modes=_modes(source),
        storage_class=copied.storage_class_name,
        snapshot=(record.snapshot_name or record.name) if taken else "",
        node=copied.node,
        block=volume.volume_mode is VolumeMode.BLOCK,
    )


def _modes(source: Claim | None) -> tuple[str, ...]:
    """Those of the source; but a volume that is made anew is written once, by its driver or its file system, so what
    may only be read becomes ReadWriteOnce."""
    modes = tuple(mode for mode in (source.access_modes if source is not None else ()) if mode != "ReadOnlyMany")
    return modes or ("ReadWriteOnce",)


def _trouble(claim: Claim) -> str:
    return claim.trouble or "its driver has not said why; look at its events."


def _snapshot(run: Run[SnapshotStatus], name: str) -> VolumeSnapshot | None:
    return next((found for found in run.world.volume_snapshots if found.meta.name == name), None)


def _is_copy_of(labels: Mapping[str, str], run: Uid) -> bool:
    return COPY_LABEL in labels and labels.get(RUN_LABEL) == run
