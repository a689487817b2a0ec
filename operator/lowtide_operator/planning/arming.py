"""Arm the release: a pod that is ready, and puts back what the run stops should the operator be gone by the deadline.

It is made beside the preflight, so that it is ready when something is to be stopped. Nothing is stopped without it, a
run that loses it for long gives up, and it is dismissed once everything is put back.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from lowtide_operator.api.quiesce import ArmedRelease
from lowtide_operator.planning.actions import CreateRelease, DeleteJob, Ref, ReleaseJob
from lowtide_operator.planning.naming import release_name
from lowtide_operator.planning.observed import MoverJobSeen
from lowtide_operator.planning.observed_pods import Pod
from lowtide_operator.planning.run import Run, S

ROOM = timedelta(hours=1)
"""How much longer than maxDowntime a release pod watches: for the preflight, and for other runs that go first."""

READY_WITHIN = timedelta(minutes=10)
"""How long a run that has stopped nothing waits for a release pod to be ready: its image may have to be pulled, or one
that was evicted to be replaced."""

LOST_AFTER = timedelta(minutes=2)
"""How long workloads may be down without a release pod that is ready; a pod that was evicted is replaced in that."""


def arm(run: Run[S], max_downtime: timedelta) -> bool:
    """Have a release pod that would outlast a window that begins now; whether it is ready."""
    armed = run.status.release
    if armed is None or armed.deadline < run.now + max_downtime or _is_over(run, armed):
        _create(run, run.now + max_downtime + ROOM)
        return False
    missing = _note_missing(run, armed)
    if missing is None:
        return True
    if run.now >= missing + READY_WITHIN:
        text = (
            f"The release pod (Job {armed.name} in the operator's namespace), which puts the workloads back where the "
            f"operator can't, was not ready for {int(READY_WITHIN.total_seconds()) // 60} minutes, so nothing was "
            f"stopped: {_why(run)}"
        )
        run.fail("ReleaseNotReady", text)
        return False
    _ensure(run, armed)
    return False


def keep_armed(run: Run[S]) -> None:
    """While workloads are down: replace a release pod that is lost, and fail the run where that takes too long."""
    armed, ledger = run.status.release, run.status.quiesce
    if ledger is None or not ledger.workloads:
        return
    if armed is None:
        _create(run, ledger.deadline)
        run.look_again(5)
        return
    missing = _note_missing(run, armed)
    if missing is None:
        return
    if run.now >= missing + LOST_AFTER:
        text = (
            f"The release pod was lost and its place not taken within {int(LOST_AFTER.total_seconds()) // 60} "
            f"minutes, so the workloads are started again: {_why(run)}"
        )
        run.fail("ReleaseLost", text)
        return
    if _is_over(run, armed):
        _create(run, armed.deadline)
    else:
        _ensure(run, armed)
    run.look_again(5)


def dismiss(run: Run[S]) -> None:
    """Delete the run's release Jobs where nothing needs them: last in a plan, after its status."""
    ledger = run.status.quiesce
    over = run.ended or (ledger is not None and ledger.released_time is not None)
    armed = run.status.release
    for job in run.world.release_jobs:
        if job.meta.deleted is None and (over or (armed is not None and job.meta.name != armed.name)):
            run.do(DeleteJob(Ref("batch/v1", "Job", job.meta.namespace, job.meta.name, job.meta.uid)))


def _create(run: Run[S], deadline: datetime) -> None:
    former = run.status.release
    attempt = 1 if former is None else former.attempt + 1
    missing = None if former is None else former.missing_since
    armed = ArmedRelease(
        name=release_name(run.meta.uid, attempt),
        attempt=attempt,
        created_at=run.now,
        deadline=deadline,
        missing_since=missing or run.now,
    )
    run.update(release=armed)
    run.do(CreateRelease(ReleaseJob(armed.name, run.ref, deadline)))


def _ensure(run: Run[S], armed: ArmedRelease) -> None:
    """Create the Job where it is not there: an operator died before it did, or somebody deleted it."""
    if _job(run, armed) is None:
        run.do(CreateRelease(ReleaseJob(armed.name, run.ref, armed.deadline)))


def _note_missing(run: Run[S], armed: ArmedRelease) -> datetime | None:
    """Note, and answer, since when no pod of it is ready; None where one is."""
    missing = None if _seen_ready(run, armed) else armed.missing_since or run.now
    run.update(release=armed.model_copy(update={"missing_since": missing}))
    return missing


def _seen_ready(run: Run[S], armed: ArmedRelease) -> bool:
    job = _job(run, armed)
    return job is not None and not _is_over(run, armed) and any(_is_ready(pod, job) for pod in run.world.release_pods)


def _is_ready(pod: Pod, job: MoverJobSeen) -> bool:
    owner = pod.meta.controller
    return pod.ready and pod.meta.deleted is None and owner is not None and owner.uid == job.meta.uid


def _is_over(run: Run[S], armed: ArmedRelease) -> bool:
    job = _job(run, armed)
    return job is not None and (job.complete or job.failed or job.meta.deleted is not None)


def _job(run: Run[S], armed: ArmedRelease) -> MoverJobSeen | None:
    return next((job for job in run.world.release_jobs if job.meta.name == armed.name), None)


def _why(run: Run[S]) -> str:
    """What is seen of the pods that are not ready."""
    for pod in run.world.release_pods:
        if pod.scheduled is False:
            return f"its pod can't be scheduled: {pod.unschedulable}"
        for container in pod.containers:
            if container.waiting not in ("", "ContainerCreating", "PodInitializing"):
                return f"its container waits: {container.waiting}: {container.message}"
    return "look at its Job's events and log." if run.world.release_jobs else "no Job of it is there: look for a quota."
