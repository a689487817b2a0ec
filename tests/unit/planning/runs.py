"""A group of two volumes, and what tests ask about its run."""

from typing import Any

from lowtide_operator.api.conditions import find
from lowtide_operator.api.snapshot import SnapshotStatus
from lowtide_operator.planning.observed import Workload
from tests.property.planning_world import Cluster, Fate, reasons

RUN = ("snapshot", "one")


def cluster(*, attach: bool = False, snapshot: bool = True, **policy: Any) -> Cluster:
    world = Cluster()
    world.add_claim("data", attach=attach)
    world.add_claim("files")
    world.add_workload("StatefulSet", "db", "data")
    world.add_workload("Deployment", "web", "files", replicas=3)
    world.add_policy(**{"mover": {"retry": {"limit": 1, "backoff": "5s"}}, **policy})
    world.step()
    world.step()
    if snapshot:
        world.add_snapshot()
    return world


def status(world: Cluster) -> SnapshotStatus:
    return world.snapshots["one"].status


def outcome(world: Cluster) -> tuple[str, str]:
    return reasons(status(world).conditions)["Ready"]


def failure(world: Cluster) -> str:
    failed = status(world).failure
    return failed.reason if failed is not None else ""


def message(world: Cluster) -> str:
    condition = find(status(world).conditions, "Ready")
    assert condition is not None
    return condition.message


def workload(world: Cluster, name: str) -> Workload:
    return next(found for found in world.workloads.values() if found.meta.name == name)


def counts(world: Cluster) -> dict[str, int | None]:
    return {found.meta.name: found.replicas for found in world.workloads.values()}


def until(world: Cluster, reached: Any, *, seconds: float = 2) -> None:
    """Go on until `reached(world)`."""
    for _ in range(60):
        if reached(world):
            return
        world.step()
        world.reconcile(*RUN)
        world.pass_time(seconds)
    raise AssertionError(f"never reached: {reasons(status(world).conditions)} {status(world).failure}")


def gone(world: Cluster) -> bool:
    ledger = status(world).quiesce
    return ledger is not None and ledger.gone_time is not None


def down(world: Cluster) -> bool:
    return bool(world.held())


def fates(world: Cluster, **by_purpose: Fate) -> None:
    world.fate = lambda job: by_purpose.get(job.purpose.value, Fate())


def jobs_made(world: Cluster, purpose: str) -> int:
    return len([record for record in status(world).jobs if record.purpose == purpose])
