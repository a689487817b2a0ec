"""Reads what the release pod of one run decides by: no more than its account may see."""

from __future__ import annotations

import asyncio
from datetime import datetime

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.protocol import Cluster
from lowtide_operator.planning import naming
from lowtide_operator.planning.actions import Ref
from lowtide_operator.planning.observed import ObservedArmed, RestoreObject, SnapshotObject, World
from lowtide_operator.reconcile import parse
from lowtide_operator.reconcile.gather import HOLDABLE
from lowtide_operator.reconcile.keepers import NO_ARGO, Argo, paused_keepers

RUN_KINDS = {"Snapshot": kinds.SNAPSHOT, "Restore": kinds.RESTORE}


async def gather_armed(cluster: Cluster, run: Ref, until: datetime, argocd: Argo = NO_ARGO) -> ObservedArmed:
    """The run, read first, and what is in its namespace. Raises ClusterError where anything can't be read."""
    body = await cluster.get(RUN_KINDS[run.kind], run.namespace, run.name)
    owner: SnapshotObject | RestoreObject | None = None
    if body is not None and body["metadata"]["uid"] == run.uid:
        owner = parse.snapshot(body) if run.kind == "Snapshot" else parse.restore(body)
    keepers = await paused_keepers(cluster, argocd, run.namespace)
    of_run = f"{naming.RUN_LABEL}={run.uid}"
    pods, claims, jobs, *workloads = await asyncio.gather(
        cluster.list(kinds.POD, run.namespace, labels=of_run),
        cluster.list(kinds.CLAIM, run.namespace),
        cluster.list(kinds.JOB, run.namespace, labels=of_run),
        *(cluster.list(kind, run.namespace) for kind in HOLDABLE),
    )
    world = World(
        namespace=run.namespace,
        pods=tuple(parse.pod(pod) for pod in pods),
        claims=tuple(parse.claim(claim) for claim in claims),
        jobs=tuple(parse.mover_job(job) for job in jobs),
        keepers=keepers,
        workloads=tuple(parse.workload(workload) for found in workloads for workload in found),
    )
    return ObservedArmed(run.uid, until, owner, world)
