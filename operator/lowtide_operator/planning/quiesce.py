"""Stop the workloads that use a group's claims, by a ledger that is written before anything changes, and watch them
while they are down.

    no ledger ─ users found, none refused, no Job runs, no update, no other run in the way ─> ledger (intent;
    nothing has changed)
    ledger ─ still true in a later observation, and still no other run in the way ─> start_time, patches
    started ─ every entry held, every pod gone, every volume unmounted ─> gone_time
    gone ─ watch: each hold as our patch left it, and no pod came back

Once start_time is written the ledger's entries never change but for their state, and nothing is patched that differs
from them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from lowtide_operator.api.conditions import Truth, is_true
from lowtide_operator.api.quiesce import HeldState, LedgerEntry, Quiesce, QuiesceLedger
from lowtide_operator.planning.actions import PatchWorkload
from lowtide_operator.planning.argocd import argocd_refusals
from lowtide_operator.planning.arming import arm, keep_armed
from lowtide_operator.planning.gone import came_back, in_the_way
from lowtide_operator.planning.hold import Hold, Holdable, holdable_ref, is_down, read_hold
from lowtide_operator.planning.keepers import (
    is_keeper,
    keeper_entry,
    keeper_refusal,
    keepers_of,
    refusals_of,
    still_awake,
)
from lowtide_operator.planning.naming import (
    HELD_LABEL,
    HOLD_ANNOTATION,
    RELEASED_ANNOTATION,
    RUN_NAMESPACE_LABEL,
    TAKEN_OVER_ANNOTATION,
)
from lowtide_operator.planning.observed import Keeper, Uid, Workload
from lowtide_operator.planning.ordering import first_in_the_way, is_older, stops_something
from lowtide_operator.planning.run import Run, S
from lowtide_operator.planning.starters import started_by
from lowtide_operator.planning.switches import switched_on, switches_of
from lowtide_operator.planning.updates import is_half_updated
from lowtide_operator.planning.users import UPDATE_WAITING, Refusal, Users, find_users, pods_of, refusal_of
from lowtide_operator.planning.waits import first_wait

STALE_INTENT = timedelta(seconds=60)
"""An intent older than this is written anew before anything is stopped, so that its deadline is a whole maxDowntime
away."""


def quiesce(run: Run[S], settings: Quiesce, claims: frozenset[str], ready: Callable[[], bool] | None = None) -> bool:
    """Take the next step towards a quiet group; whether it is quiet now.

    `ready` is asked when nothing else is in the way any more, and before anything is stopped: it takes a step of its
    own, and answers whether that was the last.
    """
    if not stops_something(settings.strategy):
        other = first_in_the_way(run.meta, claims, frozenset(), run.world)
        if other is not None:
            text = f"{other.called} uses some of the same volumes and goes first."
            run.condition("Quiesced", Truth.UNKNOWN, "WaitingForOtherRun", text)
            run.look_again(5)
            return False
        if ready is not None and not is_true(run.status.conditions, "Quiesced") and not ready():
            return False
        run.condition("Quiesced", Truth.TRUE, "NotWanted", "Nothing was stopped: quiesce.strategy is None.")
        return True
    ledger = run.status.quiesce
    if ledger is None or ledger.start_time is None:
        _intend(run, settings, claims, ledger, ready)
        return False
    keep_armed(run)
    if run.failing:
        return False
    if ledger.gone_time is None:
        return _stop(run, settings, claims, ledger)
    return True


def prepare(run: Run[S], settings: Quiesce, claims: frozenset[str]) -> None:
    """Arm the release ahead of time, where this run would be the next to stop something."""
    if stops_something(settings.strategy) and claims:
        users = find_users(claims, settings.workloads, run.world)
        workloads = frozenset(workload.meta.uid for _, workload in users.workloads)
        if workloads and not users.refusals and not first_in_the_way(run.meta, claims, workloads, run.world):
            arm(run, settings.max_downtime)


def watch(run: Run[S], claims: frozenset[str]) -> None:
    """Fail the run as Inconsistent where, while the group was quiet, a pod came back or somebody changed a held
    workload."""
    ledger = run.status.quiesce
    if ledger is None or ledger.gone_time is None or ledger.released_time is not None:
        return
    changed = [_changed(run, entry) for entry in ledger.workloads]
    back = came_back(claims, run.world, ledger.gone_time, run.now)
    found = [text for text in changed if text] + [f"{what} came back" for what in back]
    if found:
        run.fail(
            "Inconsistent",
            f"While the workloads were down, {'; '.join(found)}: what was captured may be no single moment's state. "
            f"Find out who starts it, then take another Snapshot.",
        )


def past_deadline(run: Run[S]) -> bool:
    """Whether maxDowntime is over while workloads are down, by the clock or because the release pod says so."""
    ledger = run.status.quiesce
    return (
        ledger is not None
        and ledger.start_time is not None
        and ledger.released_time is None
        and (run.now >= ledger.deadline or TAKEN_OVER_ANNOTATION in run.meta.annotations)
    )


def _intend(
    run: Run[S],
    settings: Quiesce,
    claims: frozenset[str],
    ledger: QuiesceLedger | None,
    ready: Callable[[], bool] | None,
) -> None:
    users = find_users(claims, settings.workloads, run.world)
    workloads = [workload for _, workload in users.workloads]
    keepers = keepers_of(workloads, run.world)
    refusals: tuple[Refusal, ...] = users.refusals + argocd_refusals(workloads, run.world) + refusals_of(keepers)
    if refusals:
        run.update(quiesce=None)
        run.condition("Quiesced", Truth.FALSE, refusals[0].reason, refusals[0].message)
        run.fail(refusals[0].reason, " ".join(refusal.message for refusal in refusals))
        return
    stopped: list[Holdable] = list(keepers)
    stopped += workloads
    other = first_in_the_way(run.meta, claims, frozenset(found.meta.uid for found in stopped), run.world)
    if other is not None:
        # Of two intents the younger yields. Beside an older one that has none yet, ours waits unwritten.
        if ledger is None or is_older(other, run.meta):
            run.update(quiesce=None)
        text = f"{other.called} uses some of the same volumes and goes first."
        run.condition("Quiesced", Truth.UNKNOWN, "WaitingForOtherRun", text)
        run.look_again(5)
        return
    wait = first_wait(claims, users, stopped, run.world, run.now)
    if wait is not None:
        run.update(quiesce=None)
        run.condition("Quiesced", Truth.FALSE, wait.waiting, wait.text)
        run.look_again(5)
        since = run.since("Quiesced")
        if since is not None and run.now >= since + settings.timeout:
            run.fail(wait.reason, wait.verdict)
        return
    marked = next((found for found in stopped if RELEASED_ANNOTATION in found.meta.annotations), None)
    if marked is not None:
        # Removing the mark, as its run does at its end, would look like somebody's edit during ours.
        run.update(quiesce=None)
        text = f"{marked.kind} {marked.meta.name} was just released by another run, which is not over yet."
        run.condition("Quiesced", Truth.UNKNOWN, "WaitingForOtherRun", text)
        run.look_again(5)
        return
    wanted = _ledger(run, settings, users, keepers)
    if wanted.workloads and not arm(run, settings.max_downtime):
        run.update(quiesce=None)
        run.condition("Quiesced", Truth.UNKNOWN, "Arming", "Nothing is stopped before the release pod is ready.")
        run.look_again(1)
        return
    if ready is not None and not ready():
        run.update(quiesce=None)
        return
    if ledger is None or ledger.workloads != wanted.workloads or run.now > _written(ledger, settings) + STALE_INTENT:
        run.update(quiesce=wanted)
        run.condition("Quiesced", Truth.FALSE, "Intended", "What will be stopped is written down; nothing is yet.")
        run.look_again(1)
        return
    run.update(quiesce=ledger.model_copy(update={"start_time": run.now}))
    run.condition("Quiesced", Truth.FALSE, "Stopping", f"Stopping {_names(ledger)}.")
    _patch_next(run, claims)


def _written(ledger: QuiesceLedger, settings: Quiesce) -> datetime:
    return ledger.deadline - settings.max_downtime


def _ledger(run: Run[S], settings: Quiesce, users: Users, keepers: tuple[Keeper, ...]) -> QuiesceLedger:
    entries = [keeper_entry(keeper, run.meta.namespace) for keeper in keepers]
    for order, workload in users.workloads:
        replicas, suspend = _count(workload)
        entry = LedgerEntry(
            api_version=workload.api_version,
            kind=workload.kind,
            name=workload.meta.name,
            uid=workload.meta.uid,
            order=order,
            replicas=replicas,
            suspend=suspend,
            switches=switches_of(workload),
        )
        entries.append(entry)
    return QuiesceLedger(
        attempt=max(1, run.status.attempt), deadline=run.now + settings.max_downtime, workloads=tuple(entries)
    )


def _stop(run: Run[S], settings: Quiesce, claims: frozenset[str], ledger: QuiesceLedger) -> bool:
    _patch_next(run, claims)
    if run.failing:
        return False
    ledger = run.status.quiesce or ledger
    if ledger.start_time is not None and run.now >= ledger.start_time + settings.timeout:
        what = _remaining(run, claims, ledger)
        if what:
            run.fail(
                "QuiesceTimeout",
                f"Within quiesce.timeout these did not go: {', '.join(what)}. Look why they take so long to end, or "
                f"allow more time.",
            )
            return False
    waits = [entry for entry in ledger.workloads if not _is_done(entry)]
    what = _remaining(run, claims, ledger)
    awake = still_awake(run, ledger.workloads)
    if awake:
        text = f"Waiting until these say that they are paused: {', '.join(awake)}."
        run.condition("Quiesced", Truth.FALSE, "Pausing", text)
        run.look_soon(ledger.start_time or run.now)
        return False
    if waits or what:
        names = ", ".join(what or [f"{entry.kind} {entry.name}" for entry in waits])
        run.condition("Quiesced", Truth.FALSE, "Stopping", f"Waiting until these are gone: {names}.")
        run.look_soon(ledger.start_time or run.now)
        return False
    run.update(quiesce=ledger.model_copy(update={"gone_time": run.now}))
    run.condition("Quiesced", Truth.TRUE, "Gone", f"No pod has a volume of the group mounted; down: {_names(ledger)}.")
    return True


def _remaining(run: Run[S], claims: frozenset[str], ledger: QuiesceLedger) -> tuple[str, ...]:
    stopped = frozenset(Uid(entry.uid) for entry in ledger.workloads)
    pods = {f"pod {pod.meta.name}" for pod in pods_of(stopped, run.world)}
    return tuple(sorted(pods.union(in_the_way(claims, run.world, run.now))))


def _patch_next(run: Run[S], claims: frozenset[str]) -> None:
    """Note which entries are held, and patch those of the lowest order that is not done; later orders wait for its
    pods."""
    ledger = run.status.quiesce
    if ledger is None:
        return
    entries = tuple(_noted(run, entry) for entry in ledger.workloads)
    run.update(quiesce=ledger.model_copy(update={"workloads": entries}))
    if run.failing:
        return
    for order in sorted({entry.order for entry in entries}):
        group = [entry for entry in entries if entry.order == order]
        for entry in group:
            if entry.state is HeldState.PLANNED and not run.failing:
                _patch(run, entry, ledger)
        uids = frozenset(Uid(entry.uid) for entry in group)
        if not all(map(_is_done, group)) or still_awake(run, group) or pods_of(uids, run.world):
            return


def _is_done(entry: LedgerEntry) -> bool:
    """Whether the entry is held, or a keeper that is not there any more and keeps nothing."""
    return entry.state is HeldState.HELD or (is_keeper(entry) and entry.state is HeldState.GONE)


def _noted(run: Run[S], entry: LedgerEntry) -> LedgerEntry:
    """The entry with what is seen of its object. Fails the run where somebody else changed it."""
    called = f"{entry.kind} {entry.name}"
    found = find_held(run, entry)
    if found is None:
        if not is_keeper(entry):
            run.fail("WorkloadChanged", f"{called} was deleted or replaced while it was being stopped.")
        return entry.model_copy(update={"state": HeldState.GONE})
    if found.meta.annotations.get(RELEASED_ANNOTATION, "").startswith(f"{run.meta.uid}."):
        run.fail("WorkloadReleased", f"{called} was released already: it is not stopped a second time by the same run.")
        return entry
    hold = read_hold(found)
    if hold is not None and hold.run == run.meta.uid:
        if entry.state is HeldState.HELD:
            changed = _changed(run, entry)
            if changed:
                run.fail("WorkloadChanged", f"While it was being stopped, {changed}: its new state is left as it is.")
            return entry
        moved = not hold.generation <= found.meta.generation <= hold.generation + 1
        if isinstance(found, Workload) and (moved or not is_down(found)):
            who = "someone else" if is_down(found) else started_by(found)
            run.fail("WorkloadChanged", f"{called} was changed right after it was stopped, by {who}.")
            return entry
        return entry.model_copy(
            update={"state": HeldState.HELD, "generation_held": found.meta.generation, "held_at": hold.since}
        )
    if entry.state is HeldState.HELD:
        run.fail("WorkloadChanged", f"The hold on {called} was removed by someone else: its state is left as it is.")
    return entry


def _patch(run: Run[S], entry: LedgerEntry, ledger: QuiesceLedger) -> None:
    called = f"{entry.kind} {entry.name}"
    found = find_held(run, entry)
    if found is None:
        return
    refusal = refusal_of(found, run.world) if isinstance(found, Workload) else keeper_refusal(found)
    if refusal is not None:
        run.fail(refusal.reason, refusal.message)
        return
    if isinstance(found, Workload) and is_half_updated(found, run.world):
        run.fail(UPDATE_WAITING, f"An update of {called} began while the run was about to stop it.")
        return
    if HELD_LABEL in found.meta.labels or HOLD_ANNOTATION in found.meta.annotations:
        run.fail("WorkloadHeld", f"{called} carries a hold that is not this run's: look who holds it.")
        return
    if isinstance(found, Workload) and _count(found) != (entry.replicas, entry.suspend):
        run.fail("WorkloadChanged", f"{called} was scaled by someone else while the run was about to stop it.")
        return
    if switches_of(found) != entry.switches:
        text = (
            f"An annotation of {called} that pauses another controller was changed while the run was about to set it."
        )
        run.fail("WorkloadChanged", text)
        return
    if run.now >= ledger.deadline:
        run.fail("MaxDowntimeExceeded", f"The time for stopping {called} is over: nothing more is stopped.")
        return
    hold = Hold(
        kind=run.kind,
        name=run.meta.name,
        run=run.meta.uid,
        attempt=ledger.attempt,
        since=run.now,
        until=ledger.deadline,
        replicas=entry.replicas,
        suspend=entry.suspend,
        generation=found.meta.generation,
        switches=entry.switches,
    )
    run.do(
        PatchWorkload(
            holdable_ref(found),
            found.meta.resource_version,
            labels={HELD_LABEL: run.meta.uid, **_elsewhere(run, found)},
            annotations={HOLD_ANNOTATION: hold.text(), **switched_on(entry.switches)},
            replicas=None if entry.replicas is None else 0,
            suspend=None if entry.suspend is None else True,
        )
    )
    run.look_again(1)


def _elsewhere(run: Run[S], found: Holdable) -> dict[str, str]:
    """How an object outside the run's namespace is found again."""
    return {} if found.meta.namespace == run.meta.namespace else {RUN_NAMESPACE_LABEL: run.meta.namespace}


