"""Put back what a run stopped: one way, once, and only where the hold is still its own.

Movers that have the volumes end first. Workloads start in the reverse of the order in which they were stopped, each
when those before it are ready. What a person changed meanwhile stays as it is. Every workload that is put back keeps
the mark `<run uid>.<attempt>` until the run is terminal, so that a stale observation can never stop it
again.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby

from lowtide_operator.api.conditions import Truth
from lowtide_operator.api.quiesce import HeldState, LedgerEntry, QuiesceLedger
from lowtide_operator.planning.actions import PatchWorkload, Purpose
from lowtide_operator.planning.hold import Hold, Holdable, holdable_ref, is_down, read_hold, read_note
from lowtide_operator.planning.jobs import end_jobs
from lowtide_operator.planning.keepers import ORDER as KEEPERS
from lowtide_operator.planning.mover_pods import LOST_MOVER
from lowtide_operator.planning.naming import (
    HELD_LABEL,
    HOLD_ANNOTATION,
    RELEASED_ANNOTATION,
    RUN_NAMESPACE_LABEL,
    released_mark,
)
from lowtide_operator.planning.observed import Workload
from lowtide_operator.planning.quiesce import find_held
from lowtide_operator.planning.run import Run, S
from lowtide_operator.planning.switches import ON, overruled, switched_back

VOLUME_PURPOSES = frozenset({Purpose.BACKUP.value, Purpose.RESTORE.value, Purpose.LOOKUP.value})

SETTLE_FOR = timedelta(minutes=10)
"""How long workloads may take to be ready again before the run goes on without them."""

NEXT_AFTER = timedelta(minutes=5)
"""How long the workloads that start next wait for those before them: longer than most take, and never for ever."""


def release(
    run: Run[S],
    *,
    movers: frozenset[str] = VOLUME_PURPOSES,
    lost_after: timedelta | None = LOST_MOVER,
    bounded: bool = True,
    by_ledger: bool = True,
) -> bool:
    """Take the next step towards running workloads; whether everything is put back.

    `movers` are the purposes of Jobs that have the volumes, and end first. `lost_after` as for jobs.end_jobs: None
    where a mover that is not seen to be gone may still write. `bounded`: once the ledger's deadline has passed
    everything starts at once, in no order. `by_ledger`: where only the annotation of a hold was lost (`kubectl rollout
    undo` takes it off), and bounded, the ledger says what to put back.
    """
    ledger = run.status.quiesce
    if ledger is None or ledger.released_time is not None:
        return True
    if ledger.start_time is None:
        run.update(quiesce=None)
        return True
    if not end_jobs(run, movers, lost_after=lost_after):
        run.condition("Released", Truth.FALSE, "EndingMovers", "Movers that still have the volumes are being ended.")
        run.look_again(5)
        return False
    entries = _put_back_in_turn(
        run, ledger, at_once=bounded and run.now >= ledger.deadline, by_ledger=bounded and by_ledger
    )
    done = all(entry.state is not HeldState.HELD for entry in entries)
    changes: dict[str, object] = {"workloads": entries}
    if done:
        changes["released_time"] = run.now
    run.update(quiesce=ledger.model_copy(update=changes))
    if not done:
        starting = [f"{e.kind} {e.name}" for e in entries if e.state is HeldState.RELEASED and not _is_up(run, e)]
        waits = f" The next ones wait until these are ready: {', '.join(starting)}." if starting else ""
        run.condition("Released", Truth.FALSE, "Releasing", f"The workloads are being put back.{waits}")
        run.look_soon(max((e.released_at for e in entries if e.released_at is not None), default=run.now))
        return False
    overridden = ", ".join(f"{e.kind} {e.name}" for e in entries if e.state is HeldState.OVERRIDDEN)
    run.condition(
        "Released",
        Truth.TRUE,
        "Released",
        f"Left as someone else set it meanwhile: {overridden}." if overridden else "All workloads were put back.",
    )
    return True


def settle(run: Run[S]) -> bool:
    """Wait until what was put back is ready again; whether it is, or waiting is over. Notes the downtime."""
    ledger = run.status.quiesce
    if ledger is None or ledger.released_time is None or ledger.start_time is None or ledger.ready_time is not None:
        return True
    waiting = [
        f"{entry.kind} {entry.name}"
        for entry in ledger.workloads
        if entry.state is HeldState.RELEASED and not _ready(find_held(run, entry))
    ]
    over = ledger.released_time + SETTLE_FOR
    if waiting and run.now < over:
        run.look_again_at(over)
        run.look_soon(ledger.released_time)
        return False
    run.update(
        quiesce=ledger.model_copy(update={"ready_time": run.now}),
        downtime=run.now - ledger.start_time,
    )
    if waiting:
        names = ", ".join(waiting)
        run.condition("Released", Truth.TRUE, "NotReadyAgain", f"Put back, but still not ready: {names}.")
    return True


def clear_marks(run: Run[S]) -> None:
    """Remove this run's released marks: the run is terminal, and its end is written."""
    everything: tuple[Holdable, ...] = (*run.world.workloads, *run.world.keepers)
    for found in everything:
        if found.meta.controller is not None and isinstance(found, Workload):
            continue
        if found.meta.annotations.get(RELEASED_ANNOTATION, "").startswith(f"{run.meta.uid}."):
            run.do(mark_removal(found))


