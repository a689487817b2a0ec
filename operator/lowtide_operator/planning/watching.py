"""What is seen of a task's Job: it runs in time, or how it ended."""

from __future__ import annotations

from dataclasses import replace

from lowtide_engine.contract import Outcome, Result
from lowtide_operator.api.jobs import JobOutcome, JobRecord
from lowtide_operator.planning.actions import CreateJob, Purpose
from lowtide_operator.planning.mover_pods import (
    OUR_CONTAINERS,
    STREAM_FAILED,
    is_lost,
    is_writer_awaited,
    result_of,
    why_pending,
    why_stream_failed,
    writer_failed_alone,
    writer_said,
)
from lowtide_operator.planning.observed import MoverJobSeen, Uid
from lowtide_operator.planning.observed_pods import Container, MoverProgress, Pod
from lowtide_operator.planning.run import MAX_TEXT, Run, S
from lowtide_operator.planning.tasks import Task

INTERRUPTED = "Interrupted"
"""The engine's reason where a mover was told to stop, as by its Job's deadline."""


def watch(run: Run[S], task: Task, record: JobRecord) -> JobRecord:
    """The record with what is seen of its Job."""
    deadlines = task.mover.deadlines
    job = job_of(run, record)
    if job is None and record.uid is None:
        if run.now >= record.created_at + deadlines.start:
            text = (
                f"The Job {record.name} could not be created: look at quotas and admission policies of the namespace."
            )
            return over(run, record, JobOutcome.FAILED, "CannotStart", text)
        run.do(CreateJob(task.build(record.name, record.attempt)))
        run.look_again(10)
        return record
    if job is None:
        return over(
            run, record, JobOutcome.MISSING, "ResultLost", f"The Job {record.name} was deleted by someone else."
        )
    if record.uid is None:
        record = record.model_copy(update={"uid": job.meta.uid})
    pods = pods_of(run, job.meta.uid)
    result = result_of(pods)
    if isinstance(result, Result):
        if is_writer_awaited(pods, result, run.now):
            run.look_again(2)
            return record
        if result.reason == INTERRUPTED and job.reason == "DeadlineExceeded":
            return _too_long(run, record)
        if result.reason == STREAM_FAILED:
            text = f"{result.message.rstrip('.')}.{writer_said(pods)}"
            result = replace(result, reason=why_stream_failed(pods), message=text)
        done = by_result(run, record, result, task.expected_repository)
        if task.on_result is not None:
            task.on_result(done, result)
        return done
    if isinstance(result, Container):
        return _without_result(run, record, result)
    if job.failed or job.complete or any(pod.finished for pod in pods):
        return _pod_lost(run, record, job, pods)
    return _in_time(run, task, record, job, pods)


def by_result(run: Run[S], record: JobRecord, result: Result, expected_repository: str) -> JobRecord:
    """The record of a Job that left a result; with `expected_repository`, one from another repository is a failure."""
    known = {"snapshot_ids": tuple(result.snapshot_ids), "pod_uid": _terminated_pod(run, record)}
    if expected_repository and result.repository_id and result.repository_id != expected_repository:
        text = (
            f"The Secret opens repository {result.repository_id[:12]}, and the run began with "
            f"{expected_repository[:12]}: put the former Secret back, or start a new run."
        )
        return over(run, record, JobOutcome.FAILED, "RepositoryChanged", text).model_copy(update=known)
    outcome = {
        Outcome.OK: JobOutcome.SUCCEEDED,
        Outcome.PARTIAL: JobOutcome.PARTIAL,
        Outcome.FAILED: JobOutcome.FAILED,
    }[result.outcome]
    return over(run, record, outcome, result.reason, result.message).model_copy(update=known)


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
    done = over(run, record, JobOutcome.MISSING, reason, text)
    return done.model_copy(update={"pod_uid": _terminated_pod(run, record)})