def _count(workload: Workload) -> tuple[int | None, bool | None]:
    """What is put back: replicas, or suspend of a CronJob."""
    return (None, workload.suspended) if workload.kind == "CronJob" else (workload.replicas or 0, None)


def find_held(run: Run[S], entry: LedgerEntry) -> Holdable | None:
    """The object of the entry, as long as it is the same one."""
    everything: tuple[Holdable, ...] = (*run.world.workloads, *run.world.keepers)
    return next((found for found in everything if found.kind == entry.kind and found.meta.uid == entry.uid), None)


def _changed(run: Run[S], entry: LedgerEntry) -> str:
    """How a held workload differs from what our patch left; "" if it does not. What somebody does to a keeper counts
    only by what comes of it."""
    if is_keeper(entry):
        return ""
    called = f"{entry.kind} {entry.name}"
    found = find_held(run, entry)
    if not isinstance(found, Workload):
        return f"{called} was deleted or replaced"
    hold = read_hold(found)
    if hold is None or hold.run != run.meta.uid:
        return f"the hold on {called} was removed"
    if not is_down(found):
        return f"{called} was started by {started_by(found)}"
    if found.meta.generation != entry.generation_held:
        return f"{called} was edited"
    return ""


def _names(ledger: QuiesceLedger) -> str:
    return (
        ", ".join(f"{entry.kind} {entry.name}" for entry in ledger.workloads if not is_keeper(entry))
        or "nothing uses the volumes"
    )