def mark_removal(found: Holdable) -> PatchWorkload:
    """The patch that removes a released mark, and a hold that was copied along with it: its run is over.

    `kubectl rollout undo` brings them back from an old ReplicaSet, and with them the switches that were on then.
    """
    copied = HOLD_ANNOTATION in found.meta.annotations and HELD_LABEL not in found.meta.labels
    note = read_note(found) if copied else None
    return PatchWorkload(
        holdable_ref(found),
        found.meta.resource_version,
        labels={RUN_NAMESPACE_LABEL: None} if RUN_NAMESPACE_LABEL in found.meta.labels else {},
        annotations={
            RELEASED_ANNOTATION: None,
            **({HOLD_ANNOTATION: None} if copied else {}),
            **(switched_back(found.meta, note.switches) if note is not None else {}),
        },
        release=True,
    )


def release_patch(found: Holdable, hold: Hold, *, mark: bool) -> PatchWorkload:
    """The patch that ends `hold`: the count goes back only where the workload is still down, and each switch only
    where it still is as we left it."""
    down = is_down(found)
    elsewhere = RUN_NAMESPACE_LABEL in found.meta.labels
    return PatchWorkload(
        holdable_ref(found),
        found.meta.resource_version,
        labels={HELD_LABEL: None, **({} if mark or not elsewhere else {RUN_NAMESPACE_LABEL: None})},
        annotations={
            HOLD_ANNOTATION: None,
            RELEASED_ANNOTATION: released_mark(hold.run, hold.attempt) if mark else None,
            **switched_back(found.meta, hold.switches),
        },
        replicas=hold.replicas if down and hold.replicas else None,
        suspend=False if down and hold.suspend is False else None,
        release=True,
    )


def _put_back_in_turn(run: Run[S], ledger: QuiesceLedger, *, at_once: bool, by_ledger: bool) -> tuple[LedgerEntry, ...]:
    """Put back those of the highest order, and of the next once they run; keepers once every count is back, ready or
    not. The entries as they are seen now."""
    seen: list[LedgerEntry] = []
    turn = True
    for order, group in groupby(reversed(ledger.workloads), key=lambda entry: entry.order):
        if order == KEEPERS:
            turn = all(entry.state is not HeldState.HELD for entry in seen)
        now = [_put_back(run, entry, ledger if by_ledger else None, turn=turn) for entry in group]
        turn = turn and (at_once or all(_is_up(run, entry) for entry in now))
        seen += now
    return tuple(reversed(seen))


def _is_up(run: Run[S], entry: LedgerEntry) -> bool:
    """Whether nothing needs to wait for the entry any more: it is ready, or not ours to start, or takes too long."""
    if entry.state is not HeldState.RELEASED:
        return entry.state is not HeldState.HELD
    late = entry.released_at is not None and run.now >= entry.released_at + NEXT_AFTER
    return late or _ready(find_held(run, entry))


def _put_back(run: Run[S], entry: LedgerEntry, ledger: QuiesceLedger | None, *, turn: bool) -> LedgerEntry:
    """Patch the entry's workload where it is still ours and its turn; the entry as it is seen now (HELD while it is
    down). The ledger, where it is given, says what a hold of ours said that can't be read any more."""
    found = find_held(run, entry)
    if found is None:
        return entry.model_copy(update={"state": HeldState.GONE})
    hold = read_hold(found)
    if ledger is not None and isinstance(found, Workload) and found.meta.labels.get(HELD_LABEL) == run.meta.uid:
        hold = hold if hold is not None and hold.run == run.meta.uid else _as_written_down(run, entry, ledger)
    if hold is not None and hold.run == run.meta.uid:
        if turn:
            run.do(release_patch(found, hold, mark=True))
        return entry.model_copy(update={"state": HeldState.HELD, "message": _left(found, hold)})
    if found.meta.annotations.get(RELEASED_ANNOTATION, "").startswith(f"{run.meta.uid}."):
        if entry.state is HeldState.RELEASED:
            return entry
        return entry.model_copy(update={"state": HeldState.RELEASED, "released_at": run.now})
    if entry.state is HeldState.HELD:
        text = "Someone else removed the hold; it is left as it is."
        still = [s.annotation for s in entry.switches if s.annotation not in overruled(found.meta, entry.switches)]
        if still:
            text += f" {', '.join(f'{name} is still {ON[name]}' for name in still)}: nobody but you takes that away."
        return entry.model_copy(update={"state": HeldState.OVERRIDDEN, "message": text})
    return entry


def _as_written_down(run: Run[S], entry: LedgerEntry, ledger: QuiesceLedger) -> Hold:
    """The hold that the ledger's entry stands for."""
    return Hold(
        kind=run.kind,
        name=run.meta.name,
        run=run.meta.uid,
        attempt=ledger.attempt,
        since=entry.held_at or ledger.start_time or run.now,
        until=ledger.deadline,
        replicas=entry.replicas,
        suspend=entry.suspend,
        generation=entry.generation_held or 0,
        switches=entry.switches,
    )


def _left(found: Holdable, hold: Hold) -> str:
    """What to say of switches that somebody changed meanwhile."""
    changed = overruled(found.meta, hold.switches)
    return f"Left as someone else set it meanwhile: {', '.join(changed)}." if changed else ""


def _ready(found: Holdable | None) -> bool:
    if not isinstance(found, Workload) or found.replicas is None:
        return True
    return found.ready >= found.replicas and found.observed_generation >= found.meta.generation
