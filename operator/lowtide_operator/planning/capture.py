"""Store the volumes: one mover for each reads the volume itself while its workloads are down (Direct), or its copy."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from lowtide_engine.contract import Result
from lowtide_operator.api import SnapshotSpec, SnapshotStatus
from lowtide_operator.api.conditions import Truth, is_true
from lowtide_operator.api.jobs import JobOutcome, JobRecord
from lowtide_operator.api.snapshot import Resolved, ResolvedVolume, VolumeMode, VolumeOutcome, VolumeStatus
from lowtide_operator.planning.actions import MoverJob, Purpose
from lowtide_operator.planning.copies import copy_placement, makes_copies, readable, why_unbound
from lowtide_operator.planning.copyrecords import source_of
from lowtide_operator.planning.jobs import drive, latest, may_go_on
from lowtide_operator.planning.movers import (
    SHORTEST_MOVER,
    as_identity,
    describe_for,
    movers_must_end,
    one_at_a_time,
    placement,
    progress_of,
    spread,
)
from lowtide_operator.planning.naming import copy_name, parent_tags, run_tags
from lowtide_operator.planning.observed_pods import MoverProgress
from lowtide_operator.planning.quiesce import watch
from lowtide_operator.planning.run import MAX_TEXT, Run
from lowtide_operator.planning.streams import stream_jobs
from lowtide_operator.planning.tasks import Task, look_up_by

TOO_LITTLE_TIME = (
    "maxDowntime does not leave enough time to read the volumes after the workloads were stopped: allow more, or look "
    "why stopping took so long."
)

OUTCOMES = {JobOutcome.SUCCEEDED: VolumeOutcome.STORED, JobOutcome.PARTIAL: VolumeOutcome.PARTIAL}


def capture(run: Run[SnapshotStatus], spec: SnapshotSpec, resolved: Resolved) -> bool:
    """Take the next step of reading all volumes themselves; whether all are stored, and the workloads stayed as they
    were meanwhile."""
    if is_true(run.status.conditions, "Captured"):
        return True
    watch(run, frozenset(volume.claim for volume in resolved.volumes))
    if run.failing:
        return False
    for volume in resolved.volumes:
        if source_of(run, volume) is None:
            return False
    until = movers_must_end(run, resolved.quiesce.max_downtime)
    ended = sum(volume.progress is None for volume in run.status.volumes)
    if until is not None and run.now > until - SHORTEST_MOVER and ended < len(resolved.volumes):
        run.fail("MaxDowntimeExceeded", TOO_LITTLE_TIME)
        return False
    if not store(run, spec, resolved, until):
        run.condition("Captured", Truth.FALSE, "Reading", "Movers read the volumes.")
        return False
    ledger = run.status.quiesce
    started = min((record.created_at for record in _backups(run) or stream_jobs(run)), default=run.now)
    run.update(captured_time=(ledger.gone_time if ledger is not None else None) or started)
    said = "All volumes were read." if resolved.volumes else "There are only streams, which are stored."
    run.condition("Captured", Truth.TRUE, "Read", said)
    return True


def store(run: Run[SnapshotStatus], spec: SnapshotSpec, resolved: Resolved, until: datetime | None = None) -> bool:
    """Take the next step of storing all volumes in the repository; whether all are. `until` is when movers must end."""
    if is_true(run.status.conditions, "Uploaded"):
        return True
    serial = one_at_a_time(resolved.repository, run.world)
    done = True
    for volume in resolved.volumes:
        copy = ""
        if makes_copies(resolved):
            copy = copy_name(run.meta.uid, volume.claim)
            begun = latest(run, Purpose.BACKUP, volume.claim) is not None
            if not begun and readable(run, spec.policy_name, resolved, volume) is None:
                done = False
                if run.failing:
                    return False
                continue
        record = drive(run, backup_task(run, spec, resolved, volume, until, copy))
        if record is not None:
            _conclude(run, resolved, volume.claim, record)
        if run.failing:
            return False
        if record is None or (serial and not may_go_on(run, record)):
            done = False
            if serial:
                break
    backups = _backups(run)
    run.update(attempt=max((record.attempt for record in backups), default=1))
    if not done:
        run.condition("Uploaded", Truth.FALSE, "Uploading", "Movers store the volumes in the repository.")
        return False
    ends = [record.ended_at for record in backups if record.ended_at is not None]
    if backups:
        run.update(upload=max(ends, default=run.now) - min(record.created_at for record in backups))
    said = "All volumes are stored in the repository." if backups else "All streams are stored in the repository."
    run.condition("Uploaded", Truth.TRUE, "Stored", said)
    return True


def _backups(run: Run[SnapshotStatus]) -> list[JobRecord]:
    return [record for record in run.status.jobs if record.purpose == Purpose.BACKUP.value]


def backup_task(
    run: Run[SnapshotStatus],
    spec: SnapshotSpec,
    resolved: Resolved,
    volume: ResolvedVolume,
    until: datetime | None,
    copy: str = "",
) -> Task:
    """Back up one volume, from the claim `copy` where that is given; what a mover stored before its result was lost is
    found by its tags."""
    tags = run_tags(run.world.cluster, run.meta.namespace, spec.policy_name, run.meta.uid, volume.claim)

    def build(name: str, attempt: int) -> MoverJob:
        job = describe_for(run, spec, resolved, Purpose.BACKUP, name, attempt, until)
        place = copy_placement(copy, volume.claim, run.world) if copy else placement(volume.claim, run.world)
        return replace(
            job,
            claim=volume.claim,
            block=volume.volume_mode is VolumeMode.BLOCK,
            host=run.meta.namespace,
            tags=(*tags, *spec.tags),
            parent_tags=parent_tags(run.world.cluster, run.meta.namespace, spec.policy_name, volume.claim),
            identity=as_identity(volume.identity),
            tolerations=volume.tolerations,
            copy=copy,
            placement=spread(place, 1 if one_at_a_time(resolved.repository, run.world) else len(resolved.volumes)),
        )

    def build_look_up(name: str, attempt: int) -> MoverJob:
        return replace(describe_for(run, spec, resolved, Purpose.LOOKUP, name, attempt, until), tags=tags)

    return Task(
        Purpose.BACKUP,
        resolved.mover,
        build,
        claim=volume.claim,
        until=until - SHORTEST_MOVER if until is not None else None,
        look_up=look_up_by(resolved.mover, build_look_up, until, resolved.repository_id or "", claim=volume.claim),
        expected_repository=resolved.repository_id or "",
        on_result=lambda record, result: _note(run, volume.claim, record, result),
        on_progress=lambda record, told: _follow(run, volume.claim, record, told),
    )


def _follow(run: Run[SnapshotStatus], claim: str, record: JobRecord, told: MoverProgress) -> None:
    """Show how far the mover of a volume is."""
    progress = progress_of(run.status.volumes, claim, told)
    put_volume(run, VolumeStatus(claim=claim, attempt=record.attempt, progress=progress))


def _note(run: Run[SnapshotStatus], claim: str, record: JobRecord, result: Result) -> None:
    """Keep what a mover said about its volume."""
    put_volume(
        run,
        VolumeStatus(
            claim=claim,
            outcome=OUTCOMES.get(record.outcome) if record.outcome is not None else None,
            reason=record.reason,
            message=record.message or None,
            attempt=record.attempt,
            snapshot_id=record.snapshot_ids[-1] if record.snapshot_ids else None,
            files=result.files,
            bytes=result.bytes,
            added_bytes=result.added_bytes,
            seconds=round(result.seconds),
            errors=result.errors,
            warnings=tuple(result.warnings),
        ),
    )


def _conclude(run: Run[SnapshotStatus], resolved: Resolved, claim: str, record: JobRecord) -> None:
    """Settle what came of a volume by its last Job; a volume that is not stored as wanted fails the run."""
    known = next((volume for volume in run.status.volumes if volume.claim == claim), VolumeStatus(claim=claim))
    outcome = OUTCOMES.get(record.outcome, VolumeOutcome.FAILED) if record.outcome is not None else None
    reason, message = record.reason, record.message
    if reason == "CannotStart":
        message = f"{message} {why_unbound(run, claim)}".strip()
    if outcome is not VolumeOutcome.FAILED and not record.snapshot_ids:
        outcome, reason = VolumeOutcome.FAILED, "ResultLost"
        message = "The mover said that it succeeded, and named no snapshot."
    if outcome is VolumeOutcome.STORED and known.attempt == record.attempt and known.files == 0:
        outcome, reason = VolumeOutcome.FAILED, "SourceEmpty"
        message = "There is no file in the volume: an empty backup would look like a good one."
    put_volume(
        run,
        known.model_copy(
            update={
                "outcome": outcome,
                "attempt": record.attempt,
                "reason": reason,
                "message": message[:MAX_TEXT] if message else None,
                "snapshot_id": record.snapshot_ids[-1] if record.snapshot_ids else None,
                "progress": None,
            }
        ),
    )
    if outcome is VolumeOutcome.FAILED:
        run.fail(reason or "VolumeFailed", f"Volume {claim} was not backed up: {message}")
    elif outcome is VolumeOutcome.PARTIAL and not resolved.mover.allow_partial:
        run.fail(
            "Partial",
            f"Some files of volume {claim} could not be read: {message or 'see its warnings'} Give the mover the right "
            f"to read them, or set mover.allowPartial.",
        )


def put_volume(run: Run[SnapshotStatus], volume: VolumeStatus) -> None:
    """Put the volume's status in the place of the one for its claim, in the order of the group."""
    others = [known for known in run.status.volumes if known.claim != volume.claim]
    run.update(volumes=tuple(sorted((*others, volume), key=lambda known: known.claim)))