def _pod_lost(run: Run[S], record: JobRecord, job: MoverJobSeen, pods: tuple[Pod, ...]) -> JobRecord:
    if job.reason == "DeadlineExceeded":
        return _too_long(run, record)
    why = next((f"{pod.reason}: {pod.message}".strip(": ") for pod in pods if pod.reason), "its pod is gone")
    return over(run, record, JobOutcome.MISSING, "ResultLost", f"The Job {record.name} ended without a result: {why}.")


def _too_long(run: Run[S], record: JobRecord) -> JobRecord:
    done = over(run, record, JobOutcome.FAILED, "TooLong", f"The Job {record.name} took longer than it may.")
    return done.model_copy(update={"pod_uid": _terminated_pod(run, record)})


def _in_time(run: Run[S], task: Task, record: JobRecord, job: MoverJobSeen, pods: tuple[Pod, ...]) -> JobRecord:
    deadlines = task.mover.deadlines
    if pods and all(is_lost(pod, run.now) for pod in pods):
        text = f"The {_called(record)}'s pod was deleted and does not go: its node {pods[0].node} is lost or cut off."
        return over(run, record, JobOutcome.MISSING, "ResultLost", text)
    running = next((pod for pod in pods if pod.phase == "Running"), None)
    if running is None:
        why = why_pending(pods)
        if run.now >= job.meta.created + deadlines.start:
            text = f"The {_called(record)} did not start within {int(deadlines.start.total_seconds())} s: {why}"
            return over(run, record, JobOutcome.FAILED, "CannotStart", text)
        run.look_again_at(job.meta.created + deadlines.start)
        run.look_again(30)
        return record.model_copy(update={"message": why[:MAX_TEXT]})
    if writer_failed_alone(pods, run.now):
        text = f"The command of the stream failed before it wrote anything.{writer_said(pods)}"
        return over(run, record, JobOutcome.FAILED, why_stream_failed(pods), text)
    started = running.began or running.started or job.meta.created
    told = running.progress
    if told is not None and run.now >= max(started, told.time) + deadlines.no_progress:
        text = f"The mover reported no progress for {int(deadlines.no_progress.total_seconds())} s.{_last_words(told)}"
        return over(run, record, JobOutcome.FAILED, "NoProgress", text)
    if run.now >= job.meta.created + deadlines.whole:
        longer = f"The mover took longer than {int(deadlines.whole.total_seconds())} s (mover.deadlines.whole)."
        text = f"{longer}{_last_words(told)}"
        return over(run, record, JobOutcome.FAILED, "TooLong", text)
    if told is not None and task.on_progress is not None:
        task.on_progress(record, told)
    if told is not None:
        run.look_again_at(max(started, told.time) + deadlines.no_progress)
    run.look_again_at(job.meta.created + deadlines.whole)
    run.look_again(30)
    return record.model_copy(update={"message": None})


def over(run: Run[S], record: JobRecord, outcome: JobOutcome, reason: str, message: str) -> JobRecord:
    """The record of a Job that has ended now."""
    return record.model_copy(
        update={
            "outcome": outcome,
            "ended_at": run.now,
            "reason": reason or outcome.value,
            "message": message[:MAX_TEXT],
        }
    )


def job_of(run: Run[S], record: JobRecord) -> MoverJobSeen | None:
    """The record's Job, where it is there."""
    for job in run.world.jobs:
        if job.meta.name == record.name and record.uid in (None, job.meta.uid):
            return job
    return None


def pods_of(run: Run[S], job: Uid) -> tuple[Pod, ...]:
    """The pods that a Job made."""
    return tuple(pod for pod in run.world.pods if pod.meta.controller is not None and pod.meta.controller.uid == job)


def _called(record: JobRecord) -> str:
    return "hook" if record.purpose in (Purpose.BEFORE_HOOK.value, Purpose.AFTER_HOOK.value) else "mover"


def _last_words(told: MoverProgress | None) -> str:
    return f" The last that it said: {told.last_words}" if told is not None and told.last_words else ""


def _terminated_pod(run: Run[S], record: JobRecord) -> str | None:
    for pod in pods_of(run, Uid(record.uid)) if record.uid is not None else ():
        if any(container.name in OUR_CONTAINERS and container.terminated for container in pod.containers):
            return pod.meta.uid
    return record.pod_uid
