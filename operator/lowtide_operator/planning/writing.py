"""The part of a Restore that touches data: safety snapshots, the writes, and the way back.

After the first write no workload starts until its volume is whole: restored, or rolled back to what it held before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from lowtide_engine.contract import Result
from lowtide_operator.api import RestoreSpec
from lowtide_operator.api.conditions import Truth
from lowtide_operator.api.jobs import JobOutcome, JobRecord
from lowtide_operator.api.restore import (
    Overwrite,
    PartialGroup,
    ResolvedRestore,
    ResolvedRestoreVolume,
    RestoreVolumeStatus,
    SafetySnapshot,
)
from lowtide_operator.api.snapshot import VolumeMode, VolumeOutcome
from lowtide_operator.planning.actions import MoverJob, Placement, Purpose
from lowtide_operator.planning.capture import TOO_LITTLE_TIME
from lowtide_operator.planning.gone import pods_in_the_way
from lowtide_operator.planning.intruders import INCONSISTENT, noted_intruders, what_was_kept
from lowtide_operator.planning.jobs import GOOD, TRY_AGAIN, drive, end_jobs, latest, may_go_on, restart
from lowtide_operator.planning.mover_pods import LOST_MOVER
from lowtide_operator.planning.movers import (
    SHORTEST_MOVER,
    as_identity,
    describe,
    movers_must_end,
    one_at_a_time,
    placement,
    progress_of,
    spread,
)
from lowtide_operator.planning.naming import parent_tags, path_in_snapshot, run_tags
from lowtide_operator.planning.observed_pods import MoverProgress
from lowtide_operator.planning.run import MAX_TEXT
from lowtide_operator.planning.source import Restoring
from lowtide_operator.planning.targets import in_place, is_same_claim
from lowtide_operator.planning.tasks import Task, look_up_by

SAFETY, BACK = "safety", "back"
READERS = frozenset({Purpose.BACKUP.value, Purpose.LOOKUP.value})


def take_safety(run: Restoring, spec: RestoreSpec, resolved: ResolvedRestore, policy: str) -> bool:
    """Back up what the volumes hold now; whether that is done and its movers are gone, or it is not wanted. An empty
    volume has nothing to save."""
    volumes = in_place(resolved)
    if spec.safety_snapshot is SafetySnapshot.SKIP or not volumes:
        return True
    until = movers_must_end(run, spec.quiesce.max_downtime)
    first = latest(run, Purpose.BACKUP, volumes[0].claim, SAFETY) is None
    if until is not None and first and run.now > until - SHORTEST_MOVER:
        run.fail("MaxDowntimeExceeded", TOO_LITTLE_TIME)
        return False

    def make(volume: ResolvedRestoreVolume) -> Task:
        return _safety_task(run, spec, resolved, volume, policy, until)

    def conclude(volume: ResolvedRestoreVolume, record: JobRecord) -> None:
        if record.outcome is JobOutcome.PARTIAL and not spec.mover.allow_partial:
            run.fail(
                "SafetySnapshotFailed",
                f"Not all that volume {volume.target} holds could be saved, so nothing was written: {record.message}. "
                f"Give the mover the right to read it, or set mover.allowPartial.",
            )
        elif record.outcome in GOOD and record.snapshot_ids:
            put_volume(run, volume.claim, safety_snapshot_id=record.snapshot_ids[-1])
        elif record.reason != "SourceEmpty":
            run.fail(
                "SafetySnapshotFailed",
                f"What volume {volume.target} holds could not be saved, so nothing was written: {record.message}",
            )

    done = _drive_all(run, resolved, volumes, make, conclude)
    return done and not run.failing and end_jobs(run, READERS, lost_after=LOST_MOVER)


def write(run: Restoring, spec: RestoreSpec, resolved: ResolvedRestore, policy: str) -> bool:
    """Restore every volume; whether all are whole. The Jobs are tried again; what fails for good fails the run."""

    def make(volume: ResolvedRestoreVolume) -> Task:
        def build(name: str, attempt: int) -> MoverJob:
            return replace(
                _describe(run, spec, resolved, Purpose.RESTORE, name, attempt, policy),
                claim=volume.target,
                writes=True,
                path=volume.path or "",
                block=_is_block(volume),
                fresh=not volume.in_place,
                snapshot_ids=(volume.snapshot_id,),
                delete=spec.overwrite is Overwrite.MIRROR,
                allow_partial=spec.partial_group is PartialGroup.ALLOW,
                include=spec.include,
                exclude=spec.exclude,
                identity=as_identity(volume.identity),
                tolerations=volume.tolerations,
                placement=_place(run, resolved, volume),
            )

        def note(record: JobRecord, result: Result) -> None:
            put_volume(
                run,
                volume.claim,
                attempt=record.attempt,
                snapshot_id=volume.snapshot_id,
                files=result.files,
                bytes=result.bytes,
                seconds=round(result.seconds),
                errors=result.errors,
                warnings=tuple(result.warnings),
                progress=None,
            )

        return Task(
            Purpose.RESTORE,
            spec.mover,
            build,
            claim=volume.target,
            expected_repository=resolved.repository_id or "",
            on_result=note,
            on_progress=_follow(run, volume),
        )

    def conclude(volume: ResolvedRestoreVolume, record: JobRecord) -> None:
        outcome = {JobOutcome.SUCCEEDED: VolumeOutcome.STORED, JobOutcome.PARTIAL: VolumeOutcome.PARTIAL}.get(
            record.outcome or JobOutcome.FAILED, VolumeOutcome.FAILED
        )
        put_volume(
            run,
            volume.claim,
            outcome=outcome,
            attempt=record.attempt,
            reason=record.reason,
            message=record.message[:MAX_TEXT] if record.message else None,
        )
        if outcome is VolumeOutcome.FAILED:
            run.fail(record.reason or "RestoreFailed", f"Volume {volume.target} was not restored: {record.message}")
        elif outcome is VolumeOutcome.PARTIAL and not spec.mover.allow_partial:
            run.fail("Partial", f"Volume {volume.target} was not restored as it was: {record.message}")

    used = noted_intruders(run)
    if used and any(_would_begin(run, make(volume)) for volume in resolved.volumes):
        run.fail(INCONSISTENT, "Not all was written when somebody used the volumes, and nothing more is.")
        return False
    return _drive_all(run, resolved, resolved.volumes, make, conclude)


def roll_back(run: Restoring, spec: RestoreSpec, resolved: ResolvedRestore, policy: str) -> bool | str:
    """Bring back what the written volumes held before: True once they do, False on the way, else why it can't be
    done. What fails is tried again, as long as nobody used the volumes."""
    written = _written(run, resolved)
    replaced = [volume.target for volume in written if not is_same_claim(run, volume)]
    written = [volume for volume in written if volume.target not in replaced]
    safety = {volume.claim: volume.safety_snapshot_id for volume in run.status.volumes}
    without = [volume.target for volume in written if not safety.get(volume.claim)]
    if without:
        return f"there is no safety snapshot of {', '.join(without)}"
    failed: list[tuple[JobRecord, Task]] = []

    def make(volume: ResolvedRestoreVolume) -> Task:
        def build(name: str, attempt: int) -> MoverJob:
            return replace(
                _describe(run, spec, resolved, Purpose.RESTORE, name, attempt, policy),
                claim=volume.target,
                writes=True,
                path=path_in_snapshot(volume.target, block=_is_block(volume)),
                block=_is_block(volume),
                snapshot_ids=(safety[volume.claim] or "",),
                delete=_saved_whole(run, volume),
                allow_partial=True,
                identity=as_identity(volume.identity),
                tolerations=volume.tolerations,
                placement=_place(run, resolved, volume),
            )

        return Task(
            Purpose.RESTORE,
            spec.mover,
            build,
            claim=volume.target,
            role=BACK,
            expected_repository=resolved.repository_id or "",
            on_progress=_follow(run, volume),
        )

    def conclude(volume: ResolvedRestoreVolume, record: JobRecord) -> None:
        if record.outcome not in GOOD:
            failed.append((record, make(volume)))

    used = noted_intruders(run)
    if used:
        used = f"{used[0].lower()}{used[1:-1]}, and nothing is written over that.{what_was_kept(run)}".removesuffix(".")
        if any(_would_begin(run, make(volume)) for volume in written):
            return used
    if not _drive_all(run, resolved, written, make, conclude):
        return False
    why = [f"{', '.join(replaced)} was deleted or replaced"] if replaced else []
    why += [f"{record.claim} could not be rolled back: {record.message}" for record, _ in failed]
    if failed and used:
        why.append(used)
    elif failed:
        record, task = min(failed, key=lambda one: one[0].ended_at or run.now)
        due = (record.ended_at or run.now) + TRY_AGAIN
        if run.now >= due:
            restart(run, task, record)
            return False
        run.look_again_at(due)
        why.append(f"it is tried again every {int(TRY_AGAIN.total_seconds()) // 60} minutes")
    return "; ".join(why) or True


def with_additions(run: Restoring, resolved: ResolvedRestore) -> tuple[str, ...]:
    """The written volumes in which the way back leaves what the Restore added."""
    return tuple(v.target for v in _written(run, resolved) if not _saved_whole(run, v))


def _written(run: Restoring, resolved: ResolvedRestore) -> list[ResolvedRestoreVolume]:
    return [v for v in in_place(resolved) if latest(run, Purpose.RESTORE, v.target) is not None]


def _saved_whole(run: Restoring, volume: ResolvedRestoreVolume) -> bool:
    """What a partial safety snapshot lacks may still be there: the way back must not remove it."""
    record = latest(run, Purpose.BACKUP, volume.target, SAFETY)
    return record is not None and record.outcome is JobOutcome.SUCCEEDED


def put_volume(run: Restoring, claim: str, **changes: object) -> None:
    """Change one volume's status, or begin it."""
    known = next((volume for volume in run.status.volumes if volume.claim == claim), RestoreVolumeStatus(claim=claim))
    others = [volume for volume in run.status.volumes if volume.claim != claim]
    changed = known.model_copy(update=changes)
    run.update(volumes=tuple(sorted((*others, changed), key=lambda volume: volume.claim)))


