"""Reads what a plan is made from, live, and hands it over as frozen values.

The run itself is read first, everything else after it: what a plan rests on is never older than the resourceVersion
that guards its writes. Any read that fails fails the whole: an empty field would look like a cluster in which nothing
is left to put back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from lowtide_operator.api.mover import Privilege
from lowtide_operator.api.policy import Capture, CaptureMethod
from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import ClusterError, Forbidden
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.protocol import Cluster, Manifest
from lowtide_operator.planning import naming
from lowtide_operator.planning.actions import Purpose
from lowtide_operator.planning.observed import (
    Claim,
    ObservedGoing,
    ObservedOrphans,
    ObservedPolicy,
    ObservedRestore,
    ObservedSnapshot,
    RestoreObject,
    SnapshotObject,
    World,
)
from lowtide_operator.planning.observed_copies import VolumeSnapshot
from lowtide_operator.planning.observed_pods import MoverProgress, Pod
from lowtide_operator.reconcile import mover_log, parse
from lowtide_operator.reconcile.keepers import NO_ARGO, Argo, keepers_of, paused_applications, paused_keepers
from lowtide_operator.reconcile.keys import KIND_OF, Key, Subject
from lowtide_operator.reconcile.served import is_going, is_marked, label, list_if_served

T = TypeVar("T")

MOVER = "mover"
PRIVILEGED_ANNOTATION = "lowtide.dev/privileged-movers"
AT_ONCE = 8
TELLING = frozenset({Purpose.BACKUP, Purpose.RESTORE, Purpose.STREAM})
"""Movers that tell how far they are as long as they run: one that never says anything stands still."""
LOG_LINES = 20
LOG_BYTES = 16 * 1024
TEMPLATED = (
    kinds.DEPLOYMENT,
    kinds.STATEFUL_SET,
    kinds.REPLICA_SET,
    kinds.DAEMON_SET,
    kinds.REPLICATION_CONTROLLER,
    kinds.JOB,
    kinds.CRON_JOB,
)
OURS = (kinds.BACKUP_POLICY, kinds.SNAPSHOT, kinds.RESTORE)
HOLDABLE = (kinds.DEPLOYMENT, kinds.STATEFUL_SET, kinds.REPLICA_SET, kinds.CRON_JOB)

Observed = ObservedPolicy | ObservedSnapshot | ObservedRestore | ObservedOrphans | ObservedGoing


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was read: the planner's input, the object's own JSON (None for orphans), and the API server's time then."""

    observed: Observed
    body: Manifest | None
    now: datetime


