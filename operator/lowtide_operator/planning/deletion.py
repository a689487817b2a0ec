"""The end of a Snapshot: movers end, workloads come back, and only where it is wanted the data goes, before the
object does."""

from __future__ import annotations

from dataclasses import replace

from lowtide_operator.api import SnapshotSpec, SnapshotStatus
from lowtide_operator.api.conditions import Truth, find
from lowtide_operator.api.policy import DeletionPolicy
from lowtide_operator.api.snapshot import Resolved
from lowtide_operator.planning.actions import Announce, MoverJob, Purpose
from lowtide_operator.planning.copies import discarded, movers_of_volumes
from lowtide_operator.planning.hooks import after_hooks
from lowtide_operator.planning.jobs import GOOD, TRY_AGAIN, delete_ended, drive, end_jobs, latest, restart
from lowtide_operator.planning.mover_pods import LOST_MOVER
from lowtide_operator.planning.movers import describe_for
from lowtide_operator.planning.naming import FINALIZER, run_tags
from lowtide_operator.planning.release import clear_marks, release
from lowtide_operator.planning.run import Run
from lowtide_operator.planning.tasks import Task

STORING = frozenset({Purpose.BACKUP.value, Purpose.STREAM.value})
RUN_PURPOSES = frozenset(purpose.value for purpose in Purpose) - {Purpose.FORGET.value, Purpose.AFTER_HOOK.value}
DELETION = "deletion"
FORGET_FAILED = "ForgetFailed"
TO_KEEP = "To let the object go now and keep the backup, set deletionPolicy to Retain."


def keep_finalizer(run: Run[SnapshotStatus], spec: SnapshotSpec | None) -> bool:
    """Whether deleting the Snapshot would have to do something first."""
    return spec is not None and spec.deletion_policy is DeletionPolicy.DELETE and _stored_anything(run)


def plan_deletion(run: Run[SnapshotStatus], spec: SnapshotSpec | None) -> None:
    """Take the next step towards letting go of a Snapshot that is being deleted."""
    if FINALIZER not in run.meta.finalizers:
        return
    if not run.ended:
        run.fail("Deleted", "The Snapshot was deleted before its run was over.")
    if not _put_back(run, spec):
        run.waiting("Deleting", "What its run holds is being put back.")
        delete_ended(run)
        return
    if run.status.end_time is None:
        run.update(end_time=run.now)
    if not _forgotten(run, spec):
        delete_ended(run)
        return
    delete_ended(run)
    clear_marks(run)
    run.set_finalizers(tuple(name for name in run.meta.finalizers if name != FINALIZER))


def _put_back(run: Run[SnapshotStatus], spec: SnapshotSpec | None) -> bool:
    """Whether nothing of the run goes on, and nothing is held or left by it."""
    movers = movers_of_volumes(run.status.resolved)
    released = not movers and release(run, movers=movers)
    ended = end_jobs(run, _purposes(run), lost_after=LOST_MOVER)
    if not ended or not (released or release(run, movers=movers)):
        return False
    return after_hooks(run, spec.policy_name if spec is not None else "") and discarded(run)


def _purposes(run: Run[SnapshotStatus]) -> frozenset[str]:
    """Which Jobs are ended at once: all of the run's own; not the look-up that finds what is to be forgotten."""
    deleting = any(r.role == DELETION and r.purpose == Purpose.LOOKUP.value for r in run.status.jobs)
    return RUN_PURPOSES - {Purpose.LOOKUP.value} if deleting else RUN_PURPOSES


def _stored_anything(run: Run[SnapshotStatus]) -> bool:
    return run.status.resolved is not None and any(r.purpose in STORING for r in run.status.jobs)


