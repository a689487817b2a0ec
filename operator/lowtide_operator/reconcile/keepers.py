"""Reads the objects by which other tools keep workloads at a count: KEDA's ScaledObjects, Argo CD's Applications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.protocol import Cluster, Manifest
from lowtide_operator.planning import naming
from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.planning.argocd import application_of
from lowtide_operator.planning.observed import Keeper, RestoreObject, SnapshotObject, Workload
from lowtide_operator.reconcile import parse
from lowtide_operator.reconcile.served import get_if_served, is_marked, list_if_served


@dataclass(frozen=True, slots=True)
class Argo:
    """What may be done about Argo CD, and the namespaces of its Applications, its own first."""

    mode: ArgoMode = ArgoMode.REFUSE
    namespaces: tuple[str, ...] = ("argocd",)


NO_ARGO = Argo()

ONE_WAY = frozenset({"autoscaling.keda.sh/paused-scale-in", "autoscaling.keda.sh/paused-scale-out"})
RESTING = "ScaledObject is paused"


async def keepers_of(
    cluster: Cluster, argocd: Argo, workloads: Iterable[Workload], owner: SnapshotObject | RestoreObject
) -> tuple[Keeper, ...]:
    """Every ScaledObject of the run's namespace; and the Applications of these workloads, and those that the run's
    ledger names, where they are ours to pause. Raises ClusterError."""
    scaled = await list_if_served(cluster, kinds.SCALED_OBJECT, owner.meta.namespace)
    found = [scaled_object(body) for body in scaled or ()]
    if argocd.mode is not ArgoMode.PAUSE:
        return tuple(found)
    tracked: dict[tuple[str, str], list[Workload]] = {}
    for workload in workloads:
        named = application_of(workload, argocd.namespaces)
        if named is not None:
            tracked.setdefault(named, []).append(workload)
    for entry in owner.status.quiesce.workloads if owner.status.quiesce is not None else ():
        if entry.kind == kinds.APPLICATION.kind:
            tracked.setdefault((entry.namespace or owner.meta.namespace, entry.name), [])
    for (namespace, name), mine in sorted(tracked.items()):
        if namespace in argocd.namespaces:
            body = await get_if_served(cluster, kinds.APPLICATION, namespace, name)
            found += [application(body, mine)] if body is not None else []
    return tuple(found)


async def paused_keepers(cluster: Cluster, argocd: Argo, namespace: str) -> tuple[Keeper, ...]:
    """What runs in `namespace` hold, or have just let go. Raises ClusterError."""
    scaled = await list_if_served(cluster, kinds.SCALED_OBJECT, namespace)
    found = [scaled_object(body) for body in scaled or () if is_marked(body)]
    return (*found, *await paused_applications(cluster, argocd, namespace))


async def paused_applications(cluster: Cluster, argocd: Argo, namespace: str) -> tuple[Keeper, ...]:
    """What of that is in other namespaces. Raises ClusterError."""
    found: list[Keeper] = []
    of_runs = f"{naming.RUN_NAMESPACE_LABEL}={namespace}"
    for place in argocd.namespaces if argocd.mode is ArgoMode.PAUSE else ():
        bodies = await list_if_served(cluster, kinds.APPLICATION, place, of_runs)
        found += [application(body, ()) for body in bodies or () if is_marked(body)]
    return tuple(found)


def scaled_object(body: Manifest) -> Keeper:
    """A ScaledObject of KEDA, which takes a target without a kind for a Deployment."""
    target = (body.get("spec") or {}).get("scaleTargetRef") or {}
    return Keeper(
        api_version=body["apiVersion"],
        kind=body["kind"],
        meta=parse.meta(body),
        targets=frozenset({(target.get("kind") or "Deployment", target.get("name", ""))}),
        paused=_says_paused(body),
    )


def _says_paused(body: Manifest) -> bool:
    """Whether KEDA says that it scales no more.

    Where a person has paused one direction only it says `Paused` too, and goes on scaling in the other: there the
    message of `Ready` tells whether it has seen that all of it is to rest.
    """
    status = body.get("status") or {}
    halves = ONE_WAY.intersection(body["metadata"].get("annotations") or {})
    resting = any(c["type"] == "Ready" and c.get("message") == RESTING for c in status.get("conditions") or ())
    return parse.is_true(status, "Paused") and (resting or not halves)


def application(body: Manifest, tracked: Iterable[Workload]) -> Keeper:
    """An Application of Argo CD that `tracked` belong to."""
    policy = (body.get("spec") or {}).get("syncPolicy") or {}
    automated = policy.get("automated")
    heals = automated is not None and automated.get("enabled") is not False and bool(automated.get("selfHeal"))
    busy = "operation" in body or ((body.get("status") or {}).get("operationState") or {}).get("phase") == "Running"
    return Keeper(
        api_version=body["apiVersion"],
        kind=body["kind"],
        meta=parse.meta(body),
        targets=frozenset((w.kind, w.meta.name) for w in tracked if heals and not _ignored(body["spec"], policy, w)),
        paused=not busy,
    )


def _ignored(spec: Mapping[str, Any], policy: Mapping[str, Any], workload: Workload) -> bool:
    """Whether the Application leaves the workload's count alone, in diffs and in syncs. Paths are compared as text: one
    that says the same in another way is not seen, and costs a pause that was not needed."""
    if "RespectIgnoreDifferences=true" not in (policy.get("syncOptions") or ()):
        return False
    group, field = workload.api_version.rpartition("/")[0], "suspend" if workload.kind == "CronJob" else "replicas"
    return any(
        rule.get("group", "") in (group, "*")
        and rule.get("kind") in (workload.kind, "*")
        and rule.get("name", "") in ("", workload.meta.name)
        and rule.get("namespace", "") in ("", workload.meta.namespace)
        and (
            f"/spec/{field}" in (rule.get("jsonPointers") or ())
            or f".spec.{field}" in (rule.get("jqPathExpressions") or ())
        )
        for rule in spec.get("ignoreDifferences") or ()
    )