class Gatherer:
    """Reads for all subjects. `cluster_uid` is what tags and lock holders carry; in `own_namespace` are release
    pods; `streams_allowed` is what the chart says; in `exec_namespaces` commands may be executed in pods."""

    def __init__(
        self,
        cluster: Cluster,
        cluster_uid: str,
        own_namespace: str,
        argocd: Argo = NO_ARGO,
        *,
        streams_allowed: bool = False,
        exec_namespaces: Collection[str] = (),
    ) -> None:
        self._cluster = cluster
        self.argocd = argocd
        self._cluster_uid = cluster_uid
        self._own_namespace = own_namespace
        self._streams_allowed = streams_allowed
        self._exec_namespaces = frozenset(exec_namespaces)
        self._parsed: dict[str, tuple[str, Any]] = {}

    async def gather(self, key: Key) -> Gathered | None:
        """Everything that the planner of `key` may know; None where the object is gone.

        Raises ClusterError, and InvalidObject where the object's own status can't be read.
        """
        try:
            return await self._whole(key)
        except Forbidden:
            if not await is_going(self._cluster, key.namespace):
                raise
            return await self._going(key)

    async def _going(self, key: Key) -> Gathered | None:
        """What can be known in a namespace that is being deleted, or is, where the rights are gone with their
        RoleBinding: what this namespace's runs left elsewhere, and the runs themselves."""
        if key.subject is Subject.ORPHANS:
            keepers = await paused_applications(self._cluster, self.argocd, key.namespace)
            return Gathered(ObservedOrphans(key.namespace, keepers=keepers), None, self._cluster.now())
        if key.subject is Subject.POLICY:
            return None
        body = await self._cluster.get(KIND_OF[key.subject], key.namespace, key.name)
        if body is None:
            return None
        of_run = f"{naming.RELEASE_OF_LABEL}={body['metadata']['uid']}"
        jobs = await self._cluster.list(kinds.JOB, self._own_namespace, labels=of_run)
        going = ObservedGoing(key.subject, parse.meta(body), tuple(parse.mover_job(job) for job in jobs))
        return Gathered(going, body, self._cluster.now())

    async def _whole(self, key: Key) -> Gathered | None:
        if key.subject is Subject.ORPHANS:
            return await self._orphans(key.namespace)
        body = await self._cluster.get(KIND_OF[key.subject], key.namespace, key.name)
        if body is None:
            return None
        observed: Observed
        match key.subject:
            case Subject.POLICY:
                own = parse.policy(body, strict=True)
                bodies = await self._cluster.list(kinds.SNAPSHOT, key.namespace)
                asks = own.spec is not None and own.spec.mover.privilege is Privilege.ELEVATED
                place = await self._cluster.get(kinds.NAMESPACE, None, key.namespace) if asks else None
                observed = ObservedPolicy(
                    own,
                    self._snapshots(bodies),
                    streams_allowed=self._streams_allowed,
                    exec_allowed=key.namespace in self._exec_namespaces,
                    elevated_allowed=_elevated_allowed(place),
                )
            case Subject.SNAPSHOT:
                run = parse.snapshot(body, strict=True)
                world = await self._world(key.namespace, run)
                observed = ObservedSnapshot(run, await self._with_copies(world, run))
            case _:
                back = parse.restore(body, strict=True)
                observed = ObservedRestore(back, await self._world(key.namespace, back))
        return Gathered(observed, body, self._cluster.now())

    async def _world(self, namespace: str, owner: SnapshotObject | RestoreObject) -> World:
        run = owner.meta.uid
        of_run = f"{naming.RELEASE_OF_LABEL}={run}"
        # Before the workloads: where a pod came back, they tell who started it.
        pods = await self._cluster.list(kinds.POD, namespace)
        place, lists, release_jobs, release_pods = await asyncio.gather(
            self._cluster.get(kinds.NAMESPACE, None, namespace),
            self._lists(namespace, kinds.CLAIM, *OURS, *TEMPLATED),
            self._cluster.list(kinds.JOB, self._own_namespace, labels=of_run),
            self._cluster.list(kinds.POD, self._own_namespace, labels=of_run),
        )
        claims = lists[kinds.CLAIM]
        jobs = [body for body in lists[kinds.JOB] if label(body, naming.RUN_LABEL) == run]
        bound = [body["spec"]["volumeName"] for body in claims if (body.get("spec") or {}).get("volumeName")]
        seen = tuple(parse.pod(body) for body in pods)
        mounting = {pod.node for pod in seen if pod.claims}
        volumes, nodes, progress = await asyncio.gather(
            self._volumes(bound),
            self._each(kinds.NODE, mounting - {""}),
            self._progress(namespace, [pod for pod in seen if pod.meta.labels.get(naming.RUN_LABEL) == run]),
        )
        workloads = tuple(parse.workload(body) for kind in TEMPLATED for body in lists[kind])
        keepers = await keepers_of(self._cluster, self.argocd, workloads, owner)
        drivers = await self._each(kinds.CSI_DRIVER, {_driver(body) for body in volumes} - {""})
        by_name = {body["metadata"]["name"]: body for body in drivers}
        parsed_volumes = tuple(parse.volume(body, by_name.get(_driver(body))) for body in volumes)
        attachments: list[Manifest] = []
        if any(volume.attach_required for volume in parsed_volumes):
            attachments = await self._cluster.list(kinds.VOLUME_ATTACHMENT, None)
        return World(
            namespace=namespace,
            cluster=self._cluster_uid,
            namespace_terminating=place is None or "deletionTimestamp" in place["metadata"],
            elevated_allowed=_elevated_allowed(place),
            streams_allowed=self._streams_allowed,
            exec_allowed=namespace in self._exec_namespaces,
            pods=tuple(replace(pod, progress=progress.get(pod.meta.name)) for pod in seen),
            workloads=workloads,
            keepers=keepers,
            argocd=self.argocd.mode,
            argocd_namespaces=self.argocd.namespaces,
            claims=tuple(parse.claim(body) for body in claims),
            volumes=parsed_volumes,
            attachments=tuple(
                found
                for found in map(parse.attachment, attachments)
                if found.volume in {v.name for v in parsed_volumes}
            ),
            nodes=tuple(parse.node(body) for body in nodes),
            jobs=tuple(parse.mover_job(body) for body in jobs),
            release_jobs=tuple(parse.mover_job(body) for body in release_jobs),
            release_pods=tuple(parse.pod(body) for body in release_pods),
            policies=tuple(self._once(body, parse.policy) for body in lists[kinds.BACKUP_POLICY]),
            snapshots=self._snapshots(lists[kinds.SNAPSHOT]),
            restores=self._restores(lists[kinds.RESTORE]),
        )

    async def _with_copies(self, world: World, run: SnapshotObject) -> World:
        """What a run by copies must know beside the rest: their classes, its VolumeSnapshots, and what is wrong with
        claims that are not bound."""
        capture = _capture_of(world, run)
        if capture is None or capture.method is CaptureMethod.DIRECT:
            return world
        named = {claim.storage_class for claim in world.claims} | {capture.storage_class_name or ""}
        storage = await self._each(kinds.STORAGE_CLASS, named - {""})
        world = replace(world, storage_classes=tuple(parse.storage_class(body) for body in storage))
        own = f"{naming.COPY_LABEL},{naming.RUN_LABEL}={run.meta.uid}"
        if capture.method is CaptureMethod.SNAPSHOT:
            taken = await list_if_served(self._cluster, kinds.VOLUME_SNAPSHOT, world.namespace, own)
            classes = await list_if_served(self._cluster, kinds.VOLUME_SNAPSHOT_CLASS, None)
            world = replace(
                world,
                snapshots_served=taken is not None and classes is not None,
                volume_snapshots=tuple(parse.volume_snapshot(body) for body in taken or ()),
                snapshot_classes=tuple(parse.snapshot_class(body) for body in classes or ()),
            )
        elif capture.method is CaptureMethod.GROUP_SNAPSHOT:
            groups = await list_if_served(self._cluster, kinds.GROUP_SNAPSHOT, world.namespace, own)
            # After the groups: members are made before their group says that it is ready.
            taken = await list_if_served(self._cluster, kinds.VOLUME_SNAPSHOT, world.namespace)
            classes = await list_if_served(self._cluster, kinds.GROUP_SNAPSHOT_CLASS, None)
            name = naming.group_snapshot_name(run.meta.uid)
            world = replace(
                world,
                snapshots_served=None not in (groups, taken, classes),
                group_snapshots=tuple(parse.group_snapshot(body) for body in groups or ()),
                volume_snapshots=tuple(s for s in map(parse.volume_snapshot, taken or ()) if _is_member(s, name)),
                snapshot_classes=tuple(parse.snapshot_class(body) for body in classes or ()),
            )
        claims = [await self._with_trouble(claim, run.meta.uid) for claim in world.claims]
        return replace(world, claims=tuple(claims))

    async def _with_trouble(self, claim: Claim, run: str) -> Claim:
        labels = claim.meta.labels
        if naming.COPY_LABEL not in labels or labels.get(naming.RUN_LABEL) != run or claim.phase == "Bound":
            return claim
        about = f"involvedObject.uid={claim.meta.uid}"
        events = await self._cluster.list(kinds.EVENT, claim.meta.namespace, fields=about)
        return replace(claim, trouble=parse.trouble(events))

    async def _orphans(self, namespace: str) -> Gathered:
        # Keepers, then workloads, then runs: a run is older than its holds and its marks, and a keeper's is the last
        # that ends.
        keepers = await paused_keepers(self._cluster, self.argocd, namespace)
        lists = await self._lists(namespace, *HOLDABLE)
        marked = await self._cluster.list(kinds.CLAIM, namespace, labels=naming.GROUP_SNAPSHOT_LABEL)
        lists |= await self._lists(namespace, kinds.POD, kinds.CLAIM, kinds.SNAPSHOT, kinds.RESTORE)
        taken = await list_if_served(self._cluster, kinds.VOLUME_SNAPSHOT, namespace, naming.COPY_LABEL)
        groups = await list_if_served(self._cluster, kinds.GROUP_SNAPSHOT, namespace, naming.COPY_LABEL)
        observed = ObservedOrphans(
            namespace=namespace,
            workloads=tuple(parse.workload(body) for kind in HOLDABLE for body in lists[kind] if is_marked(body)),
            keepers=keepers,
            pods=tuple(parse.pod(body) for body in lists[kinds.POD]),
            claims=tuple(parse.claim(body) for body in lists[kinds.CLAIM]),
            snapshots=self._snapshots(lists[kinds.SNAPSHOT]),
            restores=self._restores(lists[kinds.RESTORE]),
            volume_snapshots=tuple(parse.volume_snapshot(body) for body in taken or ()),
            group_snapshots=tuple(parse.group_snapshot(body) for body in groups or ()),
            marked_claims=tuple(parse.claim(body) for body in marked),
        )
        return Gathered(observed, None, self._cluster.now())

    async def _lists(self, namespace: str, *wanted: Kind) -> dict[Kind, list[Manifest]]:
        """Every object of these kinds in the namespace."""
        found = await asyncio.gather(*(self._cluster.list(kind, namespace) for kind in wanted))
        return dict(zip(wanted, found, strict=True))

    def _snapshots(self, bodies: Iterable[Manifest]) -> tuple[SnapshotObject, ...]:
        return tuple(self._once(body, parse.snapshot) for body in bodies)

    def _restores(self, bodies: Iterable[Manifest]) -> tuple[RestoreObject, ...]:
        return tuple(self._once(body, parse.restore) for body in bodies)

    async def _volumes(self, names: Iterable[str]) -> list[Manifest]:
        return await self._each(kinds.VOLUME, set(names))

    async def _each(self, kind: Kind, names: Iterable[str]) -> list[Manifest]:
        """The cluster's objects of these names; those that are not there are left out."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> Manifest | None:
            async with gate:
                return await self._cluster.get(kind, None, name)

        found = await asyncio.gather(*(one(name) for name in sorted(names)))
        return [body for body in found if body is not None]

    async def _progress(self, namespace: str, pods: Iterable[Pod]) -> dict[str, MoverProgress]:
        """By pod: how far its mover is. A log that can't be read tells nothing, and fails nothing."""
        began = {
            pod.meta.name: pod.began if pod.meta.labels.get(naming.PURPOSE_LABEL) in TELLING else None
            for pod in pods
            if pod.phase == "Running" and any(container.name == MOVER for container in pod.containers)
        }

        async def one(name: str) -> tuple[str, MoverProgress | None]:
            try:
                log = await self._cluster.log(namespace, name, MOVER, tail_lines=LOG_LINES, limit_bytes=LOG_BYTES)
            except ClusterError:
                return name, None
            progress = mover_log.mover_progress(log, began[name])
            return name, None if progress is None else replace(progress, last_words=mover_log.last_words(log))

        told = await asyncio.gather(*(one(name) for name in began))
        return {name: progress for name, progress in told if progress is not None}

    def _once(self, body: Manifest, read: Callable[[Manifest], T]) -> T:
        """`read(body)`, remembered while this is the object's resourceVersion: parsing costs more than asking."""
        uid, version = body["metadata"]["uid"], body["metadata"]["resourceVersion"]
        known = self._parsed.get(uid)
        if known is not None and known[0] == version:
            found: T = known[1]
            return found
        fresh = read(body)
        self._parsed[uid] = (version, fresh)
        return fresh

    def forget_except(self, uids: set[str]) -> None:
        """Drop what is remembered of objects that are not among `uids`."""
        self._parsed = {uid: entry for uid, entry in self._parsed.items() if uid in uids}


def _capture_of(world: World, run: SnapshotObject) -> Capture | None:
    """What the run goes by, or will once it is resolved."""
    if run.status.resolved is not None:
        return run.status.resolved.capture
    name = run.spec.policy_name if run.spec is not None else ""
    policy = next((policy for policy in world.policies if policy.meta.name == name), None)
    return policy.spec.capture if policy is not None and policy.spec is not None else None


def _elevated_allowed(namespace: Manifest | None) -> bool:
    annotations = (namespace or {"metadata": {}})["metadata"].get("annotations") or {}
    return bool(annotations.get(PRIVILEGED_ANNOTATION) == "true")


def _is_member(snapshot: VolumeSnapshot, group: str) -> bool:
    return any(owner.kind == kinds.GROUP_SNAPSHOT.kind and owner.name == group for owner in snapshot.meta.owners)


def _driver(body: Manifest) -> str:
    driver: str = ((body.get("spec") or {}).get("csi") or {}).get("driver", "")
    return driver
