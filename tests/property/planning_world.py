"""A small cluster in pure Python: it applies plans with Kubernetes' preconditions, and plays everyone else.

Controllers, kubelets and movers act only in `step`, people and faults only when a test says so. Nothing here is random.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lowtide_engine.contract import Outcome, Result, encode
from lowtide_operator.api import (
    BackupPolicySpec,
    BackupPolicyStatus,
    RestoreSpec,
    RestoreStatus,
    SnapshotSpec,
    SnapshotStatus,
)
from lowtide_operator.planning import actions as act
from lowtide_operator.planning.naming import HELD_LABEL, HOLD_ANNOTATION, RUN_LABEL, is_ours
from lowtide_operator.planning.observed import (
    Attachment,
    Claim,
    Container,
    Meta,
    MoverJobSeen,
    Node,
    ObservedOrphans,
    ObservedPolicy,
    ObservedRestore,
    ObservedSnapshot,
    Owner,
    Pod,
    PolicyObject,
    RestoreObject,
    SnapshotObject,
    Uid,
    Volume,
    Workload,
    World,
)
from lowtide_operator.planning.orphans import plan_orphans
from lowtide_operator.planning.policy import plan_policy
from lowtide_operator.planning.restore import plan_restore
from lowtide_operator.planning.snapshot import plan_snapshot

START = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
SPACE = "shop"
REPOSITORY = "feedbeef" * 8


class Conflict(Exception):
    """A precondition failed, as a 409."""


class Crash(Exception):
    """The operator was killed here."""


@dataclass
class Stored:
    """A snapshot in the repository."""

    id: str
    tags: tuple[str, ...]
    members: tuple[str, ...] = ()
    content: str = ""
    partial: bool = False
    torn: bool = False


@dataclass
class Mover:
    """What a mover's pod is doing. `torn`: a consumer ran while it read."""

    job: act.MoverJob
    job_uid: Uid
    torn: bool = False


@dataclass
class Fate:
    """What becomes of a mover: how it ends, and whether anyone hears of it.

    end: ok, partial, failed, empty, oom, vanish (its pod and Job's result are lost), hang, pending (it never starts).
    stores: whether it stored its snapshot before it ended.
    """

    end: str = "ok"
    stores: bool = True
    reason: str = "StorageFailed"


