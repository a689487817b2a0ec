"""Drive one task of a run through its Jobs: create, watch, read the result, look up one that was lost, try again.

A Job is recorded in the run's status before it is created, and its result before it is deleted. The next attempt
starts only when the Job before it and all its pods are gone, so that no volume ever has two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lowtide_engine.contract import Outcome, Result
from lowtide_operator.api.jobs import JobOutcome, JobRecord
from lowtide_operator.api.mover import Mover
from lowtide_operator.planning.actions import CreateJob, DeleteJob, DeletePod, HookJob, MoverJob, Purpose, Ref
from lowtide_operator.planning.mover_pods import (
    OUR_CONTAINERS,
    STREAM_FAILED,
    is_writer_awaited,
    result_of,
    why_pending,
    writer_failed_alone,
    writer_said,
)
from lowtide_operator.planning.naming import job_name
from lowtide_operator.planning.observed import Container, MoverJobSeen, MoverProgress, Pod, Uid
from lowtide_operator.planning.run import MAX_TEXT, Run, S

FINAL_REASONS = frozenset(
    {
        "AmbiguousId",
        "AppendOnly",
        "BadInput",
        "CannotStart",
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

INTERRUPTED = "Interrupted"
"""The engine's reason where a mover was told to stop, as by its Job's deadline."""

GOOD = frozenset({JobOutcome.SUCCEEDED, JobOutcome.PARTIAL})


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done once, by as many Jobs as it takes.

    `build` makes the Job of a given name and attempt. `until`: no attempt starts after it. `look_up` makes the task
    that finds what a Job without a result may have stored; without it such a Job is simply tried again, so its
    command must bear that. `expected_repository`: a result from a repository with another id is a failure.
    `on_result` gets each result once, `on_progress` what a running mover tells of itself at each look.
    """

    purpose: Purpose
    mover: Mover
    build: Callable[[str, int], MoverJob | HookJob]
    claim: str = ""
    role: str = ""
    until: datetime | None = None
    look_up: Callable[[JobRecord], Task] | None = None
    expected_repository: str = ""
    on_result: Callable[[JobRecord, Result], None] | None = None
    on_progress: Callable[[JobRecord, MoverProgress], None] | None = None


def drive(run: Run[S], task: Task) -> JobRecord | None:
    """Take the task's next step; the record of its last Job once the task is over, None before."""
    record = latest(run, task.purpose, task.claim, task.role)
    if record is None:
        _start(run, task, 1)
        return None
    if record.outcome is None:
        record = _watch(run, task, record)
        put_record(run, record)
        if record.outcome is None:
            return None
    if record.outcome in GOOD:
        return record
    if not is_gone(run, record):
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


def look_up_by(
    mover: Mover,
    build: Callable[[str, int], MoverJob],
    until: datetime | None,
    repository_id: str,
    *,
    claim: str = "",
    role: str = "",
) -> Callable[[JobRecord], Task]:
    """For Task.look_up: a Job made by `build` finds what a lost mover of `claim`, or of `role`, stored; a task for each
    attempt."""

    def look_up(record: JobRecord) -> Task:
        return Task(
            Purpose.LOOKUP,
            mover,
            build,
            claim=claim,
            role=f"{role}/attempt-{record.attempt}" if role else f"attempt-{record.attempt}",
            until=until,
            expected_repository=repository_id,
        )

    return look_up


def restart(run: Run[S], task: Task, record: JobRecord) -> None:
    """Start the attempt after `record`, with which the task was over, once nothing of it is left."""
    if is_gone(run, record):
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
            job = _job_of(run, record)
            if job is not None and record.uid is None:
                record = record.model_copy(update={"uid": job.meta.uid})
            result = result_of(_pods_of(run, job.meta.uid)) if job is not None else None
            if isinstance(result, Result):
                record = _by_result(run, record, result, "")
            else:
                record = _over(run, record, JobOutcome.ENDED, "Ended", "The run ended it before it was done.")
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


