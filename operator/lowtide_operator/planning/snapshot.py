"""The planner of a Snapshot: one run over a group of volumes, step by step, each derived from what is observed.

    resolve ─> finalizer ─> preflight ─> streams ─> hooks ─> quiesce ─> capture ─> release ─> settle ─> hooks ─>
    verdict ─> end
       └────────────── a failure anywhere ──────────────> end movers ─> release ─> settle ─> hooks ─> end

With copies, capture is only the making of them: movers store them between the last hooks and verdict, and a failure
releases before it ends movers. Copies are deleted once they are stored, or the run fails. Where volumes are read
directly and no hook is left, nothing waits for settle but the end.

A step that is not done stops the plan there; the next observation goes on from it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from lowtide_engine.contract import Result
from lowtide_operator.api import SnapshotSpec, SnapshotStatus
from lowtide_operator.api.conditions import Truth, find, is_true
from lowtide_operator.api.jobs import JobRecord
from lowtide_operator.api.quiesce import QuiesceStrategy
from lowtide_operator.api.snapshot import Resolved, VolumeOutcome
from lowtide_operator.planning.actions import MoverJob, Plan, Purpose
from lowtide_operator.planning.arming import dismiss
from lowtide_operator.planning.capture import capture, store
from lowtide_operator.planning.copies import discard, discarded, makes_copies, movers_of_volumes, take
from lowtide_operator.planning.deletion import keep_finalizer, plan_deletion
from lowtide_operator.planning.groups import unmark
from lowtide_operator.planning.hooks import after_hooks, before_hooks, failed_hooks, hooks_left
from lowtide_operator.planning.jobs import GOOD, any_left, delete_ended, drive, end_jobs
from lowtide_operator.planning.mover_pods import LOST_MOVER
from lowtide_operator.planning.movers import describe_for
from lowtide_operator.planning.naming import FINALIZER, run_tags
from lowtide_operator.planning.observed import ObservedSnapshot
from lowtide_operator.planning.quiesce import past_deadline, prepare, quiesce
from lowtide_operator.planning.release import clear_marks, release, settle
from lowtide_operator.planning.resolve import resolve, same_claims
from lowtide_operator.planning.run import Run, whole_seconds
from lowtide_operator.planning.streams import store_streams, stream_jobs
from lowtide_operator.planning.tasks import Task

ENDED_FIRST = frozenset(purpose.value for purpose in Purpose if purpose is not Purpose.AFTER_HOOK)
"""Whose Jobs a run that fails ends before it puts anything back."""

STEPS = ("Quiesced", "Captured", "Released", "Uploaded", "Ready")


def plan_snapshot(observed: ObservedSnapshot, now: datetime) -> Plan:
    """What to do next for a Snapshot. The empty plan once it is terminal, and nothing of its run is left behind."""
    snapshot = observed.snapshot
    run = Run(
        kind="Snapshot",
        meta=snapshot.meta,
        world=observed.world,
        now=whole_seconds(now),
        status=snapshot.status,
        known=None if snapshot.fresh else snapshot.status.to_body(),
    )
    run.update(observed_generation=snapshot.meta.generation)
    if snapshot.meta.deleted is not None:
        plan_deletion(run, snapshot.spec)
        dismiss(run)
        return run.plan()
    _begin(run)
    if run.ended:
        _tidy(run, snapshot.spec)
        return run.plan()
    if snapshot.spec is None:
        run.fail("InvalidSpec", f"The Snapshot can't be read: {snapshot.invalid}")
    if past_deadline(run) and not is_true(run.status.conditions, "Captured"):
        run.fail(
            "MaxDowntimeExceeded",
            "The volumes were not captured in maxDowntime, and the workloads start again: allow more, or read less.",
        )
    if not run.failing and snapshot.spec is not None:
        _advance(run, snapshot.spec)
    if run.failing:
        _unwind(run, snapshot.spec.policy_name if snapshot.spec is not None else "")
        if not _holds(run):
            discard(run)
    ledger = run.status.quiesce
    if ledger is not None and ledger.released_time is None:
        run.look_again_at(ledger.deadline)
    delete_ended(run)
    dismiss(run)
    return run.plan()


def _begin(run: Run[SnapshotStatus]) -> None:
    for kind in STEPS:
        if find(run.status.conditions, kind) is None:
            run.condition(kind, Truth.UNKNOWN, "NotStarted", "Not started yet.")


def _advance(run: Run[SnapshotStatus], spec: SnapshotSpec) -> None:
    """Go as far as what is observed allows."""
    if not resolve(run, spec):
        return
    resolved = run.status.resolved
    if resolved is None:
        return
    if FINALIZER not in run.meta.finalizers:
        run.set_finalizers((*run.meta.finalizers, FINALIZER))
        return
    ledger = run.status.quiesce
    if ledger is None or ledger.start_time is None:
        if not is_true(run.status.conditions, "Quiesced") and not same_claims(run, resolved):
            return
        if resolved.start_by is not None and run.now > resolved.start_by and not _begun(run, resolved):
            run.fail(
                "DeadlinePassed",
                "Nothing could be stopped before the slot's startingDeadline was over, so nothing is: "
                f"{_last_word(run)}",
            )
            return
        if not resolved.streams:
            prepare(run, resolved.quiesce, frozenset(volume.claim for volume in resolved.volumes))
        if run.failing or not _preflight(run, spec, resolved):
            return
        resolved = run.status.resolved or resolved
        if not _streams(run, spec, resolved):
            return
    if not is_true(run.status.conditions, "Captured"):
        run.waiting("Quiescing", "The workloads that use the volumes are being stopped.")
        claims = frozenset(volume.claim for volume in resolved.volumes)
        hooks = partial(before_hooks, run, resolved, spec.policy_name)
        if not quiesce(run, resolved.quiesce, claims, hooks):
            unmark(run)
            return
        run.waiting("Capturing", "The state of the volumes is being held fast.")
        if not (take(run, spec.policy_name, resolved) if makes_copies(resolved) else capture(run, spec, resolved)):
            return
    run.waiting("Releasing", "The workloads are being started again.")
    if not _put_back(run):
        return
    back = settle(run)
    if not back and (makes_copies(resolved) or hooks_left(run.status)):
        return
    if not after_hooks(run, spec.policy_name) or run.failing:
        return
    run.waiting("Uploading", "The copies are being stored in the repository, while the workloads run.")
    if not store(run, spec, resolved):
        return
    run.waiting("Concluding", "The group is being declared complete, and copies of its volumes are deleted.")
    discard(run)
    # What is stored is a group whether or not its workloads are ready again, which is waited for only before the end.
    if not _verdict(run, spec, resolved) or not discarded(run) or not back:
        return
    _succeed(run)


def _preflight(run: Run[SnapshotStatus], spec: SnapshotSpec, resolved: Resolved) -> bool:
    """Prove that the repository can be opened and locked, before anything is stopped."""

    def build(name: str, attempt: int) -> MoverJob:
        job = describe_for(run, spec, resolved, Purpose.PREFLIGHT, name, attempt)
        return replace(job, create=resolved.known_repository_id is None)

    def keep_id(record: JobRecord, result: Result) -> None:
        if record.outcome in GOOD and result.repository_id:
            run.update(resolved=resolved.model_copy(update={"repository_id": result.repository_id}))

    record = drive(
        run,
        Task(
            Purpose.PREFLIGHT,
            resolved.mover,
            build,
            expected_repository=resolved.repository_id or "",
            on_result=keep_id,
        ),
    )
    if record is None:
        running = next((job for job in run.status.jobs if job.outcome is None), None)
        said = f" ({running.message})" if running is not None and running.message else ""
        run.waiting("Preflight", f"The repository is being opened before anything is stopped{said}.")
        return False
    if record.outcome in GOOD and run.status.resolved is not None and run.status.resolved.repository_id:
        return True
    text = f"The repository can't be used, so nothing was stopped: {record.message or 'it has no id.'}"
    if record.reason == "RepositoryMissing" and resolved.known_repository_id is not None:
        text = (
            f"{text} Earlier runs of the policy used repository {resolved.known_repository_id[:12]}, and no empty one "
            f"is made in its place: correct the Secret. If a new one is wanted, make it there by lowtide init."
        )
    run.fail(record.reason or "PreflightFailed", text)
    return False


def _begun(run: Run[SnapshotStatus], resolved: Resolved) -> bool:
    """Whether a run that stops nothing has begun to read, and so was in time. One that stops something has begun once
    its ledger has."""
    if is_true(run.status.conditions, "Quiesced"):
        return True
    return resolved.quiesce.strategy is QuiesceStrategy.NONE and bool(stream_jobs(run))


def _streams(run: Run[SnapshotStatus], spec: SnapshotSpec, resolved: Resolved) -> bool:
    """Store the streams while everything runs; whether all are stored."""
    if store_streams(run, spec, resolved):
        return True
    names = ", ".join(stream.name for stream in resolved.streams)
    run.waiting("Streaming", f"Streams are being stored before anything is stopped: {names}.")
    return False


def _put_back(run: Run[SnapshotStatus]) -> bool:
    """Put everything back; whether that is done, ready or not."""
    if not release(run, movers=movers_of_volumes(run.status.resolved)):
        return False
    if run.status.quiesce is None and not is_true(run.status.conditions, "Released"):
        run.condition("Released", Truth.TRUE, "NothingHeld", "Nothing was stopped.")
    return True


def _released(run: Run[SnapshotStatus]) -> bool:
    """Put everything back and wait until it is ready."""
    return _put_back(run) and settle(run)


def _verdict(run: Run[SnapshotStatus], spec: SnapshotSpec, resolved: Resolved) -> bool:
    """Name the members of the group in a snapshot of its own: only then is the group good."""
    stored = (*(v.snapshot_id for v in run.status.volumes), *(s.snapshot_id for s in run.status.streams))
    members = tuple(member for member in stored if member)
    tags = run_tags(run.world.cluster, run.meta.namespace, spec.policy_name, run.meta.uid)

    def build(name: str, attempt: int) -> MoverJob:
        job = describe_for(run, spec, resolved, Purpose.VERDICT, name, attempt)
        return replace(job, snapshot_ids=members, host=run.meta.namespace, tags=(*tags, *spec.tags))

    record = drive(run, Task(Purpose.VERDICT, resolved.mover, build, expected_repository=resolved.repository_id or ""))
    if record is None:
        return False
    if record.outcome not in GOOD or not record.snapshot_ids:
        run.fail("VerdictFailed", f"All is stored, but the group was not declared complete: {record.message}")
        return False
    run.update(verdict_snapshot_id=record.snapshot_ids[-1])
    return True


def _succeed(run: Run[SnapshotStatus]) -> None:
    volumes, streams = run.status.volumes, run.status.streams
    incomplete = [volume.claim for volume in volumes if volume.outcome is VolumeOutcome.PARTIAL]
    run.update(
        end_time=run.now,
        files=sum(volume.files or 0 for volume in volumes) + len(streams),
        bytes=sum(v.bytes or 0 for v in volumes) + sum(s.bytes or 0 for s in streams),
        added_bytes=sum(v.added_bytes or 0 for v in volumes) + sum(s.added_bytes or 0 for s in streams),
    )
    if incomplete:
        reason, text = "Partial", f"It can be restored; files are missing of {', '.join(incomplete)}."
    else:
        what = "volumes and streams" if volumes and streams else "streams" if streams else "volumes"
        reason, text = "Complete", f"All {what} are stored and can be restored as one group."
    if failed := failed_hooks(run):
        text += f" Failed, and gone on without: hook {', '.join(failed)}."
    run.condition("Ready", Truth.TRUE, reason, text)
    run.no_condition("Reconciling")


def _unwind(run: Run[SnapshotStatus], policy: str) -> None:
    """The way out of a run that fails: movers end, workloads come back, and then it is said why."""
    failure = run.status.failure
    if failure is None:
        return
    run.waiting(failure.reason, failure.message)
    if makes_copies(run.status.resolved) and not _released(run):
        end_jobs(run, ENDED_FIRST, lost_after=LOST_MOVER)
        return
    if not end_jobs(run, ENDED_FIRST, lost_after=LOST_MOVER):
        if _holds(run):
            run.condition("Released", Truth.FALSE, "EndingMovers", "Movers that have the volumes are being ended.")
        return
    if not _released(run) or not after_hooks(run, policy) or not discarded(run):
        return
    for kind in ("Quiesced", "Captured", "Uploaded"):
        if not is_true(run.status.conditions, kind):
            run.condition(kind, Truth.FALSE, failure.reason, failure.message)
    run.condition("Ready", Truth.FALSE, failure.reason, failure.message)
    run.condition("Stalled", Truth.TRUE, failure.reason, failure.message)
    run.no_condition("Reconciling")
    run.update(end_time=run.now, start_time=run.status.start_time or run.now)


def _tidy(run: Run[SnapshotStatus], spec: SnapshotSpec | None) -> None:
    """Remove what a terminal run left: Jobs whose results are stored, marks, and a finalizer that nothing needs."""
    delete_ended(run)
    dismiss(run)
    clear_marks(run)
    if any_left(run) or discard(run):
        run.look_again(30)
    wanted = tuple(name for name in run.meta.finalizers if name != FINALIZER)
    if keep_finalizer(run, spec):
        wanted = (*wanted, FINALIZER)
    if set(wanted) != set(run.meta.finalizers):
        run.set_finalizers(wanted)


def _holds(run: Run[SnapshotStatus]) -> bool:
    ledger = run.status.quiesce
    return ledger is not None and ledger.start_time is not None and ledger.released_time is None


def _last_word(run: Run[SnapshotStatus]) -> str:
    quiesced = find(run.status.conditions, "Quiesced")
    ready = find(run.status.conditions, "Ready")
    for condition in (quiesced, ready):
        if condition is not None and condition.reason != "NotStarted":
            return condition.message
    return "the operator did not run."