class Cluster:
    """The world. Objects are the frozen values that planners see; every change gives them a new resourceVersion."""

    def __init__(self) -> None:
        self.now = START
        self._numbers = itertools.count(1)
        self.policies: dict[str, PolicyObject] = {}
        self.snapshots: dict[str, SnapshotObject] = {}
        self.restores: dict[str, RestoreObject] = {}
        self.workloads: dict[Uid, Workload] = {}
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
        self.fate: Callable[[act.MoverJob], Fate] = lambda job: Fate()
        self.log: list[str] = []
        self.events: list[act.Announce] = []
        self.wanted: dict[Uid, int] = {}
        self.repository_id = REPOSITORY
        self.namespace_terminating = False
        self.stuck: set[Uid] = set()
        self.held_since: dict[Uid, datetime] = {}

    # --- making things

    def meta(self, name: str, **more: Any) -> Meta:
        number = next(self._numbers)
        return Meta(SPACE, name, Uid(f"uid-{number:05d}"), f"{number}", self.now, **{"generation": 1, **more})

    def touched(self, meta: Meta, *, spec: bool = False, **more: Any) -> Meta:
        return replace(
            meta, resource_version=f"{next(self._numbers)}", generation=meta.generation + (1 if spec else 0), **more
        )

    def add_claim(self, name: str, *, attach: bool = False, **more: Any) -> Claim:
        claim = Claim(
            self.meta(name, labels=more.pop("labels", {})),
            "Bound",
            volume=f"pv-{name}",
            storage_class="standard",
            **{"access_modes": ("ReadWriteOnce",), "size": "1Gi", **more},
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
            pods=tuple(self.pods.values()),
            workloads=tuple(self.workloads.values()),
            claims=tuple(self.claims.values()),
            volumes=tuple(self.volumes.values()),
            attachments=tuple(sorted(self.attachments, key=lambda a: (a.volume, a.node))),
            nodes=tuple(self.nodes.values()),
            jobs=tuple(job for job in self.jobs.values() if job.meta.labels.get(RUN_LABEL) == run),
            policies=tuple(self.policies.values()),
            snapshots=tuple(self.snapshots.values()),
            restores=tuple(self.restores.values()),
        )

    def observe(self, kind: str, name: str) -> Any:
        """The observation of an object, or None where it is gone."""
        if kind == "orphans":
            marked = tuple(self.workloads.values())
            return ObservedOrphans(
                SPACE,
                marked,
                tuple(self.pods.values()),
                tuple(self.claims.values()),
                tuple(self.snapshots.values()),
                tuple(self.restores.values()),
            )
        if kind == "policy":
            policy = self.policies.get(name)
            return policy and ObservedPolicy(policy, tuple(self.snapshots.values()))
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
            case act.DeleteJob():
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
                    self.add_claim(action.name, labels=dict(action.labels))
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
                merged = _merged(claim.meta.annotations, action.annotations)
                self.claims[action.ref.name] = replace(claim, meta=self.touched(claim.meta, annotations=merged))
            case act.Announce():
                self.events.append(action)

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

    def _create_job(self, job: act.MoverJob) -> None:
        if any(seen.meta.name == job.name for seen in self.jobs.values()):
            return
        if job.purpose in (act.Purpose.BACKUP, act.Purpose.RESTORE):
            for uid, mover in self.movers.items():
                same = mover.job.claim == job.claim and (mover.job.owner == job.owner or mover.job.writes or job.writes)
                if same and (uid in self.pods or mover.job_uid in self.jobs):
                    raise AssertionError(f"two Jobs for volume {job.claim}: {mover.job.name} and {job.name}")
        seen = MoverJobSeen(self.meta(job.name, labels=dict(job.labels)), started=self.now)
        self.jobs[seen.meta.uid] = seen
        self.movers[seen.meta.uid] = Mover(job, seen.meta.uid)

    def _delete_job(self, job: MoverJobSeen) -> None:
        self.jobs.pop(job.meta.uid, None)
        self.movers.pop(job.meta.uid, None)
        for pod in list(self.pods.values()):
            if pod.meta.controller is not None and pod.meta.controller.uid == job.meta.uid:
                self.delete_pod(pod)

    def _patch_workload(self, action: act.PatchWorkload) -> None:
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

    # --- what controllers, kubelets and movers do

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def step(self) -> None:
        """Everyone else does one thing that is due, for every object."""
        for pod in list(self.pods.values()):
            if pod.meta.deleted is not None and pod.meta.uid not in self.stuck:
                self._remove_pod(pod)
        for claim in list(self.claims.values()):
            if claim.phase == "Pending" and any(claim.meta.name in pod.claims for pod in self.pods.values()):
                self.claims[claim.meta.name] = replace(claim, phase="Bound", meta=self.touched(claim.meta))
        self._scale_pods()
        self._run_jobs()
        self._tear()

    def _remove_pod(self, pod: Pod) -> None:
        self.pods.pop(pod.meta.uid, None)
        self.movers.pop(pod.meta.uid, None)
        for claim in pod.claims:
            if claim in self.claims:
                name = self.claims[claim].volume
                if not any(claim in other.claims for other in self.pods.values()):
                    self.attachments = {a for a in self.attachments if a.volume != name}

    def _scale_pods(self) -> None:
        for workload in list(self.workloads.values()):
            if workload.replicas is None or workload.meta.controller is not None:
                continue
            mine = [p for p in self.pods.values() if p.meta.controller and p.meta.controller.uid == workload.meta.uid]
            alive = [pod for pod in mine if pod.meta.deleted is None]
            for pod in alive[workload.replicas :]:
                self.delete_pod(pod)
            for _ in range(workload.replicas - len(alive)):
                self.add_pod(f"{workload.meta.name}-{next(self._numbers)}", *workload.claims, owner=workload)
            ready = sum(1 for pod in self.pods.values() if pod.ready and pod in mine)
            current = self.workloads[workload.meta.uid]
            now_ready = len(
                [
                    p
                    for p in self.pods.values()
                    if p.meta.controller and p.ready and p.meta.controller.uid == workload.meta.uid
                ]
            )
            if (current.ready, current.observed_generation) != (now_ready, current.meta.generation) or ready < 0:
                self.workloads[workload.meta.uid] = replace(
                    current,
                    ready=now_ready,
                    observed_generation=current.meta.generation,
                    meta=self.touched(current.meta),
                )

    def _run_jobs(self) -> None:
        for job in list(self.jobs.values()):
            mover = self.movers[job.meta.uid]
            fate = self.fate(mover.job)
            pods = [p for p in self.pods.values() if p.meta.controller and p.meta.controller.uid == job.meta.uid]
            if not pods and not job.failed and not job.complete and not self._out_of_time(job, mover):
                claims = (mover.job.claim,) if mover.job.claim else ()
                pending = fate.end == "pending"
                pod = self.add_pod(
                    f"{job.meta.name}-pod",
                    *claims,
                    owner=job,
                    labels=dict(job.meta.labels),
                    phase="Pending" if pending else "Running",
                    node="" if pending else "node-a",
                    ready=False,
                    scheduled=not pending,
                    unschedulable="0/1 nodes are available" if pending else "",
                    progress=self.now,
                )
                self.movers[pod.meta.uid] = mover
                if mover.job.writes:
                    self.contents[mover.job.claim] = "half"
            elif pods and pods[0].phase == "Running" and pods[0].meta.deleted is None and fate.end != "hang":
                self._end_mover(job, pods[0], mover, fate)
            elif self._out_of_time(job, mover):
                for pod in pods:
                    self.delete_pod(pod)
                if not pods:
                    self.jobs[job.meta.uid] = replace(
                        job, failed=True, reason="DeadlineExceeded", meta=self.touched(job.meta)
                    )

    def _out_of_time(self, job: MoverJobSeen, mover: Mover) -> bool:
        deadline = mover.job.active_deadline
        if deadline is None or job.failed or job.complete:
            return False
        return self.now >= job.meta.created + timedelta(seconds=deadline)

    def _end_mover(self, job: MoverJobSeen, pod: Pod, mover: Mover, fate: Fate) -> None:
        result = self._result(mover, fate)
        if fate.end == "vanish":
            self._remove_pod(pod)
            self.jobs[job.meta.uid] = replace(
                job, failed=True, reason="BackoffLimitExceeded", meta=self.touched(job.meta)
            )
            return
        container = Container(
            "mover",
            image="lowtide",
            memory_limit="512Mi",
            terminated="OOMKilled" if fate.end == "oom" else ("Completed" if result.outcome is Outcome.OK else "Error"),
            message="" if fate.end == "oom" else encode(result).decode(),
            exit_code=137 if fate.end == "oom" else (0 if result.outcome is Outcome.OK else 1),
            finished=self.now,
        )
        good = result.outcome is Outcome.OK
        self.pods[pod.meta.uid] = replace(
            pod, phase="Succeeded" if good else "Failed", containers=(container,), meta=self.touched(pod.meta)
        )
        self.jobs[job.meta.uid] = replace(job, complete=good, failed=not good, meta=self.touched(job.meta))

    def _result(self, mover: Mover, fate: Fate) -> Result:
        job = mover.job
        outcome = {"ok": Outcome.OK, "partial": Outcome.PARTIAL, "vanish": Outcome.OK, "empty": Outcome.OK}.get(
            fate.end, Outcome.FAILED
        )
        if job.repository_id and job.repository_id != self.repository_id:
            return Result(
                job.purpose.value, Outcome.FAILED, "RepositoryChanged", "another repository", self.repository_id
            )
        ids: list[str] = []
        failed = outcome is Outcome.FAILED
        match job.purpose:
            case act.Purpose.BACKUP:
                if fate.stores:
                    ids = [self._store(job, partial=fate.end == "partial", torn=mover.torn)]
            case act.Purpose.LOOKUP:
                found = [s for s in self.repository.values() if set(job.tags) <= set(s.tags)]
                ids = [] if failed else [stored.id for stored in found]
                if found and found[-1].partial and not failed:
                    outcome = Outcome.PARTIAL
            case act.Purpose.VERDICT:
                if fate.stores and not failed:
                    assert all(member in self.repository for member in job.snapshot_ids), "a member that is not there"
                    ids = [self._store(job, members=job.snapshot_ids)]
            case act.Purpose.FORGET:
                for snapshot in job.snapshot_ids if not failed else ():
                    if self.repository.pop(snapshot, None) is not None:
                        self.forgotten.append(snapshot)
            case act.Purpose.RESTORE:
                (wanted,) = job.snapshot_ids
                if not failed:
                    self.contents[job.claim] = self.repository[wanted].content
            case act.Purpose.PREFLIGHT:
                if any(snapshot not in self.repository for snapshot in job.snapshot_ids):
                    return Result(
                        "preflight", Outcome.FAILED, "SnapshotMissing", "no such snapshot", self.repository_id
                    )
                ids = list(job.snapshot_ids) or ([job.select["id"]] if "id" in job.select else [])
                if job.select and not ids:
                    ids = [s.id for s in self.repository.values()][-1:]
        return Result(
            job.purpose.value,
            outcome,
            {Outcome.OK: "Stored", Outcome.PARTIAL: "Partial"}.get(outcome, fate.reason),
            f"{job.purpose.value} {fate.end}",
            self.repository_id,
            ids if not failed else [],
            files=0 if fate.end == "empty" else 3,
            bytes=300,
            added_bytes=30,
            seconds=1.5,
        )

    def _store(self, job: act.MoverJob, **more: Any) -> str:
        number = f"{next(self._numbers):064x}"
        self.repository[number] = Stored(number, job.tags, content=self.contents.get(job.claim, ""), **more)
        return number

    def _tear(self) -> None:
        """A mover that reads or writes while a consumer's pod has the volume gets a torn state."""
        for uid, mover in self.movers.items():
            if uid in self.pods and self.pods[uid].phase == "Running" and mover.job.claim:
                for pod in self.consumers(mover.job.claim):
                    mover.torn = True
                    assert not mover.job.writes, f"{pod.meta.name} runs while {mover.job.name} writes its volume"

    def consumers(self, claim: str) -> list[Pod]:
        return [
            pod
            for pod in self.pods.values()
            if claim in pod.claims and not is_ours(pod.meta.labels) and pod.phase == "Running"
        ]

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
            for workload in self.workloads.values()
            if HELD_LABEL in workload.meta.labels or HOLD_ANNOTATION in workload.meta.annotations
        ]


def _merged(old: Any, changes: Any) -> dict[str, str]:
    merged = {**old, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def reasons(conditions: Iterable[Any]) -> dict[str, tuple[str, str]]:
    """Type to (status, reason), for assertions."""
    return {condition.type: (condition.status.value, condition.reason) for condition in conditions}
