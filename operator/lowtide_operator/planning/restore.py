"""The planner of a Restore: volumes brought back, once.

    source ─> finalizer ─> preflight ─> new claims ─> quiesce ─> safety snapshots ─> stamps ─> first write ─> writes
       └── a failure before the first write ──> stamps off ─> release ─> end                        │
                  all whole ─> stamps: Restored ─> release ─> settle ─> end  <──────────────────────┤
                  a failure after it ─> roll back ─> stamps: RolledBack ─> release ─> settle ─> end <─┘
                                            └── can't, or its spec can't be read ─> Stalled: workloads stay down
                                                until a person decides

Deleting it before the first write ends it; after it, the Restore or the way back is finished first. Where somebody used
the volumes while they were written, all that was begun is finished, nothing more, and it ends as Inconsistent.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from lowtide_engine.contract import Result
from lowtide_operator.api import RestoreSpec
from lowtide_operator.api.conditions import Truth, find, is_true
from lowtide_operator.api.jobs import JobRecord
from lowtide_operator.api.quiesce import HeldState, QuiesceStrategy
from lowtide_operator.api.restore import ResolvedRestore, Source
from lowtide_operator.api.snapshot import VolumeOutcome
from lowtide_operator.api.values import format_time
from lowtide_operator.planning.actions import MoverJob, Plan, Purpose
from lowtide_operator.planning.arming import dismiss
from lowtide_operator.planning.gone import in_the_way, pods_in_the_way, staying
from lowtide_operator.planning.half_written import (
    announce_deletion,
    is_stuck,
    waits_to_be_read,
    with_deletion,
    with_lost_writers,
)
from lowtide_operator.planning.intruders import INCONSISTENT, note_intruders, verdict_on
from lowtide_operator.planning.jobs import GOOD, any_left, delete_ended, drive, end_jobs, latest
from lowtide_operator.planning.mover_pods import LOST_MOVER
from lowtide_operator.planning.movers import describe
from lowtide_operator.planning.naming import FINALIZER
from lowtide_operator.planning.observed import ObservedRestore
from lowtide_operator.planning.quiesce import past_deadline, prepare, quiesce, watch
from lowtide_operator.planning.release import clear_marks, release, settle
from lowtide_operator.planning.run import Run, whole_seconds
from lowtide_operator.planning.source import ALREADY_DONE, Restoring, resolve_source
from lowtide_operator.planning.stamp import StampState
from lowtide_operator.planning.targets import (
    are_whole,
    in_place,
    make_claims,
    same_claims,
    stamp_claims,
    unstamp_claims,
)
from lowtide_operator.planning.tasks import Task
from lowtide_operator.planning.writing import BACK, SAFETY, roll_back, take_safety, with_additions, write

STEPS = ("Quiesced", "Restored", "Released", "Ready")


def plan_restore(observed: ObservedRestore, now: datetime) -> Plan:
    """What to do next for a Restore. The empty plan once it is terminal, and nothing of its run is left behind."""
    restore = observed.restore
    run = Run(
        kind="Restore",
        meta=restore.meta,
        world=observed.world,
        now=whole_seconds(now),
        status=restore.status,
        known=None if restore.fresh else restore.status.to_body(),
    )
    deleting = restore.meta.deleted is not None
    if deleting and FINALIZER not in restore.meta.finalizers:
        return Plan()
    run.update(observed_generation=restore.meta.generation)
    for kind in STEPS:
        if find(run.status.conditions, kind) is None:
            run.condition(kind, Truth.UNKNOWN, "NotStarted", "Not started yet.")
    if not run.ended:
        _go_on(run, restore.spec, restore.invalid, deleting=deleting)
        announce_deletion(run)
        delete_ended(run)
        dismiss(run)
        return run.plan()
    delete_ended(run)
    dismiss(run)
    clear_marks(run)
    if any_left(run):
        run.look_again(30)
    run.set_finalizers(tuple(name for name in run.meta.finalizers if name != FINALIZER))
    return run.plan()


def _go_on(run: Restoring, spec: RestoreSpec | None, invalid: str, *, deleting: bool) -> None:
    before_write = run.status.first_write_time is None
    stalled = find(run.status.conditions, "Stalled")
    if spec is None:
        if not before_write and waits_to_be_read(run, invalid, deleting=deleting):
            return
        run.fail("InvalidSpec", f"The Restore can't be read: {invalid}")
    elif stalled is not None and stalled.reason == "InvalidSpec":
        run.no_condition("Stalled")
    if deleting and before_write:
        run.fail("Deleted", "The Restore was deleted before it wrote anything.")
    if before_write and past_deadline(run):
        run.fail("MaxDowntimeExceeded", "Within maxDowntime nothing could be written: the workloads are started again.")
    if not run.failing and spec is not None:
        _advance(run, spec)
    if run.failing:
        _unwind(run, spec)
    ledger = run.status.quiesce
    if ledger is not None and ledger.released_time is None and run.status.first_write_time is None:
        run.look_again_at(ledger.deadline)


def _advance(run: Restoring, spec: RestoreSpec) -> None:
    """Go as far as what is observed allows. What becomes of the volumes once they are restored is not ours."""
    if not is_true(run.status.conditions, "Restored") and not _restored(run, spec):
        return
    run.waiting("Releasing", with_deletion(run, "The workloads are being started again."))
    if _released(run):
        _succeed(run)


def _restored(run: Restoring, spec: RestoreSpec) -> bool:
    """Take the next step towards whole volumes; whether all are."""
    if not resolve_source(run, spec):
        return False
    if FINALIZER not in run.meta.finalizers:
        run.set_finalizers((*run.meta.finalizers, FINALIZER))
        return False
    policy = _policy(run, spec.source)
    ledger = run.status.quiesce
    if run.status.first_write_time is None and (ledger is None or ledger.start_time is None):
        resolved = run.status.resolved
        if resolved is not None:
            prepare(run, spec.quiesce, frozenset(volume.target for volume in in_place(resolved)))
        if run.failing or not _preflight(run, spec, policy):
            return False
    resolved = run.status.resolved
    if resolved is None or not same_claims(run, resolved) or not make_claims(run, spec, resolved):
        return False
    resolved = run.status.resolved or resolved
    if run.status.first_write_time is None and not _before_writing(run, spec, resolved, policy):
        return False
    used = note_intruders(run, resolved)
    text = with_lost_writers(run, used or "The volumes are being written.")
    run.waiting(INCONSISTENT if used else "Restoring", with_deletion(run, text))
    run.condition("Restored", Truth.FALSE, "Writing", "The volumes are being written.")
    if not write(run, spec, resolved, policy):
        return False
    if not stamp_claims(run, spec, resolved.volumes, StampState.INCONSISTENT if used else StampState.RESTORED):
        return False
    if used:
        run.fail(INCONSISTENT, verdict_on(run))
        return False
    run.condition("Restored", Truth.TRUE, "Restored", "All volumes hold what was backed up.")
    return True


def _before_writing(run: Restoring, spec: RestoreSpec, resolved: ResolvedRestore, policy: str) -> bool:
    """Everything that must be true before the first byte is written; the last of it is to write that time down."""
    targets = frozenset(volume.target for volume in in_place(resolved))
    if targets:
        run.waiting("Quiescing", "The workloads that use the volumes are being stopped.")
        free = partial(_free, run, spec, targets) if spec.quiesce.strategy is QuiesceStrategy.NONE else None
        if not quiesce(run, spec.quiesce, targets, free) or (free is not None and not free()):
            return False
        watch(run, targets)
        if run.failing:
            return False
        run.waiting("Saving", "What the volumes hold now is being saved.")
        if not take_safety(run, spec, resolved, policy):
            return False
        if not stamp_claims(run, spec, in_place(resolved), StampState.WRITING):
            return False
    else:
        run.condition("Quiesced", Truth.TRUE, "NotNeeded", "Only new claims are written: nothing is stopped.")
    run.update(first_write_time=run.now)
    return True


def _free(run: Restoring, spec: RestoreSpec, targets: frozenset[str]) -> bool:
    """Whether nothing uses the targets, where nothing is stopped: what goes by itself is waited for."""
    users = _users(run, targets)
    if not users:
        return True
    text = f"These still have a volume that is to be written: {', '.join(users)}."
    run.condition("Quiesced", Truth.FALSE, "VolumeInUse", text)
    since = run.since("Quiesced") or run.now
    if staying(targets, run.world, run.now):
        run.fail("VolumeInUse", f"{text} quiesce.strategy is None, so nothing is stopped: stop it, or use ScaleDown.")
    elif run.now >= since + spec.quiesce.timeout:
        run.fail(
            "VolumeInUse",
            f"{text} They did not go within quiesce.timeout: look why they take so long, or allow more time.",
        )
    run.look_again(5)
    return False


def _users(run: Restoring, targets: frozenset[str]) -> tuple[str, ...]:
    """What uses the targets, none of which was stopped. Once the safety mover of one was begun, its attachment may be
    ours."""
    saving = frozenset(claim for claim in targets if latest(run, Purpose.BACKUP, claim, SAFETY) is not None)
    return in_the_way(targets - saving, run.world, run.now) + pods_in_the_way(saving, run.world, run.now)


def _preflight(run: Restoring, spec: RestoreSpec, policy: str) -> bool:
    """Prove that the repository opens and holds what is to be restored, before anything is stopped."""
    resolved = run.status.resolved
    if resolved is None:
        return False
    source = spec.source.repository
    select: dict[str, str] = {}
    if source is not None:
        wanted = {
            "id": source.id,
            "host": source.host,
            "path": source.path,
            "tag": ",".join(source.tags or ()),
            "asOf": format_time(source.as_of) if source.as_of is not None else None,
        }
        select = {key: value for key, value in wanted.items() if value}
    ids = () if select else tuple(dict.fromkeys(volume.snapshot_id for volume in resolved.volumes))

    def build(name: str, attempt: int) -> MoverJob:
        job = describe(
            run,
            Purpose.PREFLIGHT,
            name,
            attempt,
            repository=resolved.repository,
            repository_id=resolved.repository_id,
            mover=spec.mover,
            policy=policy,
        )
        return replace(job, snapshot_ids=ids, select=select)

    def keep(record: JobRecord, result: Result) -> None:
        if record.outcome not in GOOD:
            return
        changes: dict[str, object] = {"repository_id": resolved.repository_id or result.repository_id}
        if select and record.snapshot_ids:
            found = record.snapshot_ids[-1]
            changes["volumes"] = tuple(v.model_copy(update={"snapshot_id": found}) for v in resolved.volumes)
        run.update(resolved=resolved.model_copy(update=changes))

    task = Task(Purpose.PREFLIGHT, spec.mover, build, expected_repository=resolved.repository_id or "", on_result=keep)
    record = drive(run, task)
    if record is None:
        running = next((job for job in run.status.jobs if job.outcome is None), None)
        said = f" ({running.message})" if running is not None and running.message else ""
        run.waiting("Preflight", f"The repository is being opened before anything is stopped{said}.")
        return False
    found = run.status.resolved
    if record.outcome not in GOOD:
        run.fail(record.reason or "PreflightFailed", f"Nothing was stopped or written: {record.message}")
    elif found is None or not all(volume.snapshot_id for volume in found.volumes):
        run.fail("NoMatch", "The repository holds no snapshot that matches. Nothing was stopped or written.")
    return not run.failing


def _released(run: Restoring) -> bool:
    if not release(run, lost_after=None, bounded=run.status.first_write_time is None):
        return False
    if run.status.quiesce is None and not is_true(run.status.conditions, "Released"):
        run.condition("Released", Truth.TRUE, "NothingHeld", "Nothing was stopped.")
    return settle(run)


def _succeed(run: Restoring) -> None:
    ledger = run.status.quiesce
    partial = [volume.claim for volume in run.status.volumes if volume.outcome is VolumeOutcome.PARTIAL]
    run.update(end_time=run.now)
    text = f"Restored; not all is as it was in {', '.join(partial)}." if partial else "All volumes were restored."
    if ledger is not None and any(entry.state is HeldState.OVERRIDDEN for entry in ledger.workloads):
        text = f"{text} Some workloads were left as someone else set them."
    run.condition("Ready", Truth.TRUE, "Partial" if partial else "Restored", text)
    run.no_condition("Reconciling")
    run.no_condition("Stalled")


def _unwind(run: Restoring, spec: RestoreSpec | None) -> None:
    """The way out of a Restore that fails. After the first write it leads over the safety snapshots."""
    failure, resolved = run.status.failure, run.status.resolved
    if failure is None:
        return
    message = failure.message
    run.waiting(failure.reason, with_deletion(run, with_lost_writers(run, message)))
    wrote = run.status.first_write_time is not None
    if not end_jobs(
        run,
        frozenset(purpose.value for purpose in Purpose),
        lost_after=None if wrote else LOST_MOVER,
        but_role=BACK,
    ):
        return
    if resolved is not None and spec is not None and in_place(resolved):
        if wrote and not are_whole(run, resolved, StampState.INCONSISTENT):
            used = note_intruders(run, resolved)
            back = roll_back(run, spec, resolved, _policy(run, spec.source))
            if isinstance(back, str):
                why = f"{message[:300]} The volumes are half-written ({back[:400]}), so their workloads stay down."
                if is_stuck(run, "RollbackFailed", f"{with_deletion(run, why)} Look at the data"):
                    return
                message = f"{message} It was not rolled back, and nothing is held any more: {back}."
            elif not back:
                run.condition("Restored", Truth.FALSE, "RollingBack", "What the volumes held before is put back.")
                run.no_condition("Stalled")
                return
            elif not stamp_claims(run, spec, in_place(resolved), StampState.ROLLED_BACK):
                return
            else:
                message = f"{message} The volumes were rolled back to what they held before."
                if used:
                    message = f"{message} They may hold something else: look at the data. {used}"
                if added := with_additions(run, resolved):
                    message = (
                        f"{message} The safety snapshot is partial, so files that the Restore had added stay in "
                        f"{', '.join(added)}: look for them before you rely on it."
                    )
        elif not wrote and not unstamp_claims(run, resolved):
            return
    if not _released(run):
        return
    done = failure.reason == ALREADY_DONE
    for kind in ("Quiesced", "Restored"):
        if not is_true(run.status.conditions, kind):
            run.condition(kind, Truth.FALSE, failure.reason, failure.message)
    run.condition("Ready", Truth.TRUE if done else Truth.FALSE, failure.reason, message)
    if done:
        run.no_condition("Stalled")
    else:
        run.condition("Stalled", Truth.TRUE, failure.reason, message)
    run.no_condition("Reconciling")
    run.update(end_time=run.now, start_time=run.status.start_time or run.now)


def _policy(run: Restoring, source: Source) -> str:
    """The policy whose snapshots are restored, for tags and parents; "" where there is none."""
    if source.policy is not None:
        named: str = source.policy.name
        return named
    name = run.status.resolved.snapshot_name if run.status.resolved is not None else None
    for snapshot in run.world.snapshots:
        if snapshot.meta.name == name and snapshot.spec is not None:
            policy: str = snapshot.spec.policy_name
            return policy
    return ""