def _watch(run: Run[S], task: Task, record: JobRecord) -> JobRecord:
    """The record with what is seen of its Job."""
    deadlines = task.mover.deadlines
    job = _job_of(run, record)
    if job is None and record.uid is None:
        if run.now >= record.created_at + deadlines.start:
            text = (
                f"The Job {record.name} could not be created: look at quotas and admission policies of the namespace."
            )
            return _over(run, record, JobOutcome.FAILED, "CannotStart", text)
        run.do(CreateJob(task.build(record.name, record.attempt)))
        run.look_again(10)
        return record
    if job is None:
        return _over(
            run, record, JobOutcome.MISSING, "ResultLost", f"The Job {record.name} was deleted by someone else."
        )
    if record.uid is None:
        record = record.model_copy(update={"uid": job.meta.uid})
    pods = _pods_of(run, job.meta.uid)
    result = result_of(pods)
    if isinstance(result, Result):
        if is_writer_awaited(pods, result, run.now):
            run.look_again(2)
            return record
        if result.reason == INTERRUPTED and job.reason == "DeadlineExceeded":
            return _too_long(run, record)
        if result.reason == STREAM_FAILED:
            result = replace(result, message=f"{result.message.rstrip('.')}.{writer_said(pods)}")
        done = _by_result(run, record, result, task.expected_repository)
        if task.on_result is not None:
            task.on_result(done, result)
        return done
    if isinstance(result, Container):
        return _without_result(run, record, result)
    if job.failed or job.complete or any(pod.finished for pod in pods):
        return _pod_lost(run, record, job, pods)
    return _in_time(run, task, record, job, pods)


def _by_result(run: Run[S], record: JobRecord, result: Result, expected_repository: str) -> JobRecord:
    known = {"snapshot_ids": tuple(result.snapshot_ids), "pod_uid": _terminated_pod(run, record)}
    if expected_repository and result.repository_id and result.repository_id != expected_repository:
        text = (
            f"The Secret opens repository {result.repository_id[:12]}, and the run began with "
            f"{expected_repository[:12]}: put the former Secret back, or start a new run."
        )
        return _over(run, record, JobOutcome.FAILED, "RepositoryChanged", text).model_copy(update=known)
    outcome = {
        Outcome.OK: JobOutcome.SUCCEEDED,
        Outcome.PARTIAL: JobOutcome.PARTIAL,
        Outcome.FAILED: JobOutcome.FAILED,
    }[result.outcome]
    return _over(run, record, outcome, result.reason, result.message).model_copy(update=known)


def _without_result(run: Run[S], record: JobRecord, container: Container) -> JobRecord:
    """The container ended and left nothing that can be read; what it had stored may still be there."""
    if container.terminated == "OOMKilled":
        limit = f" (limit {container.memory_limit})" if container.memory_limit else ""
        what = "" if _called(record) == "hook" else ": raise mover.resources.limits.memory"
        text = f"The {_called(record)} ran out of memory{limit}{what}."
        reason = "OutOfMemory"
    else:
        why = container.terminated or "Error"
        what = f"The {_called(record)} ended with exit code {container.exit_code} ({why})"
        text = f"{what} and left no result that can be read."
        reason = "ResultLost"
    done = _over(run, record, JobOutcome.MISSING, reason, text)
    return done.model_copy(update={"pod_uid": _terminated_pod(run, record)})


def _pod_lost(run: Run[S], record: JobRecord, job: MoverJobSeen, pods: tuple[Pod, ...]) -> JobRecord:
    if job.reason == "DeadlineExceeded":
        return _too_long(run, record)
    why = next((f"{pod.reason}: {pod.message}".strip(": ") for pod in pods if pod.reason), "its pod is gone")
    return _over(run, record, JobOutcome.MISSING, "ResultLost", f"The Job {record.name} ended without a result: {why}.")


