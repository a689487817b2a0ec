"""A group that was backed up and lost, and what tests ask about its Restore."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lowtide_operator.api import RestoreStatus
from lowtide_operator.api.conditions import find
from lowtide_operator.planning.actions import MoverJob, Purpose
from lowtide_operator.planning.naming import HELD_LABEL, HOLD_ANNOTATION
from tests.property.planning_world import Cluster, Fate, reasons

RUN = ("restore", "back")
MOVER = {"retry": {"limit": 1, "backoff": "5s"}, "deadlines": {"start": "1m"}}


def backed_up(*, attach: bool = False, **policy: Any) -> Cluster:
    """A group of two volumes with one good Snapshot, and then its data is lost."""
    _safety_ids.clear()
    world = Cluster()
    world.add_claim("data", attach=attach)
    world.add_claim("files")
    world.add_workload("StatefulSet", "db", "data")
    world.add_workload("Deployment", "web", "files", replicas=3)
    world.add_policy(**policy)
    world.step()
    world.add_snapshot()
    world.run(("snapshot", "one"))
    assert reasons(world.snapshots["one"].status.conditions)["Ready"][0] == "True"
    world.contents["data"] = "lost"
    return world


def in_place(world: Cluster, **spec: Any) -> None:
    world.add_restore(**{"volumes": [{"claim": "data"}, {"claim": "files"}], "mover": MOVER, **spec})


def status(world: Cluster) -> RestoreStatus:
    return world.restores["back"].status


def outcome(world: Cluster) -> tuple[str, str]:
    return reasons(status(world).conditions)["Ready"]


def message(world: Cluster) -> str:
    condition = find(status(world).conditions, "Ready")
    assert condition is not None
    return condition.message


def counts(world: Cluster) -> dict[str, int | None]:
    return {found.meta.name: found.replicas for found in world.workloads.values()}


def made(world: Cluster, purpose: Purpose) -> list[tuple[str, str]]:
    return [(record.claim, record.role) for record in status(world).jobs if record.purpose == purpose]


def until(world: Cluster, reached: Any) -> None:
    for _ in range(60):
        if reached(world):
            return
        world.step()
        world.reconcile(*RUN)
        world.pass_time(2)
    raise AssertionError(f"never reached: {reasons(status(world).conditions)} {status(world).failure}")


def writing(world: Cluster) -> bool:
    return status(world).first_write_time is not None


def first_restore_fails(job: MoverJob) -> Fate:
    """Restores of the data volume fail; the way back works."""
    wrong = (
        job.purpose is Purpose.RESTORE and job.claim == "data" and job.path in ("/volumes/data", "/volumes/data.img")
    )
    return Fate("failed", reason="Damaged") if wrong and not back(job) else Fate()


def every_restore_fails(job: MoverJob) -> Fate:
    return Fate("failed", reason="Damaged") if job.purpose is Purpose.RESTORE else Fate()


def first_write_of_data(world: Cluster, end: str, then: str = "hang") -> Callable[[MoverJob], Fate]:
    """How the Restore's writes of the data volume end, and those of the way back."""
    stored = {volume.snapshot_id for volume in world.snapshots["one"].status.volumes}

    def fate(job: MoverJob) -> Fate:
        if job.purpose is not Purpose.RESTORE or job.claim != "data":
            return Fate()
        return Fate(end if set(job.snapshot_ids) <= stored else then, reason="Damaged")

    return fate


def data_is_empty(job: MoverJob) -> Fate:
    """The mover of a volume without files, as `lowtide backup --refuse-empty` has it."""
    refused = job.purpose is Purpose.BACKUP and job.claim == "data" and not job.may_be_empty
    return Fate("failed", reason="SourceEmpty") if refused else Fate()


def back(job: MoverJob) -> bool:
    return job.purpose is Purpose.RESTORE and job.snapshot_ids[0] in _safety_ids


def nobody_uses_them(world: Cluster) -> None:
    """A person took the application away: there is nothing to stop."""
    world.workloads.clear()
    world.wanted.clear()
    for pod in list(world.pods.values()):
        world._remove_pod(pod)


def end_the_holds(world: Cluster) -> None:
    """A person does what the condition says."""
    for workload in list(world.workloads.values()):
        labels = {key: value for key, value in workload.meta.labels.items() if key != HELD_LABEL}
        notes = {key: value for key, value in workload.meta.annotations.items() if key != HOLD_ANNOTATION}
        meta = replace(world.touched(workload.meta), labels=labels, annotations=notes)
        world.workloads[workload.meta.uid] = replace(workload, meta=meta)


_safety_ids: set[str] = set()
