"""A small cluster in pure Python: it applies plans with Kubernetes' preconditions, and plays everyone else.

Controllers, kubelets and movers act only in `step`, people and faults only when a test says so. Nothing here is random.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from lowtide_operator.api import (
    BackupPolicySpec,
    BackupPolicyStatus,
    RestoreSpec,
    RestoreStatus,
    SnapshotSpec,
    SnapshotStatus,
)
from lowtide_operator.planning import actions as act
from lowtide_operator.planning.allowed import ArgoMode
from lowtide_operator.planning.armed import plan_armed
from lowtide_operator.planning.naming import (
    COPY_LABEL,
    GROUP_SNAPSHOT_LABEL,
    HELD_LABEL,
    HOLD_ANNOTATION,
    RELEASE_OF_LABEL,
    RUN_LABEL,
    TAKEN_OVER_ANNOTATION,
    group_snapshot_name,
)
from lowtide_operator.planning.observed import (
    Attachment,
    Claim,
    Keeper,
    Meta,
    MoverJobSeen,
    Node,
    ObservedArmed,
    ObservedOrphans,
    ObservedPolicy,
    ObservedRestore,
    ObservedSnapshot,
    Owner,
    PolicyObject,
    RestoreObject,
    SnapshotObject,
    Uid,
    Volume,
    Workload,
    World,
)
from lowtide_operator.planning.observed_copies import GroupSnapshot, SnapshotClass, StorageClass, VolumeSnapshot
from lowtide_operator.planning.observed_pods import Pod
from lowtide_operator.planning.orphans import plan_orphans
from lowtide_operator.planning.policy import plan_policy
from lowtide_operator.planning.restore import plan_restore
from lowtide_operator.planning.snapshot import plan_snapshot
from tests.property.planning_others import (
    REPOSITORY,
    SPACE,
    START,
    Conflict,
    Fate,
    Mover,
    Others,
    Stored,
    mounted,
    streamed,
)

__all__ = ["REPOSITORY", "SPACE", "START", "Cluster", "Conflict", "Fate", "reasons"]


class Cluster(Others):
    """The world. Objects are the frozen values that planners see; every change gives them a new resourceVersion."""

    def __init__(self) -> None:
        self.now = START
        self.numbers = itertools.count(1)
        self.policies: dict[str, PolicyObject] = {}
        self.snapshots: dict[str, SnapshotObject] = {}
        self.restores: dict[str, RestoreObject] = {}
        self.workloads: dict[Uid, Workload] = {}
        self.keepers: dict[Uid, Keeper] = {}
        self.keeper_sleeps = False
        self.argocd = ArgoMode.REFUSE
        self.pods: dict[Uid, Pod] = {}
        self.claims: dict[str, Claim] = {}
        self.volumes: dict[str, Volume] = {}
        self.attachments: set[Attachment] = set()
        self.nodes: dict[str, Node] = {"node-a": Node("node-a", True)}
        self.jobs: dict[Uid, MoverJobSeen] = {}
        self.movers: dict[Uid, Mover] = {}
        self.repository: dict[str, Stored] = {}
        self.forgotten: list[str] = []
        self.contents: dict[str, str] = {}
        self.fate: Callable[[act.MoverJob | act.HookJob], Fate] = lambda job: Fate()
        self.hooked: list[tuple[str, tuple[str, ...]]] = []
        self.exec_allowed = True
        self.elevated_allowed = False
        self.log: list[str] = []
        self.events: list[act.Announce] = []
        self.wanted: dict[Uid, int] = {}
        self.repository_id = REPOSITORY
        self.namespace_terminating = False
        self.streams_allowed = True
        self.stuck: set[Uid] = set()
        self.trespassed = False
        self.release_jobs: dict[Uid, MoverJobSeen] = {}
        self.release_pods: dict[Uid, Pod] = {}
        self.release_ready = True
        self.watches: dict[Uid, act.ReleaseJob] = {}
        self.held_since: dict[Uid, datetime] = {}
        self.storage_classes = [StorageClass("standard", "csi.example")]
        self.snapshot_classes = [SnapshotClass("snapshots", "csi.example")]
        self.snapshots_served = True
        self.taken: dict[str, VolumeSnapshot] = {}
        self.groups: dict[str, GroupSnapshot] = {}
        self.grouped: dict[str, act.CreateGroupSnapshot] = {}
        self.settled: dict[str, list[str]] = {}
        self.copied: dict[str, act.CreateVolumeSnapshot | act.CreateCopy] = {}
        self.torn_copies: set[str] = set()
        self.trouble = ""

    # --- making things

    def meta(self, name: str, **more: Any) -> Meta:
        number = next(self.numbers)
        return Meta(SPACE, name, Uid(f"uid-{number:05d}"), f"{number}", self.now, **{"generation": 1, **more})

    def touched(self, meta: Meta, *, spec: bool = False, **more: Any) -> Meta:
        return replace(
            meta, resource_version=f"{next(self.numbers)}", generation=meta.generation + (1 if spec else 0), **more
        )

    def add_claim(self, name: str, *, attach: bool = False, **more: Any) -> Claim:
        claim = Claim(
            self.meta(name, labels=more.pop("labels", {})),
            "Bound",
            volume=f"pv-{name}",
            **{"access_modes": ("ReadWriteOnce",), "size": "1Gi", "storage_class": "standard", **more},
        )
        self.claims[name] = claim
        self.volumes[f"pv-{name}"] = Volume(f"pv-{name}", "csi.example", attach)
        self.contents[name] = f"data of {name}"
        return claim

    def add_workload(self, kind: str, name: str, *claims: str, replicas: int = 1, **more: Any) -> Workload:
        owners = more.pop("owners", ())
        api = "batch/v1" if kind in ("Job", "CronJob") else "apps/v1"
        counted = None if kind in ("Job", "CronJob", "DaemonSet") else replicas
        workload = Workload(api, kind, self.meta(name, owners=owners), replicas=counted, claims=claims, **more)
        self.workloads[workload.meta.uid] = workload
        if counted is not None and not owners:
            self.wanted[workload.meta.uid] = replicas
        return workload

    def add_keeper(self, name: str, *targets: tuple[str, str], **annotations: str) -> Keeper:
        """A ScaledObject of KEDA."""
        meta = self.meta(name, annotations=annotations)
        keeper = Keeper("keda.sh/v1alpha1", "ScaledObject", meta, frozenset(targets))
        self.keepers[meta.uid] = keeper
        return keeper

    def add_policy(self, name: str = "db", **spec: Any) -> PolicyObject:
        body = {
            "repository": {"secretName": "repo"},
            "volumes": {"claims": sorted(self.claims)},
            "capture": {"method": "Direct"},
            **spec,
        }
        policy = PolicyObject(self.meta(name), BackupPolicySpec.model_validate(body), BackupPolicyStatus())
        self.policies[name] = policy
        return policy

    def add_snapshot(self, name: str = "one", **spec: Any) -> SnapshotObject:
        more = {key: spec.pop(key) for key in ("labels", "annotations") if key in spec}
        body = SnapshotSpec.model_validate({"policyName": "db", **spec})
        snapshot = SnapshotObject(self.meta(name, **more), body, SnapshotStatus())
        self.snapshots[name] = snapshot
        return snapshot

    def add_restore(self, name: str = "back", **spec: Any) -> RestoreObject:
        body = {"source": {"snapshotName": "one"}, "overwrite": "Mirror", **spec}
        restore = RestoreObject(self.meta(name), RestoreSpec.model_validate(body), RestoreStatus())
        self.restores[name] = restore
        return restore

    def add_pod(self, name: str, *claims: str, owner: Workload | MoverJobSeen | None = None, **more: Any) -> Pod:
        owners: tuple[Owner, ...] = ()
        if isinstance(owner, Workload):
            owners = (Owner(owner.api_version, owner.kind, owner.meta.name, owner.meta.uid, True),)
        elif owner is not None:
            owners = (Owner("batch/v1", "Job", owner.meta.name, owner.meta.uid, True),)
        meta = self.meta(name, owners=owners, labels=more.pop("labels", {}))
        pod = Pod(
            meta, **{"phase": "Running", "node": "node-a", "ready": True, "started": self.now, **more}, claims=claims
        )
        self.pods[meta.uid] = pod
        for claim in claims:
            volume = self.volumes.get(self.claims[claim].volume) if claim in self.claims else None
            if volume is not None and volume.attach_required and pod.node:
                self.attachments.add(Attachment(volume.name, pod.node))
        return pod

    # --- what planners see

    def world(self, run: Uid | None = None) -> World:
        return World(
            namespace=SPACE,
            cluster="cluster-1",
            namespace_terminating=self.namespace_terminating,
            streams_allowed=self.streams_allowed,
            exec_allowed=self.exec_allowed,
            elevated_allowed=self.elevated_allowed,
            pods=tuple(self.pods.values()),
            workloads=tuple(self.workloads.values()),
            keepers=tuple(self.keepers.values()),
            argocd=self.argocd,
            claims=tuple(self.claims.values()),
            volumes=tuple(self.volumes.values()),
            attachments=tuple(sorted(self.attachments, key=lambda a: (a.volume, a.node))),
            nodes=tuple(self.nodes.values()),
            jobs=tuple(job for job in self.jobs.values() if job.meta.labels.get(RUN_LABEL) == run),
            release_jobs=tuple(j for j in self.release_jobs.values() if j.meta.labels[RELEASE_OF_LABEL] == run),
            release_pods=tuple(p for p in self.release_pods.values() if p.meta.labels[RELEASE_OF_LABEL] == run),
            policies=tuple(self.policies.values()),
            snapshots=tuple(self.snapshots.values()),
            restores=tuple(self.restores.values()),
            storage_classes=tuple(self.storage_classes),
            snapshots_served=self.snapshots_served,
            snapshot_classes=tuple(self.snapshot_classes),
            volume_snapshots=tuple(t for t in self.taken.values() if run is not None and self._is_of(t.meta, run)),
            group_snapshots=tuple(g for g in self.groups.values() if g.meta.labels.get(RUN_LABEL) == run),
        )

    def binds_at_once(self, asked: act.CreateCopy) -> bool:
        waits = any(known.name == asked.storage_class and known.waits for known in self.storage_classes)
        return bool(asked.node) or not waits

    def _is_of(self, meta: Meta, run: Uid) -> bool:
        return meta.labels.get(RUN_LABEL) == run or any(owner.name == group_snapshot_name(run) for owner in meta.owners)

    def marked(self) -> list[str]:
        """The claims that carry the mark of a VolumeGroupSnapshot."""
        return [name for name, claim in self.claims.items() if GROUP_SNAPSHOT_LABEL in claim.meta.labels]

    def copies(self) -> list[str]:
        """The copies that are there, of whatever run."""
        claims = [name for name, claim in self.claims.items() if COPY_LABEL in claim.meta.labels]
        return [*self.groups, *self.taken, *claims]

    def observe(self, kind: str, name: str) -> Any:
        """The observation of an object, or None where it is gone."""
        if kind == "orphans":
            marked = tuple(self.workloads.values())
            return ObservedOrphans(
                SPACE,
                marked,
                tuple(self.keepers.values()),
                tuple(self.pods.values()),
                tuple(self.claims.values()),
                tuple(self.snapshots.values()),
                tuple(self.restores.values()),
                tuple(taken for taken in self.taken.values() if COPY_LABEL in taken.meta.labels),
                tuple(self.groups.values()),
                tuple(claim for claim in self.claims.values() if GROUP_SNAPSHOT_LABEL in claim.meta.labels),
            )
        if kind == "armed":
            watched = self.watches[Uid(name)]
            owner = (self.snapshots if watched.run.kind == "Snapshot" else self.restores).get(watched.run.name)
            owner = owner if owner is not None and owner.meta.uid == name else None
            world = self.world(Uid(name))
            seen = World(
                SPACE,
                pods=world.pods,
                claims=world.claims,
                jobs=world.jobs,
                workloads=world.workloads,
                keepers=world.keepers,
            )
            return ObservedArmed(Uid(name), watched.deadline, owner, seen)
        if kind == "policy":
            policy = self.policies.get(name)
            return policy and ObservedPolicy(
                policy,
                tuple(self.snapshots.values()),
                self.streams_allowed,
                self.exec_allowed,
                self.elevated_allowed,
            )
        if kind == "snapshot":
            snapshot = self.snapshots.get(name)
            return snapshot and ObservedSnapshot(snapshot, self.world(snapshot.meta.uid))
        restore = self.restores.get(name)
        return restore and ObservedRestore(restore, self.world(restore.meta.uid))

    def plan(self, kind: str, observed: Any) -> act.Plan:
        planner = {
            "policy": plan_policy,
            "snapshot": plan_snapshot,
            "restore": plan_restore,
            "orphans": plan_orphans,
            "armed": plan_armed,
        }[kind]
        plan = planner(observed, self.now)
        assert planner(observed, self.now) == plan, "the same observation gives the same plan"
        return plan

    def reconcile(self, kind: str, name: str = "", *, crash_after: int | None = None, observed: Any = None) -> act.Plan:
        """Observe, plan, apply. `crash_after`: that many actions, then the operator dies. `observed`: a stale view."""
        observed = observed if observed is not None else self.observe(kind, name)
        if observed is None:
            return act.Plan()
        plan = self.plan(kind, observed)
        for number, action in enumerate(plan.actions):
            if crash_after is not None and number >= crash_after:
                break
            try:
                self.apply(action)
            except Conflict:
                break
        return plan

    # --- applying

    def apply(self, action: act.Action) -> None:
        self.log.append(type(action).__name__)
        match action:
            case act.WriteStatus():
                self._write_status(action)
            case act.CheckUnchanged():
                self._own(action.ref, action.resource_version)
            case act.SetFinalizers():
                self._set_finalizers(action)
            case act.CreateJob():
                self._create_job(action.job)
            case act.CreateRelease():
                self._create_release(action.job)
            case act.TakeOver():
                found = self._own(action.ref, action.resource_version)
                marks = {**found.meta.annotations, TAKEN_OVER_ANNOTATION: action.at.isoformat()}
                store: dict[str, Any] = self.snapshots if action.ref.kind == "Snapshot" else self.restores
                store[action.ref.name] = replace(found, meta=self.touched(found.meta, annotations=marks))
            case act.DeleteJob():
                self.release_pods = {
                    uid: pod for uid, pod in self.release_pods.items() if job_of(pod) != action.ref.uid
                }
                self.release_jobs.pop(action.ref.uid, None)
                job = self.jobs.get(action.ref.uid)
                if job is not None:
                    self._delete_job(job)
            case act.DeletePod():
                pod = self.pods.get(action.ref.uid)
                if pod is not None:
                    self.delete_pod(pod)
            case act.PatchWorkload():
                self._patch_workload(action)
            case act.CreateSnapshot():
                if action.name not in self.snapshots:
                    self.add_snapshot(action.name, labels=action.labels, annotations=action.annotations, **action.spec)
            case act.CreateClaim():
                if action.name not in self.claims:
                    mode = "Block" if action.block else "Filesystem"
                    self.add_claim(action.name, labels=dict(action.labels), size=action.size, volume_mode=mode)
                    claim = self.claims[action.name]
                    meta = replace(claim.meta, annotations=dict(action.annotations))
                    self.claims[action.name] = replace(claim, meta=meta, phase="Pending")
                    self.contents[action.name] = ""
            case act.StampClaim():
                claim = self.claims.get(action.ref.name)
                if claim is None or claim.meta.uid != action.ref.uid:
                    raise Conflict(action)
                if claim.meta.resource_version != action.resource_version:
                    raise Conflict(action)
                annotations = _merged(claim.meta.annotations, action.annotations)
                labels = _merged(claim.meta.labels, action.labels)
                meta = self.touched(claim.meta, annotations=annotations, labels=labels)
                self.claims[action.ref.name] = replace(claim, meta=meta)
            case act.CreateVolumeSnapshot():
                if action.name not in self.taken:
                    self.taken[action.name] = VolumeSnapshot(self.meta(action.name, labels=dict(action.labels)))
                    self.copied[f"snapshot {action.name}"] = action
            case act.CreateGroupSnapshot():
                if action.name not in self.groups:
                    self.groups[action.name] = GroupSnapshot(self.meta(action.name, labels=dict(action.labels)))
                    self.grouped[action.name] = action
            case act.CreateCopy():
                if action.name not in self.claims:
                    mode = "Block" if action.block else "Filesystem"
                    claim = self.add_claim(
                        action.name,
                        labels=dict(action.labels),
                        storage_class=action.storage_class,
                        volume_mode=mode,
                    )
                    self.claims[action.name] = replace(claim, phase="Pending")
                    self.copied[f"claim {action.name}"] = action
            case act.DeleteCopy():
                self._delete_copy(action.ref)
            case act.Announce():
                self.events.append(action)

    def _delete_copy(self, ref: act.Ref) -> None:
        store: dict[str, Any] = {
            "PersistentVolumeClaim": self.claims,
            "VolumeSnapshot": self.taken,
            "VolumeGroupSnapshot": self.groups,
        }[ref.kind]
        found = store.get(ref.name)
        if found is None or found.meta.uid != ref.uid:
            return
        assert COPY_LABEL in found.meta.labels, f"{ref.name} is no copy"
        if ref.kind == "VolumeGroupSnapshot":
            run = found.meta.labels[RUN_LABEL]
            left = [
                c for c in self.claims.values() if COPY_LABEL in c.meta.labels and c.meta.labels.get(RUN_LABEL) == run
            ]
            assert not left, "a group is deleted before the claims that were made from its members"
        if found.meta.deleted is None:
            store[ref.name] = replace(found, meta=self.touched(found.meta, deleted=self.now))

    def _own(self, ref: act.Ref, version: str) -> PolicyObject | SnapshotObject | RestoreObject:
        kinds: dict[str, dict[str, Any]] = {
            "BackupPolicy": self.policies,
            "Snapshot": self.snapshots,
            "Restore": self.restores,
        }
        found = kinds[ref.kind].get(ref.name)
        if found is None or found.meta.uid != ref.uid or found.meta.resource_version != version:
            raise Conflict(ref)
        return found

    def _write_status(self, action: act.WriteStatus) -> None:
        found = self._own(action.ref, action.resource_version)
        status = type(found.status).model_validate(dict(action.status))
        assert status.to_body() == action.status, "nothing that is written is lost by the schema"
        assert status.to_body() != found.status.to_body() or getattr(found, "fresh", False), (
            "a write says something new"
        )
        meta = self.touched(found.meta)
        if isinstance(found, SnapshotObject):
            self.snapshots[action.ref.name] = replace(found, meta=meta, status=status, fresh=False)
        elif isinstance(found, RestoreObject):
            self.restores[action.ref.name] = replace(found, meta=meta, status=status, fresh=False)
        else:
            self.policies[action.ref.name] = replace(found, meta=meta, status=status)

    def _set_finalizers(self, action: act.SetFinalizers) -> None:
        found = self._own(action.ref, action.resource_version)
        meta = self.touched(found.meta, finalizers=action.finalizers)
        if meta.deleted is not None and not meta.finalizers:
            self._vanish(action.ref.kind, action.ref.name)
        elif isinstance(found, SnapshotObject):
            self.snapshots[action.ref.name] = replace(found, meta=meta)
        elif isinstance(found, RestoreObject):
            self.restores[action.ref.name] = replace(found, meta=meta)

    def _vanish(self, kind: str, name: str) -> None:
        gone = (self.snapshots if kind == "Snapshot" else self.restores).pop(name)
        for job in list(self.jobs.values()):
            if job.meta.labels.get(RUN_LABEL) == gone.meta.uid:
                self._delete_job(job)

    def _create_job(self, job: act.MoverJob | act.HookJob) -> None:
        if any(seen.meta.name == job.name for seen in self.jobs.values()):
            return
        if job.purpose in (act.Purpose.BACKUP, act.Purpose.RESTORE):
            for uid, mover in self.movers.items():
                same = mounted(mover.job) == mounted(job) and (
                    mover.job.owner == job.owner or mover.job.writes or job.writes
                )
                if same and (self._counts(uid, writes=mover.job.writes) or mover.job_uid in self.jobs):
                    raise AssertionError(f"two Jobs for volume {job.claim}: {mover.job.name} and {job.name}")
        if isinstance(job, act.HookJob):
            ran = [mover.job.name for mover in self.movers.values() if isinstance(mover.job, act.HookJob)]
            assert job.name not in ran, f"two Jobs for hook {job.hook}"
        elif job.stream is not None:
            for uid, mover in self.movers.items():
                same = streamed(mover.job) == job.stream and mover.job.owner == job.owner
                if same and (self._counts(uid, writes=False) or mover.job_uid in self.jobs):
                    raise AssertionError(f"two Jobs for stream {job.stream.name}: {mover.job.name} and {job.name}")
        seen = MoverJobSeen(self.meta(job.name, labels=dict(job.labels)), started=self.now)
        self.jobs[seen.meta.uid] = seen
        self.movers[seen.meta.uid] = Mover(job, seen.meta.uid)

    def _counts(self, mover: Uid, *, writes: bool) -> bool:
        """Whether a mover's pod is there: one that only reads is taken for lost two minutes after its grace."""
        pod = self.pods.get(mover)
        lost = pod is not None and pod.meta.deleted is not None and self.now >= pod.meta.deleted + timedelta(minutes=2)
        return pod is not None and (writes or not lost)

    def _create_release(self, job: act.ReleaseJob) -> None:
        if any(seen.meta.name == job.name for seen in self.release_jobs.values()):
            return
        labels = {RELEASE_OF_LABEL: job.run.uid}
        seen = MoverJobSeen(self.meta(job.name, labels=labels), started=self.now)
        self.release_jobs[seen.meta.uid] = seen
        self.add_release_pod(seen)
        self.watches[job.run.uid] = job

    def add_release_pod(self, job: MoverJobSeen) -> None:
        owners = (Owner("batch/v1", "Job", job.meta.name, job.meta.uid, True),)
        meta = self.meta(f"{job.meta.name}-pod", labels=dict(job.meta.labels), owners=owners)
        self.release_pods[meta.uid] = Pod(meta, "Running", ready=self.release_ready)

    def _delete_job(self, job: MoverJobSeen) -> None:
        self.jobs.pop(job.meta.uid, None)
        self.movers.pop(job.meta.uid, None)
        for pod in list(self.pods.values()):
            if pod.meta.controller is not None and pod.meta.controller.uid == job.meta.uid:
                self.delete_pod(pod)

    def _patch_workload(self, action: act.PatchWorkload) -> None:
        keeper = self.keepers.get(action.ref.uid)
        if keeper is not None:
            if keeper.meta.resource_version != action.resource_version:
                raise Conflict(action)
            labels, notes = (
                _merged(keeper.meta.labels, action.labels),
                _merged(keeper.meta.annotations, action.annotations),
            )
            meta = self.touched(keeper.meta, labels=labels, annotations=notes)
            self.keepers[meta.uid] = replace(keeper, meta=meta)
            return
        workload = self.workloads.get(action.ref.uid)
        if workload is None:
            if action.release:
                return
            raise Conflict(action)
        if workload.meta.resource_version != action.resource_version:
            raise Conflict(action)
        if action.replicas == 0:
            assert workload.when_scaled != "Delete", "scaling this down deletes volumes"
            assert HELD_LABEL not in workload.meta.labels, "held twice"
            self.held_since[workload.meta.uid] = self.now
        changes: dict[str, Any] = {}
        if action.replicas is not None and action.replicas != workload.replicas:
            changes["replicas"] = action.replicas
        if action.suspend is not None and action.suspend != workload.suspended:
            changes["suspended"] = action.suspend
        meta = self.touched(
            workload.meta,
            spec=bool(changes) or workload.kind == "Deployment",
            labels=_merged(workload.meta.labels, action.labels),
            annotations=_merged(workload.meta.annotations, action.annotations),
        )
        self.workloads[meta.uid] = replace(workload, meta=meta, **changes)

    # --- what people do

    def scale(self, workload: Workload, replicas: int) -> None:
        current = self.workloads[workload.meta.uid]
        if current.replicas != replicas:
            self.workloads[workload.meta.uid] = replace(
                current, replicas=replicas, meta=self.touched(current.meta, spec=True)
            )
        self.wanted[workload.meta.uid] = replicas

    def annotate(self, workload: Workload, **annotations: str | None) -> None:
        current = self.workloads[workload.meta.uid]
        self.workloads[workload.meta.uid] = replace(
            current,
            meta=self.touched(
                current.meta,
                spec=current.kind == "Deployment",
                annotations=_merged(current.meta.annotations, annotations),
            ),
        )

    def delete(self, kind: str, name: str) -> None:
        """A person deletes an object of ours."""
        store: dict[str, Any] = self.snapshots if kind == "snapshot" else self.restores
        found = store.get(name)
        if found is None or found.meta.deleted is not None:
            return
        if not found.meta.finalizers:
            self._vanish("Snapshot" if kind == "snapshot" else "Restore", name)
        else:
            store[name] = replace(found, meta=self.touched(found.meta, spec=True, deleted=self.now))

    def delete_pod(self, pod: Pod) -> None:
        current = self.pods.get(pod.meta.uid)
        if current is not None and current.meta.deleted is None:
            meta = self.touched(current.meta, deleted=self.now + timedelta(seconds=30))
            self.pods[pod.meta.uid] = replace(current, meta=meta, ready=False)

    # --- all together

    def run(self, *keys: tuple[str, str], rounds: int = 60, seconds: float = 5.0) -> None:
        """Let everyone act in turn, until nothing is left to do for two rounds, or `rounds` are over."""
        quiet = 0
        for _ in range(rounds):
            self.step()
            plans = [self.reconcile(kind, name) for kind, name in keys]
            self.pass_time(seconds)
            quiet = quiet + 1 if not any(plan.actions for plan in plans) and self._settled() else 0
            if quiet >= 3:
                return

    def _settled(self) -> bool:
        return not self.jobs and all(
            run.status.end_time is not None and run.meta.deleted is None
            for run in itertools.chain(self.snapshots.values(), self.restores.values())
        )

    def held(self) -> list[str]:
        return [
            workload.meta.name
            for workload in (*self.workloads.values(), *self.keepers.values())
            if HELD_LABEL in workload.meta.labels or HOLD_ANNOTATION in workload.meta.annotations
        ]


def job_of(pod: Pod) -> Uid | None:
    """The uid of the Job that made the pod."""
    return pod.meta.controller.uid if pod.meta.controller is not None else None


def _merged(old: Any, changes: Any) -> dict[str, str]:
    merged = {**old, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def reasons(conditions: Iterable[Any]) -> dict[str, tuple[str, str]]:
    """Type to (status, reason), for assertions."""
    return {condition.type: (condition.status.value, condition.reason) for condition in conditions}
