"""Put back what is held by a run that is gone or over, delete the copies that it left, and take its marks off claims:
at the operator's start and at every resync, found by the label."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from lowtide_operator.planning.actions import Action, Announce, Plan
from lowtide_operator.planning.copies import deletions
from lowtide_operator.planning.groups import group_mark_removal
from lowtide_operator.planning.hold import Hold, Holdable, holdable_ref, read_hold
from lowtide_operator.planning.naming import (
    COPY_LABEL,
    FINALIZER,
    GROUP_SNAPSHOT_LABEL,
    HELD_LABEL,
    HOLD_ANNOTATION,
    RELEASED_ANNOTATION,
    RUN_LABEL,
    is_ours,
)
from lowtide_operator.planning.observed import (
    Claim,
    Keeper,
    ObservedOrphans,
    RestoreObject,
    SnapshotObject,
    Uid,
    Workload,
)
from lowtide_operator.planning.observed_copies import GroupSnapshot, VolumeSnapshot
from lowtide_operator.planning.release import mark_removal, release_patch
from lowtide_operator.planning.stamp import StampState, read_stamp
from lowtide_operator.planning.switches import switched_back
from lowtide_operator.planning.users import names_a_claim

YOUNG = timedelta(seconds=60)
"""A hold younger than this is left alone where its run is not seen to be over: lists are not read at one instant."""

Run = SnapshotObject | RestoreObject


def plan_orphans(observed: ObservedOrphans, now: datetime) -> Plan:
    """The releases and deletions that nobody else would do. Runs that are unfinished, and know their holds, do their
    own."""
    runs: dict[Uid, Run] = {run.meta.uid: run for run in observed.snapshots}
    runs.update({run.meta.uid: run for run in observed.restores})
    actions: list[Action] = []
    look_again = None
    everything: tuple[Holdable, ...] = (*observed.workloads, *observed.keepers)
    for workload in everything:
        if workload.meta.controller is not None and isinstance(workload, Workload):
            continue  # Never held by us: a Deployment copies its annotations to its ReplicaSets.
        hold = read_hold(workload)
        if hold is not None:
            run = runs.get(hold.run)
            if _is_managed(run, workload):
                continue
            if (run is None or not _over(run)) and now < hold.since + YOUNG:
                look_again = 30.0
                continue
            if _half_restored(observed, workload, hold):
                actions.append(_refuse(workload, hold))
            elif _movers_left(observed, hold) or (isinstance(workload, Keeper) and _counts_left(observed, hold)):
                look_again = 10.0
            else:
                actions.append(release_patch(workload, hold, mark=False))
        elif HELD_LABEL in workload.meta.labels:
            actions.append(_unreadable(workload))
        elif RELEASED_ANNOTATION in workload.meta.annotations:
            run = runs.get(Uid(workload.meta.annotations[RELEASED_ANNOTATION].rpartition(".")[0]))
            if run is None or _over(run):
                actions.append(mark_removal(workload))
    actions += [
        group_mark_removal(claim)
        for claim in observed.marked_claims
        if _is_over(runs, claim.meta.labels[GROUP_SNAPSHOT_LABEL])
    ]
    ours: tuple[Claim | VolumeSnapshot | GroupSnapshot, ...]
    ours = (*observed.claims, *observed.volume_snapshots, *observed.group_snapshots)
    copies = [c for c in ours if COPY_LABEL in c.meta.labels and _is_over(runs, c.meta.labels.get(RUN_LABEL, ""))]
    left = [found for found in copies if now >= found.meta.created + YOUNG]
    actions += deletions(
        [claim for claim in left if isinstance(claim, Claim)],
        [taken for taken in left if isinstance(taken, VolumeSnapshot)],
        [group for group in left if isinstance(group, GroupSnapshot)],
    )
    if copies:
        look_again = min(look_again or 30.0, 30.0)
    return Plan(tuple(actions), look_again)


def _is_over(runs: Mapping[Uid, Run], uid: str) -> bool:
    """Whether the run of that uid is gone or over."""
    run = runs.get(Uid(uid))
    return run is None or _over(run)


def _over(run: Run) -> bool:
    return run.status.end_time is not None


def _is_managed(run: Run | None, workload: Holdable) -> bool:
    """Whether the hold's own run will end it: it is unfinished, is planned for, and has the workload in its
    ledger."""
    if run is None or _over(run) or (run.meta.deleted is not None and FINALIZER not in run.meta.finalizers):
        return False
    ledger = run.status.quiesce
    return ledger is not None and any(entry.uid == workload.meta.uid for entry in ledger.workloads)


def _half_restored(observed: ObservedOrphans, workload: Holdable, hold: Hold) -> bool:
    """Whether a Restore began to write a volume of this workload and never finished: starting it would lose data."""
    written = frozenset(
        claim.meta.name
        for claim in observed.claims
        if (stamp := read_stamp(claim)) is not None and stamp.run == hold.run and stamp.state is StampState.WRITING
    )
    names = isinstance(workload, Workload) and names_a_claim(workload, written)
    return bool(written) and (hold.kind == "Restore" or names)


def _counts_left(observed: ObservedOrphans, hold: Hold) -> bool:
    """Whether the run still holds a workload: a keeper goes on only when the counts are back."""
    holds = (read_hold(workload) for workload in observed.workloads if workload.meta.controller is None)
    return any(other is not None and other.run == hold.run for other in holds)


def _movers_left(observed: ObservedOrphans, hold: Hold) -> bool:
    return any(
        is_ours(pod.meta.labels) and pod.meta.labels[RUN_LABEL] == hold.run and pod.claims and not pod.finished
        for pod in observed.pods
    )


TO_START = "to start what it stopped anyway (without kubectl scale: to make way for another Restore)"
"""What release_command is for, where a Restore left the data half-written."""


def release_command(found: Holdable, hold: Hold) -> str:
    """What a person types to end the hold by hand."""
    what, where = f"{found.kind.lower()}/{found.meta.name}", f"-n {found.meta.namespace}"
    notes = {HOLD_ANNOTATION: None, **switched_back(found.meta, hold.switches)}
    words = " ".join(f"{key}-" if value is None else f"{key}={value}" for key, value in notes.items())
    commands = [
        f"kubectl annotate --overwrite {what} {where} {words}",
        f"kubectl label {what} {where} {HELD_LABEL}-",
    ]
    if hold.replicas is not None:
        commands.append(f"kubectl scale {what} {where} --replicas={hold.replicas}")
    elif hold.suspend is not None:
        commands.append(f'kubectl patch {what} {where} -p \'{{"spec":{{"suspend":false}}}}\'')
    return " && ".join(commands)


def _refuse(workload: Holdable, hold: Hold) -> Announce:
    text = (
        f"It stays down: Restore {hold.name} began to write its volumes and is gone. Look at the data; {TO_START}: "
        f"{release_command(workload, hold)}"
    )
    return Announce(holdable_ref(workload), warning=True, reason="HalfRestored", message=text)


def _unreadable(workload: Holdable) -> Announce:
    text = (
        f"It carries a hold of Lowtide that can't be read, so nobody knows what to put back: scale it, and remove the "
        f"label {HELD_LABEL} and the annotation {HOLD_ANNOTATION}."
    )
    return Announce(holdable_ref(workload), warning=True, reason="HoldUnreadable", message=text)
