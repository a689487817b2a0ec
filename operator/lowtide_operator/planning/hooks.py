"""The hooks of a run: commands in pods of applications, before anything is stopped and after everything runs again.

Each is a Job of its own, so that an operator which dies neither loses it nor runs it again: what is decided stands in
the status before the Job is made, and the Job's result is in its pod's termination message. A hook is never tried a
second time: nobody but its author knows whether that does harm. One whose result is lost has failed.
"""

from __future__ import annotations

from datetime import timedelta

from lowtide_operator.api import SnapshotStatus
from lowtide_operator.api.conditions import Truth
from lowtide_operator.api.hooks import HookOutcome, Hooks, HookStatus, OnError, ResolvedHook
from lowtide_operator.api.jobs import JobRecord
from lowtide_operator.api.mover import Deadlines, Mover, Retry
from lowtide_operator.api.snapshot import Resolved
from lowtide_operator.planning.actions import Announce, HookJob, Purpose
from lowtide_operator.planning.jobs import GOOD, drive, latest
from lowtide_operator.planning.naming import job_labels
from lowtide_operator.planning.podcommands import selector_of
from lowtide_operator.planning.run import MAX_TEXT, Run
from lowtide_operator.planning.tasks import Task

BEFORE, AFTER = "before", "after"
PURPOSES = {BEFORE: Purpose.BEFORE_HOOK, AFTER: Purpose.AFTER_HOOK}

MARGIN = timedelta(minutes=1)
"""How much longer than its hook a Job may take: for the hook's own program to start and to write down what it saw."""


def resolve_hooks(run: Run[SnapshotStatus], hooks: Hooks) -> tuple[ResolvedHook, ...]:
    """The hooks as the run goes by them. Fails the run where a workload has no pods to find."""
    stages = ((BEFORE, hooks.before), (AFTER, hooks.after))
    return tuple(
        ResolvedHook(
            name=f"{stage}-{number}",
            selector=selector_of(run, hook, f"hook {stage}-{number}"),
            container=hook.container or "",
            command=hook.command,
            timeout=hook.timeout,
            on_error=hook.on_error,
        )
        for stage, listed in stages
        for number, hook in enumerate(listed, start=1)
    )


def before_hooks(run: Run[SnapshotStatus], resolved: Resolved, policy: str) -> bool:
    """Take the next step of the hooks in `before`; whether all are done. Fails the run where one fails that may not.

    From here on the hooks have begun: the run ends only after those in `after`.
    """
    if resolved.hooks and not run.status.hooks:
        run.update(hooks=tuple(HookStatus(name=hook.name) for hook in resolved.hooks))
    for hook in _of(resolved, BEFORE):
        if not _is_over(run, resolved, hook, policy):
            text = f"Hook {hook.name} runs; nothing is stopped yet."
            run.condition("Quiesced", Truth.UNKNOWN, "BeforeHooks", text)
            run.waiting("BeforeHooks", text)
            return False
        if run.failing:
            return False
    return True


def after_hooks(run: Run[SnapshotStatus], policy: str) -> bool:
    """Take the next step of the hooks in `after`, where hooks have begun; whether all are done. Fails the run where one
    fails that may not."""
    resolved = run.status.resolved
    if resolved is None or not run.status.hooks or run.ended:
        return True
    for hook in _of(resolved, BEFORE):
        record = latest(run, PURPOSES[BEFORE], role=hook.name)
        if record is not None and record.outcome is not None and _status(run, hook).outcome is None:
            _conclude(run, hook, record)
    for hook in _of(resolved, AFTER):
        if not _is_over(run, resolved, hook, policy):
            if not run.failing:
                run.waiting("AfterHooks", f"Hook {hook.name} runs.")
            return False
    return True


def failed_hooks(run: Run[SnapshotStatus]) -> tuple[str, ...]:
    """The names of the hooks that failed."""
    return tuple(hook.name for hook in run.status.hooks if hook.outcome is HookOutcome.FAILED)


def hooks_left(status: SnapshotStatus) -> bool:
    """Whether hooks in `after` have yet to run."""
    return any(known.outcome is None for known in status.hooks if known.name.startswith(AFTER))


def _of(resolved: Resolved, stage: str) -> tuple[ResolvedHook, ...]:
    return tuple(hook for hook in resolved.hooks if _stage(hook) == stage)


def _stage(hook: ResolvedHook) -> str:
    return hook.name.partition("-")[0]


def _status(run: Run[SnapshotStatus], hook: ResolvedHook) -> HookStatus:
    return next((known for known in run.status.hooks if known.name == hook.name), HookStatus(name=hook.name))


def _put(run: Run[SnapshotStatus], status: HookStatus) -> None:
    run.update(hooks=tuple(status if known.name == status.name else known for known in run.status.hooks))


def _is_over(run: Run[SnapshotStatus], resolved: Resolved, hook: ResolvedHook, policy: str) -> bool:
    """Take the hook's next step; whether it is over, whatever came of it."""
    known = _status(run, hook)
    if known.outcome is not None:
        return True
    purpose = PURPOSES[_stage(hook)]
    if run.world.namespace_terminating and latest(run, purpose, role=hook.name) is None:
        text = "Its namespace is being deleted, where no Job can run: it was not run."
        _fail(run, hook, known.model_copy(update={"end_time": run.now, "reason": "NamespaceDeleting", "message": text}))
        return True
    record = drive(run, _task(run, resolved, hook, policy))
    if record is not None:
        _conclude(run, hook, record)
        return True
    begun = latest(run, purpose, role=hook.name)
    _put(run, known.model_copy(update={"start_time": begun.created_at if begun is not None else run.now}))
    return False


def _conclude(run: Run[SnapshotStatus], hook: ResolvedHook, record: JobRecord) -> None:
    """Note what came of a hook by its Job."""
    status = _status(run, hook).model_copy(
        update={
            "start_time": record.created_at,
            "end_time": record.ended_at,
            "reason": record.reason,
            "message": record.message,
        }
    )
    if record.outcome in GOOD:
        _put(run, status.model_copy(update={"outcome": HookOutcome.SUCCEEDED}))
    else:
        _fail(run, hook, status)


def _fail(run: Run[SnapshotStatus], hook: ResolvedHook, status: HookStatus) -> None:
    _put(run, status.model_copy(update={"outcome": HookOutcome.FAILED}))
    what = ", so nothing was stopped" if _stage(hook) == BEFORE and hook.on_error is OnError.FAIL else ""
    text = f"Hook {hook.name} failed{what}: {status.message or status.reason}"[:MAX_TEXT]
    run.do(Announce(run.ref, warning=True, reason="HookFailed", message=text))
    if hook.on_error is OnError.FAIL:
        run.fail("HookFailed", text)


def _task(run: Run[SnapshotStatus], resolved: Resolved, hook: ResolvedHook, policy: str) -> Task:
    start = resolved.mover.deadlines.start
    whole = start + hook.timeout + MARGIN
    purpose = PURPOSES[_stage(hook)]

    def build(name: str, attempt: int) -> HookJob:
        return HookJob(
            namespace=run.meta.namespace,
            name=name,
            purpose=purpose,
            owner=run.ref,
            labels=job_labels(purpose, run.meta.uid, run.kind, policy, attempt),
            hook=hook.name,
            selector=hook.selector,
            container=hook.container,
            command=hook.command,
            timeout=int(hook.timeout.total_seconds()),
            active_deadline=int(whole.total_seconds()),
        )

    once = Mover(retry=Retry(limit=0), deadlines=Deadlines(start=start, no_progress=whole, whole=whole))
    return Task(purpose, once, build, role=hook.name)
