"""What a run waits for before it stops anything, each for up to quiesce.timeout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from lowtide_operator.planning.gone import left_behind
from lowtide_operator.planning.hold import Holdable
from lowtide_operator.planning.naming import HELD_LABEL
from lowtide_operator.planning.observed import World
from lowtide_operator.planning.users import UPDATE_WAITING, Users


@dataclass(frozen=True, slots=True)
class Wait:
    """`waiting` and `text`: reason and sentence while it lasts. `reason` and `verdict`: those of the run that fails,
    once the time is over."""

    waiting: str
    text: str
    reason: str
    verdict: str


def first_wait(
    claims: frozenset[str], users: Users, stopped: Iterable[Holdable], world: World, now: datetime
) -> Wait | None:
    """The first thing in the way; None where nothing is."""
    if users.running_jobs:
        jobs = ", ".join(users.running_jobs)
        return Wait(
            "WaitingForJob",
            f"Job {jobs} uses a volume of the group; a Job is never stopped half-way.",
            "JobRunning",
            f"Job {jobs} still used a volume of the group after quiesce.timeout: choose a schedule at which it does "
            f"not run, or a longer timeout.",
        )
    if users.updating:
        names = ", ".join(users.updating)
        return Wait(
            "WaitingForUpdate",
            f"{names} is being updated, and is not stopped before all its pods are of the new revision.",
            UPDATE_WAITING,
            f"{names} still had pods of an older revision after quiesce.timeout, and after scaling it down all pods "
            f"would start with the new one: look why the update does not end, and finish or undo it, or allow a longer "
            f"timeout.",
        )
    left = left_behind(claims, world, now)
    if left:
        names = ", ".join(pod.meta.name for pod in left)
        text = (
            f"Pod {names} has ended, but it is not known when, or its node is not ready, so a volume of the group may "
            f"still be mounted. Nothing is stopped."
        )
        pods = " ".join(pod.meta.name for pod in left)
        return Wait(
            "PodInTheWay", text, "PodInTheWay", f"{text} Delete it: kubectl -n {world.namespace} delete pod {pods}"
        )
    held = next((found for found in stopped if HELD_LABEL in found.meta.labels), None)
    if held is not None:
        text = f"{held.kind} {held.meta.name} is still held by a run that is not there any more, or not done."
        verdict = f"{text} Its annotation lowtide.dev/hold says who, and what to put back."
        return Wait("WaitingForRelease", text, "WorkloadHeld", verdict)
    return None