def _follow(run: Restoring, volume: ResolvedRestoreVolume) -> Callable[[JobRecord, MoverProgress], None]:
    """Shows how far the mover of a volume is."""
    return lambda _record, told: put_volume(
        run, volume.claim, progress=progress_of(run.status.volumes, volume.claim, told)
    )


def _drive_all(
    run: Restoring,
    resolved: ResolvedRestore,
    volumes: Iterable[ResolvedRestoreVolume],
    make: Callable[[ResolvedRestoreVolume], Task],
    conclude: Callable[[ResolvedRestoreVolume, JobRecord], None],
) -> bool:
    """Drive one task per volume, one after the other where the repository demands it; whether all are over."""
    volumes = tuple(volumes)
    blocked = pods_in_the_way(frozenset(volume.target for volume in volumes), run.world, run.now)
    serial = one_at_a_time(resolved.repository, run.world)
    last = run.status.first_write_time if noted_intruders(run) else None
    done = True
    for volume in volumes:
        task = make(volume)
        if last is not None:
            task = replace(task, until=last)
        elif task.purpose is Purpose.RESTORE and blocked and _would_start(run, task):
            text = f"It waits with the write until these are gone: {', '.join(blocked)}."
            run.condition("Restored", Truth.FALSE, "VolumeInUse", text)
            run.look_again(5)
            return False
        record = drive(run, task)
        if record is not None:
            conclude(volume, record)
        if run.failing and task.role != BACK:
            return False
        if record is None or (serial and not may_go_on(run, record)):
            done = False
            if serial:
                break
    return done


