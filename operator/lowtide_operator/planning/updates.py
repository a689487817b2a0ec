"""Whether stopping a workload would change what it comes back as.

Kubernetes starts what was at 0 with one revision, the newest: an update that somebody keeps half-done would be
finished, and of one that is stuck, nothing would be left that works.
"""

from __future__ import annotations

from lowtide_operator.planning.observed import Workload, World

PAUSED = "paused"


def is_half_updated(workload: Workload, world: World) -> bool:
    """Whether some of the workload's pods are of another revision than all would be after a start from 0."""
    if not workload.replicas:
        return False
    if workload.kind != "Deployment":
        return workload.half_updated
    sets = [found for found in world.workloads if _is_revision_of(found, workload)]
    sets.sort(key=lambda found: (found.meta.created, found.meta.name))
    comes_back = next((found for found in sets if found.template == workload.template), None)
    if comes_back is None and workload.update_kept_by == PAUSED and sets:
        comes_back = sets[-1]  # No ReplicaSet is made while it is paused: the one made last is scaled up.
    return any(found.replicas and found is not comes_back for found in sets)


def _is_revision_of(found: Workload, deployment: Workload) -> bool:
    owner = found.meta.controller
    return found.kind == "ReplicaSet" and owner is not None and owner.uid == deployment.meta.uid
