"""Which other run must be over before a run may stop workloads: two groups never hold half of each other.

A run first writes its ledger (its intent), and stops nothing until a later observation shows that no other run that
overlaps has one. Whoever writes second sees the first; if both see each other, the younger takes its intent back.
That needs no lock between runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from lowtide_operator.api import RestoreStatus, SnapshotStatus
from lowtide_operator.api.conditions import is_true
from lowtide_operator.api.quiesce import QuiesceLedger, QuiesceStrategy
from lowtide_operator.planning.hooks import hooks_left
from lowtide_operator.planning.naming import FINALIZER
from lowtide_operator.planning.observed import Meta, RestoreObject, SnapshotObject, Uid, World
from lowtide_operator.planning.users import find_users


@dataclass(frozen=True, slots=True)
class OtherRun:
    """An unfinished run beside ours. `busy`: it has an intent, or (strategy None) reads or writes already."""

    called: str
    uid: Uid
    created: datetime
    claims: frozenset[str]
    ledger: QuiesceLedger | None
    busy: bool


def first_in_the_way(meta: Meta, claims: frozenset[str], workloads: frozenset[Uid], world: World) -> OtherRun | None:
    """The first unfinished run that must be over before the run `meta` may write an intent or stop anything; None if
    none.

    That is one which overlaps in a claim or a workload and is older, or has an intent itself.
    """
    for other in sorted(_unfinished(world), key=lambda other: (other.created, other.uid)):
        if other.uid == meta.uid or not _overlaps(other, claims, workloads, world):
            continue
        if other.busy or is_older(other, meta):
            return other
    return None


def is_older(other: OtherRun, meta: Meta) -> bool:
    """Whether `other` goes first."""
    return (other.created, other.uid) < (meta.created, meta.uid)


def _unfinished(world: World) -> Iterator[OtherRun]:
    """The runs that stop, read or write something, or will, and those whose hooks have yet to undo something. A Restore
    past its first write goes on when it fails or is deleted. One that is not resolved may wait for ours, and stops
    nothing without seeing our intent: it is in nobody's way."""
    runs: tuple[SnapshotObject | RestoreObject, ...] = (*world.snapshots, *world.restores)
    for run in runs:
        status, ledger = run.status, run.status.quiesce
        deleting = run.meta.deleted is not None
        if (
            status.resolved is None
            or status.end_time is not None
            or (deleting and FINALIZER not in run.meta.finalizers)
        ):
            continue
        writes = isinstance(status, RestoreStatus) and status.first_write_time is not None
        if ledger is not None:
            over = ledger.released_time is not None
        else:
            over = not writes and (deleting or status.failure is not None or is_true(status.conditions, "Captured"))
        if over and not (isinstance(status, SnapshotStatus) and hooks_left(status)):
            continue
        kind = "Snapshot" if isinstance(run, SnapshotObject) else "Restore"
        busy = over or writes or ledger is not None or is_true(status.conditions, "Quiesced")
        yield OtherRun(f"{kind} {run.meta.name}", run.meta.uid, run.meta.created, _claims(run), ledger, busy)


def _claims(run: SnapshotObject | RestoreObject) -> frozenset[str]:
    if run.status.resolved is None:
        return frozenset()
    if isinstance(run, SnapshotObject):
        return frozenset(volume.claim for volume in run.status.resolved.volumes)
    return frozenset(volume.target for volume in run.status.resolved.volumes)


def _overlaps(other: OtherRun, claims: frozenset[str], workloads: frozenset[Uid], world: World) -> bool:
    if claims & other.claims:
        return True
    named = {entry.uid for entry in other.ledger.workloads} if other.ledger is not None else set()
    found = {workload.meta.uid for _, workload in find_users(other.claims, (), world).workloads}
    return bool(workloads & (named | found))


def stops_something(strategy: QuiesceStrategy) -> bool:
    """Whether the strategy has a ledger at all."""
    return strategy is QuiesceStrategy.SCALE_DOWN
