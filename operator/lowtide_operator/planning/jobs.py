"""Drive one task of a run through its Jobs: create, watch, read the result, look up one that was lost, try again.

A Job is recorded in the run's status before it is created, and its result before it is deleted. The next attempt
starts only when the Job before it and all its pods are gone, so that no volume ever has two; of those that only read,
one whose node is lost is waited for no longer than LOST_MOVER.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from lowtide_engine.contract import Result
from lowtide_operator.api.jobs import JobOutcome, JobRecord
from lowtide_operator.planning.actions import CreateJob, DeleteJob, DeletePod, Purpose, Ref
from lowtide_operator.planning.mover_pods import COMMAND_REFUSED, LOST_MOVER, result_of
from lowtide_operator.planning.naming import job_name
from lowtide_operator.planning.observed import MoverJobSeen, Uid
from lowtide_operator.planning.run import MAX_TEXT, Run, S
from lowtide_operator.planning.tasks import Task
from lowtide_operator.planning.watching import by_result, job_of, over, pods_of, watch

FINAL_REASONS = frozenset(
    {
        "AmbiguousId",
        "AppendOnly",
        "BadInput",
        "CannotStart",
        COMMAND_REFUSED,
        "CredentialsMissing",
        "DeletionRefused",
        "DeviceRefused",
        "DeviceTooSmall",
        "KeepsNothing",
        "KeyMissing",
        "MacMismatch",
        "MemberRefused",
        "MountImpossible",
        "NoDevice",
        "NoSnapshots",
        "NothingMatched",
        "OutOfMemory",
        "PathMissing",
        "RepositoryChanged",
        "RepositoryDamaged",
        "RepositoryExists",
        "RepositoryMissing",
        "RepositoryUnsupported",
        "SnapshotMissing",
        "SourceEmpty",
        "SourceMissing",
        "StorageFull",
        "StorageRefused",
        "TreeForeign",
        "WrongPassword",
    }
)
"""Reasons that the next attempt would meet again: the engine's own, and those that are seen from outside."""

TOLD_FOR = timedelta(hours=1)
"""How long a task that is tried for ever keeps the record of an attempt: a lock that its mover left is named as dead by
it, and after half an hour counts as dead by itself."""

TRY_AGAIN = timedelta(minutes=10)
"""How long a task that failed for good, and must not stay so, rests before it is tried again: an outage may be over, or
a person may have mended the Secret."""

GOOD = frozenset({JobOutcome.SUCCEEDED, JobOutcome.PARTIAL})


def drive(run: Run[S], task: Task) -> JobRecord | None:
    """Take the task's next step; the record of its last Job once the task is over, None before."""
    record = latest(run, task.purpose, task.claim, task.role)
    if record is None:
        _start(run, task, 1)
        return None
    if record.outcome is None:
        record = watch(run, task, record)
        put_record(run, record)
        if record.outcome is None:
            return None
    if record.outcome in GOOD:
        return record
    if not may_go_on(run, record):
        run.look_again(5)
        return None
    if record.outcome is JobOutcome.MISSING:
        found = _look_up(run, task, record)
        if found is None:
            return None
        put_record(run, found)
        record = found
        if record.outcome in GOOD:
            return record
    if record.reason in FINAL_REASONS or record.attempt > task.mover.retry.limit:
        return record
    due = (record.ended_at or run.now) + task.mover.retry.backoff * 2 ** (record.attempt - 1)
    if task.until is not None and due >= task.until:
        return record
    if run.now < due:
        run.look_again_at(due)
        return None
    _start(run, task, record.attempt + 1)
    return None


def restart(run: Run[S], task: Task, record: JobRecord) -> None:
    """Start the attempt after `record`, with which the task was over, once nothing of it is left.

    Records of attempts that are long over and stored nothing are dropped: this may go on for ever.
    """
    if may_go_on(run, record):
        mine = (task.purpose.value, task.claim, task.role)
        run.update(jobs=tuple(r for r in run.status.jobs if (r.purpose, r.claim, r.role) != mine or _tells(run, r)))
        _start(run, task, record.attempt + 1)


def latest(run: Run[S], purpose: Purpose, claim: str = "", role: str = "") -> JobRecord | None:
    """The record of the task's last attempt."""
    records = [r for r in run.status.jobs if (r.purpose, r.claim, r.role) == (purpose.value, claim, role)]
    return max(records, key=lambda record: record.attempt, default=None)


def put_record(run: Run[S], record: JobRecord) -> None:
    """Put the record in the place of the one with its name, or at the end."""
    jobs: tuple[JobRecord, ...] = run.status.jobs
    if any(known.name == record.name for known in jobs):
        run.update(jobs=tuple(record if known.name == record.name else known for known in jobs))
    else:
        run.update(jobs=(*jobs, record))


