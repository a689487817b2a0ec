"""What the release pod decides: nothing before the deadline, then the same release that the operator would do.

It knows one run. The ledger in the run's status says what to put back; where the run is gone, the holds on the
workloads do. It first takes the run over, which makes every write conflict that an operator which stands still had
planned, and it writes nothing else into the run: an operator that comes back sees what was done by the marks.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from lowtide_operator.api.quiesce import QuiesceLedger
from lowtide_operator.planning.actions import Action, Announce, DeleteJob, DeletePod, Plan, Ref, TakeOver
from lowtide_operator.planning.hold import Hold, Holdable, read_hold
from lowtide_operator.planning.mover_pods import is_lost
from lowtide_operator.planning.naming import API_VERSION, PURPOSE_LABEL, RUN_LABEL, TAKEN_OVER_ANNOTATION
from lowtide_operator.planning.observed import Meta, ObservedArmed, RestoreObject, SnapshotObject, Workload
from lowtide_operator.planning.release import VOLUME_PURPOSES, release, release_patch
from lowtide_operator.planning.run import Run, whole_seconds
from lowtide_operator.planning.stamp import StampState, read_stamp

LEAD = timedelta(seconds=10)
"""How much later than the operator the release pod acts: an operator that is there does it itself, and says so."""

LINGER = timedelta(minutes=5)
"""How long it stays after its work: what an operator sent before it died may still arrive."""

LOOK_EVERY = 15.0


def plan_armed(observed: ObservedArmed, now: datetime) -> Plan:
    """What to do next; look again in `requeue_after` seconds. None: its work is over, the pod may end."""
    now = whole_seconds(now)
    owner = observed.owner
    if _has_begun_to_write(observed):
        return Plan()
    ledger = _open_ledger(owner)
    held = _holds(observed)
    times = [hold.until for _, hold in held] + ([ledger.deadline] if ledger is not None else [])
    if not times:
        return _wait_until(observed.until + LINGER, now) if not _is_done(owner) else Plan()
    due = min(times) + LEAD
    if now < due:
        return _wait_until(due, now)
    if owner is not None and TAKEN_OVER_ANNOTATION not in owner.meta.annotations:
        return Plan((TakeOver(_ref(owner), owner.meta.resource_version, now),), 1.0)
    actions, waits = _release(observed, ledger, held, now)
    if actions or waits:
        return Plan(actions, 2.0)
    return _wait_until(due + LINGER, now)


def _wait_until(moment: datetime, now: datetime) -> Plan:
    """Nothing to do before `moment`; from then on nothing at all."""
    left = (moment - now).total_seconds()
    return Plan((), max(1.0, min(LOOK_EVERY, left)) if left > 0 else None)


def _is_done(owner: SnapshotObject | RestoreObject | None) -> bool:
    """Whether the run will never stop anything again."""
    if owner is None:
        return True
    ledger = owner.status.quiesce
    return owner.status.end_time is not None or (ledger is not None and ledger.released_time is not None)


def _open_ledger(owner: SnapshotObject | RestoreObject | None) -> QuiesceLedger | None:
    """The ledger of a run that stops something now."""
    ledger = owner.status.quiesce if owner is not None and owner.status.end_time is None else None
    if ledger is None or ledger.start_time is None or ledger.released_time is not None:
        return None
    return ledger


def _holds(observed: ObservedArmed) -> list[tuple[Holdable, Hold]]:
    """What this run holds, by what is on it: workloads, then keepers."""
    everything: list[Holdable] = [w for w in observed.world.workloads if not w.meta.controller]
    found = [(each, read_hold(each)) for each in (*everything, *observed.world.keepers)]
    return [(each, hold) for each, hold in found if hold is not None and hold.run == observed.run]


def _has_begun_to_write(observed: ObservedArmed) -> bool:
    """Whether the run is a Restore past its first write: no release may start a workload on a half-restored volume."""
    owner = observed.owner
    if isinstance(owner, RestoreObject):
        return owner.status.first_write_time is not None
    stamps = (read_stamp(claim) for claim in observed.world.claims)
    return owner is None and any(
        stamp is not None and stamp.run == observed.run and stamp.state is StampState.WRITING for stamp in stamps
    )


def _release(
    observed: ObservedArmed, ledger: QuiesceLedger | None, held: list[tuple[Holdable, Hold]], now: datetime
) -> tuple[tuple[Action, ...], bool]:
    """The next steps of the release, and whether it waits for movers that still go."""
    ends = _end_movers(observed, now)
    if ends is not None:
        return tuple(ends), True
    owner, actions, waits = observed.owner, list[Action](), False
    if owner is not None and ledger is not None:
        draft = _draft(owner, observed, now)
        # The admission policy lets this account put back only what a hold says.
        waits = not release(draft, by_ledger=False)
        actions += [action for action in draft.effects if not isinstance(action, Announce)]
    known = {entry.uid for entry in ledger.workloads} if ledger is not None else set()
    loose = [(found, hold) for found, hold in held if found.meta.uid not in known]
    keepers_wait = any(isinstance(found, Workload) for found, _ in held)
    actions += [
        release_patch(found, hold, mark=True)
        for found, hold in loose
        if isinstance(found, Workload) or not keepers_wait
    ]
    return tuple(actions), waits


def _draft(owner: SnapshotObject | RestoreObject, observed: ObservedArmed, now: datetime) -> Run[Any]:
    return Run(
        kind=_ref(owner).kind,
        meta=owner.meta,
        world=observed.world,
        now=now,
        status=owner.status,
        known=None,
    )


def _end_movers(observed: ObservedArmed, now: datetime) -> list[Action] | None:
    """What ends the movers that may have the volumes; None once they are gone. By their labels: the run's status may
    be older than they are."""
    jobs = [job for job in observed.world.jobs if job.meta.labels.get(PURPOSE_LABEL) in VOLUME_PURPOSES]
    pods = [
        pod
        for pod in observed.world.pods
        if pod.meta.labels.get(RUN_LABEL) == observed.run and pod.claims and not is_lost(pod, now)
    ]
    if not jobs and not pods:
        return None
    ends: list[Action] = [DeleteJob(_named("batch/v1", "Job", j.meta)) for j in jobs if j.meta.deleted is None]
    return ends + [DeletePod(_named("v1", "Pod", pod.meta)) for pod in pods if pod.meta.deleted is None]


def _ref(owner: SnapshotObject | RestoreObject) -> Ref:
    return _named(API_VERSION, "Snapshot" if isinstance(owner, SnapshotObject) else "Restore", owner.meta)


def _named(api_version: str, kind: str, meta: Meta) -> Ref:
    return Ref(api_version, kind, meta.namespace, meta.name, meta.uid)