def _is_block(volume: ResolvedRestoreVolume) -> bool:
    return volume.volume_mode is VolumeMode.BLOCK


def _place(run: Restoring, resolved: ResolvedRestore, volume: ResolvedRestoreVolume) -> Placement:
    movers = 1 if one_at_a_time(resolved.repository, run.world) else len(resolved.volumes)
    return spread(placement(volume.target, run.world), movers)


def _would_start(run: Restoring, task: Task) -> bool:
    """Whether driving the task may create a Job now: none is under way."""
    record = latest(run, task.purpose, task.claim, task.role)
    return _would_begin(run, task) or (record is not None and record.outcome not in (None, *GOOD))


def _would_begin(run: Restoring, task: Task) -> bool:
    """Whether driving the task creates a Job that was never there."""
    record = latest(run, task.purpose, task.claim, task.role)
    if record is None:
        return True
    never_seen = record.outcome is None and record.uid is None
    return never_seen and not any(job.meta.name == record.name for job in run.world.jobs)


def _safety_task(
    run: Restoring,
    spec: RestoreSpec,
    resolved: ResolvedRestore,
    volume: ResolvedRestoreVolume,
    policy: str,
    until: datetime | None,
) -> Task:
    place = (run.world.cluster, run.meta.namespace, policy)
    tags = run_tags(*place, run.meta.uid, volume.target)

    def build(name: str, attempt: int) -> MoverJob:
        return replace(
            _describe(run, spec, resolved, Purpose.BACKUP, name, attempt, policy, until),
            claim=volume.target,
            host=run.meta.namespace,
            tags=tags,
            parent_tags=parent_tags(*place, volume.target) if policy else (),
            block=_is_block(volume),
            may_be_empty=True,
            identity=as_identity(volume.identity),
            tolerations=volume.tolerations,
            placement=_place(run, resolved, volume),
        )

    def build_look_up(name: str, attempt: int) -> MoverJob:
        return replace(_describe(run, spec, resolved, Purpose.LOOKUP, name, attempt, policy, until), tags=tags)

    return Task(
        Purpose.BACKUP,
        spec.mover,
        build,
        claim=volume.target,
        role=SAFETY,
        until=until - SHORTEST_MOVER if until is not None else None,
        look_up=look_up_by(spec.mover, build_look_up, until, resolved.repository_id or "", claim=volume.target),
        expected_repository=resolved.repository_id or "",
        on_progress=_follow(run, volume),
    )


def _describe(
    run: Restoring,
    spec: RestoreSpec,
    resolved: ResolvedRestore,
    purpose: Purpose,
    name: str,
    attempt: int,
    policy: str,
    until: datetime | None = None,
) -> MoverJob:
    return describe(
        run,
        purpose,
        name,
        attempt,
        repository=resolved.repository,
        repository_id=resolved.repository_id,
        mover=spec.mover,
        policy=policy,
        until=until,
    )