def _too_long(run: Run[S], record: JobRecord) -> JobRecord:
    done = _over(run, record, JobOutcome.FAILED, "TooLong", f"The Job {record.name} took longer than it may.")
    return done.model_copy(update={"pod_uid": _terminated_pod(run, record)})


def _in_time(run: Run[S], task: Task, record: JobRecord, job: MoverJobSeen, pods: tuple[Pod, ...]) -> JobRecord:
    deadlines = task.mover.deadlines
    running = next((pod for pod in pods if pod.phase == "Running"), None)
    if running is None:
        why = why_pending(pods)
        if run.now >= job.meta.created + deadlines.start:
            text = f"The {_called(record)} did not start within {int(deadlines.start.total_seconds())} s: {why}"
            return _over(run, record, JobOutcome.FAILED, "CannotStart", text)
        run.look_again_at(job.meta.created + deadlines.start)
        run.look_again(30)
        return record.model_copy(update={"message": why[:MAX_TEXT]})
    if writer_failed_alone(pods, run.now):
        text = f"The command of the stream failed before it wrote anything.{writer_said(pods)}"
        return _over(run, record, JobOutcome.FAILED, STREAM_FAILED, text)
    started = running.started or job.meta.created
    told = running.progress
    if told is not None and run.now >= max(started, told.time) + deadlines.no_progress:
        text = f"The mover reported no progress for {int(deadlines.no_progress.total_seconds())} s.{_last_words(told)}"
        return _over(run, record, JobOutcome.FAILED, "NoProgress", text)
    if run.now >= job.meta.created + deadlines.whole:
        longer = f"The mover took longer than {int(deadlines.whole.total_seconds())} s (mover.deadlines.whole)."
        text = f"{longer}{_last_words(told)}"
        return _over(run, record, JobOutcome.FAILED, "TooLong", text)
    if told is not None and task.on_progress is not None:
        task.on_progress(record, told)
    if told is not None:
        run.look_again_at(max(started, told.time) + deadlines.no_progress)
    run.look_again_at(job.meta.created + deadlines.whole)
    run.look_again(30)
    return record.model_copy(update={"message": None})


def _called(record: JobRecord) -> str:
    return "hook" if record.purpose in (Purpose.BEFORE_HOOK.value, Purpose.AFTER_HOOK.value) else "mover"


def _last_words(told: MoverProgress | None) -> str:
    return f" The last that it said: {told.last_words}" if told is not None and told.last_words else ""


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


def _over(run: Run[S], record: JobRecord, outcome: JobOutcome, reason: str, message: str) -> JobRecord:
    return record.model_copy(
        update={
            "outcome": outcome,
            "ended_at": run.now,
            "reason": reason or outcome.value,
            "message": message[:MAX_TEXT],
        }
    )


def _job_of(run: Run[S], record: JobRecord) -> MoverJobSeen | None:
    for job in run.world.jobs:
        if job.meta.name == record.name and record.uid in (None, job.meta.uid):
            return job
    return None


def _pods_of(run: Run[S], job: Uid) -> tuple[Pod, ...]:
    return tuple(pod for pod in run.world.pods if pod.meta.controller is not None and pod.meta.controller.uid == job)


def _terminated_pod(run: Run[S], record: JobRecord) -> str | None:
    for pod in _pods_of(run, Uid(record.uid)) if record.uid is not None else ():
        if any(container.name in OUR_CONTAINERS and container.terminated for container in pod.containers):
            return pod.meta.uid
    return record.pod_uid


def is_gone(run: Run[S], record: JobRecord, *, lost_after: timedelta | None = None) -> bool:
    """Whether the record's Job and its pods are gone; asks for their deletion where they are not."""
    gone = True
    for job in run.world.jobs:
        if job.meta.name == record.name:
            _delete(run, job)
            gone = False
    for pod in _pods_of(run, Uid(record.uid)) if record.uid is not None else ():
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
