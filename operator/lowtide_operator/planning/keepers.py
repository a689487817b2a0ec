"""Which keepers must be paused before workloads are stopped: they stand first in the ledger, so that they are the first
to be held and the last that go on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from lowtide_operator.api.quiesce import HeldState, LedgerEntry
from lowtide_operator.planning.naming import HELD_LABEL, RELEASED_ANNOTATION
from lowtide_operator.planning.observed import Keeper, Workload, World
from lowtide_operator.planning.run import Run, S
from lowtide_operator.planning.switches import switches_of, unreadable
from lowtide_operator.planning.users import Refusal

ORDER = -1
"""The order of keepers in the ledger, before that of every workload."""

PAUSED_WITHIN = timedelta(seconds=30)
"""How long a tool may take to say that it is paused, before workloads are stopped all the same: one that does not run
says nothing, and starts nothing."""


def keepers_of(workloads: Iterable[Workload], world: World) -> tuple[Keeper, ...]:
    """The keepers of these workloads, those excepted that somebody has paused already. A run of ours that has is to be
    waited for."""
    wanted = {(workload.kind, workload.meta.name) for workload in workloads}
    found = [k for k in world.keepers if wanted & k.targets and (switches_of(k) or _is_marked(k))]
    return tuple(sorted(found, key=lambda keeper: (keeper.kind, keeper.meta.name)))


def _is_marked(keeper: Keeper) -> bool:
    return HELD_LABEL in keeper.meta.labels or RELEASED_ANNOTATION in keeper.meta.annotations


def refusals_of(keepers: tuple[Keeper, ...]) -> tuple[Refusal, ...]:
    """Why keepers can't be paused."""
    found = [refusal for keeper in keepers if (refusal := keeper_refusal(keeper)) is not None]
    names: set[tuple[str, str]] = set()
    for keeper in keepers:
        if (keeper.kind, keeper.meta.name) in names:
            text = f"Two {keeper.kind}s are called {keeper.meta.name}, and a ledger can't tell them apart: rename one."
            found.append(Refusal("SameName", text))
        names.add((keeper.kind, keeper.meta.name))
    return tuple(found)


def keeper_refusal(keeper: Keeper) -> Refusal | None:
    """Why this keeper can't be paused, if so."""
    owner = next((owner for owner in keeper.meta.owners if owner.kind == "ApplicationSet"), None)
    if owner is not None:
        return Refusal(
            "ApplicationManaged",
            f"Application {keeper.meta.name} would put the count back, and ApplicationSet {owner.name}, which makes "
            f"it, takes away the annotation that pauses it: let the Application's ignoreDifferences cover "
            f"/spec/replicas (CronJobs: /spec/suspend), with the sync option RespectIgnoreDifferences=true.",
        )
    odd = unreadable(switches_of(keeper))
    if not odd:
        return None
    return Refusal(
        "SwitchNotUnderstood",
        f"{keeper.kind} {keeper.meta.name} has the annotation {odd} with a value that its tool does not document, so "
        f"it could not be put back for sure after the run: correct or remove it.",
    )


def keeper_entry(keeper: Keeper, namespace: str) -> LedgerEntry:
    """The ledger's entry for it, of a run in `namespace`."""
    return LedgerEntry(
        api_version=keeper.api_version,
        kind=keeper.kind,
        namespace=None if keeper.meta.namespace == namespace else keeper.meta.namespace,
        name=keeper.meta.name,
        uid=keeper.meta.uid,
        order=ORDER,
        switches=switches_of(keeper),
    )


def is_keeper(entry: LedgerEntry) -> bool:
    """Whether the entry is of a keeper."""
    return entry.order == ORDER


def still_awake(run: Run[S], entries: Iterable[LedgerEntry]) -> tuple[str, ...]:
    """The held keepers whose tool has not said yet that it is paused, and may still do so."""
    return tuple(
        f"{entry.kind} {entry.name}"
        for entry in entries
        if is_keeper(entry)
        and entry.state is HeldState.HELD
        and entry.held_at is not None
        and run.now < entry.held_at + PAUSED_WITHIN
        and any(keeper.meta.uid == entry.uid and not keeper.paused for keeper in run.world.keepers)
    )