def end_jobs(
    run: Run[S], purposes: Iterable[str], *, lost_after: timedelta | None = None, but_role: str | None = None
) -> bool:
    """End the run's Jobs of these purposes, but for those of `but_role`; whether they and their pods are gone.

    A result that is there is read first. With `lost_after`, pods that are this long past their grace are taken for
    lost with their node: for movers that only read.
    """
    gone = True
    for record in run.status.jobs:
        if record.purpose not in purposes or record.role == but_role:
            continue
        if record.outcome is None:
            job = job_of(run, record)
            if job is not None and record.uid is None:
                record = record.model_copy(update={"uid": job.meta.uid})
            result = result_of(pods_of(run, job.meta.uid)) if job is not None else None
            if isinstance(result, Result):
                record = by_result(run, record, result, "")
            else:
                record = over(run, record, JobOutcome.ENDED, "Ended", "The run ended it before it was done.")
            put_record(run, record)
        if not is_gone(run, record, lost_after=lost_after):
            gone = False
    return gone


def delete_ended(run: Run[S]) -> None:
    """Delete every Job whose outcome is recorded, and every one that nothing records: last in a plan, after its
    status."""
    recorded = {record.name: record for record in run.status.jobs}
    for job in run.world.jobs:
        record = recorded.get(job.meta.name)
        if record is not None and record.outcome is None and record.uid in (None, job.meta.uid):
            continue
        _delete(run, job)


def any_left(run: Run[S]) -> bool:
    """Whether a Job of the run, or a pod of one, is still there."""
    if run.world.jobs:
        return True
    uids = {record.uid for record in run.status.jobs if record.uid is not None}
    return any(pod.meta.controller is not None and pod.meta.controller.uid in uids for pod in run.world.pods)


def dead_holders(run: Run[S]) -> tuple[str, ...]:
    """The lock hosts of this run's pods that the kubelet reported terminated."""
    place = f"{run.world.cluster}.{run.meta.namespace}"
    return tuple(f"{place}.{record.pod_uid}" for record in run.status.jobs if record.pod_uid is not None)


def _tells(run: Run[S], record: JobRecord) -> bool:
    """Whether an attempt's record is still of use."""
    return bool(record.snapshot_ids) or record.ended_at is None or run.now < record.ended_at + TOLD_FOR


def _start(run: Run[S], task: Task, attempt: int) -> None:
    name = job_name(task.purpose, run.meta.uid, task.claim, attempt, role=task.role)
    put_record(
        run,
        JobRecord(
            name=name,
            purpose=task.purpose.value,
            claim=task.claim,
            role=task.role,
            attempt=attempt,
            created_at=run.now,
        ),
    )
    run.do(CreateJob(task.build(name, attempt)))
    run.look_again(10)


def _look_up(run: Run[S], task: Task, record: JobRecord) -> JobRecord | None:
    """What the lost Job stored, found by its tags: the record amended, or None while the look-up runs."""
    if task.look_up is None:
        return record.model_copy(update={"outcome": JobOutcome.FAILED})
    answer = drive(run, task.look_up(record))
    if answer is None:
        return None
    if answer.outcome in GOOD and answer.snapshot_ids:
        text = "Its result was lost; the snapshot was found in the repository by its tags."
        return record.model_copy(
            update={
                "outcome": answer.outcome,
                "reason": "Adopted",
                "message": text,
                "snapshot_ids": answer.snapshot_ids[-1:],
            }
        )
    changes: dict[str, object] = {"outcome": JobOutcome.FAILED}
    if answer.outcome not in GOOD:
        changes["message"] = f"{record.message} Whether it stored anything could not be found out: {answer.message}"[
            :MAX_TEXT
        ]
    return record.model_copy(update=changes)


def may_go_on(run: Run[S], record: JobRecord) -> bool:
    """Whether what waits for the end of this Job may begin: it is gone, or lost and no writer, which must be known to
    be gone. Asks for its deletion."""
    return is_gone(run, record, lost_after=None if record.purpose == Purpose.RESTORE.value else LOST_MOVER)


def is_gone(run: Run[S], record: JobRecord, *, lost_after: timedelta | None = None) -> bool:
    """Whether the record's Job and its pods are gone; asks for their deletion where they are not."""
    gone = True
    for job in run.world.jobs:
        if job.meta.name == record.name:
            _delete(run, job)
            gone = False
    for pod in pods_of(run, Uid(record.uid)) if record.uid is not None else ():
        if pod.meta.deleted is None:
            meta = pod.meta
            run.do(DeletePod(Ref("v1", "Pod", meta.namespace, meta.name, meta.uid)))
            gone = False
        elif lost_after is None or run.now < pod.meta.deleted + lost_after:
            gone = False
    if not gone:
        run.look_again(5)
    return gone


def _delete(run: Run[S], job: MoverJobSeen) -> None:
    if job.meta.deleted is None:
        meta = job.meta
        run.do(DeleteJob(Ref("batch/v1", "Job", meta.namespace, meta.name, meta.uid)))