def _forgotten(run: Run[SnapshotStatus], spec: SnapshotSpec | None) -> bool:
    """Whether the object may go: nothing is to be forgotten, or all of it is."""
    resolved = run.status.resolved
    if spec is None or resolved is None or spec.deletion_policy is not DeletionPolicy.DELETE or spec.pinned:
        return True
    if not _stored_anything(run):
        return True
    if run.world.namespace_terminating:
        text = "Its namespace is being deleted, where no Job can run: the backup stays in the repository."
        run.do(Announce(run.ref, warning=True, reason="BackupKept", message=text))
        return True
    user = next(
        (
            restore.meta.name
            for restore in run.world.restores
            if restore.status.end_time is None
            and restore.status.resolved is not None
            and restore.status.resolved.snapshot_name == run.meta.name
        ),
        None,
    )
    if user is not None:
        run.waiting("InUse", f"Restore {user} reads this backup; it is forgotten after that. {TO_KEEP}")
        run.look_again(15)
        return False
    ids = _ids(run, spec, resolved)
    if ids is None:
        return False
    if not ids:
        return True
    return _drive(run, _task(run, spec, resolved, Purpose.FORGET, ids)) is not None


def _ids(run: Run[SnapshotStatus], spec: SnapshotSpec, resolved: Resolved) -> tuple[str, ...] | None:
    """Everything that the run stored: by its own account, and where a mover left none, by its tags. None while that
    runs."""
    status = run.status
    backups = [record for record in status.jobs if record.purpose in STORING]
    ids = {snapshot for record in status.jobs for snapshot in record.snapshot_ids}
    ids.update(volume.snapshot_id for volume in status.volumes if volume.snapshot_id)
    if status.verdict_snapshot_id:
        ids.add(status.verdict_snapshot_id)
    if any(not record.snapshot_ids for record in backups) or not status.verdict_snapshot_id:
        found = _drive(run, _task(run, spec, resolved, Purpose.LOOKUP, ()))
        if found is None:
            return None
        ids.update(found)
    return tuple(sorted(ids))


def _task(
    run: Run[SnapshotStatus], spec: SnapshotSpec, resolved: Resolved, purpose: Purpose, ids: tuple[str, ...]
) -> Task:
    def build(name: str, attempt: int) -> MoverJob:
        job = describe_for(run, spec, resolved, purpose, name, attempt)
        tags = run_tags(run.world.cluster, run.meta.namespace, spec.policy_name, run.meta.uid)
        return replace(job, snapshot_ids=ids, tags=tags if purpose is Purpose.LOOKUP else ())

    return Task(purpose, resolved.mover, build, role=DELETION, expected_repository=resolved.repository_id or "")


def _drive(run: Run[SnapshotStatus], task: Task) -> tuple[str, ...] | None:
    """The ids that the task's Job reported, once it succeeded. Tried for ever: the object must not go before."""
    record = drive(run, task)
    if record is not None and record.outcome in GOOD:
        run.no_condition("Stalled")
        return record.snapshot_ids
    if record is None:
        _say_progress(run, task)
        return None
    text = (
        f"The backup can't be taken out of the repository: {record.message or record.reason}. It is tried again every "
        f"{int(TRY_AGAIN.total_seconds()) // 60} minutes. {TO_KEEP}"
    )
    run.condition("Ready", Truth.FALSE, FORGET_FAILED, text)
    run.condition("Stalled", Truth.TRUE, FORGET_FAILED, text)
    due = (record.ended_at or run.now) + TRY_AGAIN
    if run.now >= due:
        restart(run, task, record)
    else:
        run.look_again_at(due)
    return None


def _say_progress(run: Run[SnapshotStatus], task: Task) -> None:
    """Say that the data is being forgotten, and what keeps it; where that failed before, why."""
    stalled = find(run.status.conditions, "Stalled")
    if stalled is not None and stalled.reason == FORGET_FAILED:
        run.condition("Ready", Truth.FALSE, stalled.reason, stalled.message)
        return
    last = latest(run, task.purpose, task.claim, task.role)
    said = f" ({last.message})" if last is not None and last.message else ""
    run.waiting("Forgetting", f"The backup is being taken out of the repository{said}.")
