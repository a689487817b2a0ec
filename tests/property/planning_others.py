"""What everyone but the operator and people does in the small cluster: controllers, kubelets and movers, one due
thing at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lowtide_engine.contract import Outcome, Result, encode
from lowtide_operator.api.stream import ResolvedStream
from lowtide_operator.planning import actions as act
from lowtide_operator.planning.naming import is_ours
from lowtide_operator.planning.observed import (
    Attachment,
    Claim,
    Keeper,
    Meta,
    MoverJobSeen,
    Owner,
    PolicyObject,
    Uid,
    Workload,
)
from lowtide_operator.planning.observed_copies import GroupSnapshot, VolumeSnapshot
from lowtide_operator.planning.observed_pods import Container, MoverProgress, Pod
from lowtide_operator.planning.switches import KEDA_PAUSED, KEDA_PAUSED_REPLICAS

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

    job: act.MoverJob | act.HookJob
    job_uid: Uid
    torn: bool = False


@dataclass
class Fate:
    """What becomes of a mover: how it ends, and whether anyone hears of it.

    end: ok, partial, failed, empty, oom, vanish (its pod and Job's result are lost), hang, pending (it never starts).
    stores: whether it stored its snapshot before it ended. said and code: what the command of a stream wrote to its
    standard error, and ended with, where it failed.
    """

    end: str = "ok"
    stores: bool = True
    reason: str = "StorageFailed"
    said: str = ""
    code: int = 1


class Others:
    """The part of the cluster that acts by itself. Cluster has the objects."""

    now: datetime
    policies: dict[str, PolicyObject]
    workloads: dict[Uid, Workload]
    keepers: dict[Uid, Keeper]
    keeper_sleeps: bool
    wanted: dict[Uid, int]
    pods: dict[Uid, Pod]
    claims: dict[str, Claim]
    jobs: dict[Uid, MoverJobSeen]
    movers: dict[Uid, Mover]
    attachments: set[Attachment]
    stuck: set[Uid]
    trespassed: bool
    """Whether the test starts consumers beside writers on purpose."""
    repository: dict[str, Stored]
    forgotten: list[str]
    taken: dict[str, VolumeSnapshot]
    groups: dict[str, GroupSnapshot]
    grouped: dict[str, act.CreateGroupSnapshot]
    settled: dict[str, list[str]]
    copied: dict[str, act.CreateVolumeSnapshot | act.CreateCopy]
    torn_copies: set[str]
    trouble: str
    contents: dict[str, str]
    repository_id: str
    fate: Callable[[act.MoverJob | act.HookJob], Fate]
    hooked: list[tuple[str, tuple[str, ...]]]
    numbers: Iterator[int]

    def touched(self, meta: Meta, *, spec: bool = False, **more: Any) -> Meta:
        raise NotImplementedError

    def add_pod(self, name: str, *claims: str, owner: Workload | MoverJobSeen | None = None, **more: Any) -> Pod:
        raise NotImplementedError

    def delete_pod(self, pod: Pod) -> None:
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def step(self) -> None:
        """Everyone else does one thing that is due, for every object."""
        for pod in list(self.pods.values()):
            if pod.meta.deleted is not None and pod.meta.uid not in self.stuck:
                self._remove_pod(pod)
        self._keep_counts()
        self._make_copies()
        for claim in list(self.claims.values()):
            if claim.meta.deleted is not None and not any(claim.meta.name in pod.claims for pod in self.pods.values()):
                del self.claims[claim.meta.name]
            elif (
                claim.phase == "Pending"
                and not self.trouble
                and any(claim.meta.name in pod.claims for pod in self.pods.values())
            ):
                self.claims[claim.meta.name] = replace(claim, phase="Bound", meta=self.touched(claim.meta))
        self._scale_pods()
        self._run_jobs()
        self._tear()

    def _keep_counts(self) -> None:
        """KEDA: starts what is at 0, unless its own annotations say otherwise. While `keeper_sleeps`, nothing."""
        for keeper in list(self.keepers.values()) if not self.keeper_sleeps else ():
            if keeper.kind != "ScaledObject":
                continue
            notes = keeper.meta.annotations
            count = notes.get(KEDA_PAUSED_REPLICAS)
            paused = count is not None or notes.get(KEDA_PAUSED) == "true"
            for workload in list(self.workloads.values()):
                if (workload.kind, workload.meta.name) not in keeper.targets or (paused and count is None):
                    continue
                wanted = int(count) if count is not None else workload.replicas or self.wanted[workload.meta.uid]
                if workload.replicas != wanted:
                    meta = self.touched(workload.meta, spec=True)
                    self.workloads[meta.uid] = replace(workload, replicas=wanted, writer="keda", meta=meta)
            if keeper.paused is not paused:
                meta = self.touched(keeper.meta)
                self.keepers[meta.uid] = replace(keeper, paused=paused, meta=meta)

    def _make_copies(self) -> None:
        """The driver: what was asked for gets the state that its source has now, unless the driver is in `trouble`."""
        for group in list(self.groups.values()):
            self._make_group(group)
        for name, snapshot in list(self.taken.items()):
            if snapshot.meta.deleted is not None:
                if not snapshot.meta.owners:  # a member goes with its group only
                    del self.taken[name]
            elif self.trouble and not snapshot.ready:
                self.taken[name] = replace(snapshot, error=self.trouble, meta=self.touched(snapshot.meta))
            elif not snapshot.ready and not snapshot.meta.owners:
                self._hold_fast(f"snapshot {name}", self.copied[f"snapshot {name}"].claim)
                self.taken[name] = replace(snapshot, ready=True, error="", meta=self.touched(snapshot.meta))
        for claim in list(self.claims.values()):
            asked = self.copied.get(f"claim {claim.meta.name}")
            if claim.phase != "Pending" or not isinstance(asked, act.CreateCopy):
                continue
            if self.trouble:
                self.claims[claim.meta.name] = replace(claim, trouble=self.trouble)
            elif self.binds_at_once(asked):
                self._fill(claim, asked)

    def _make_group(self, group: GroupSnapshot) -> None:
        """The snapshot controller: a step each for binding, all members at one moment, and readiness."""
        name, asked = group.meta.name, self.grouped[group.meta.name]
        members = {n: m for n, m in self.taken.items() if any(owner.uid == group.meta.uid for owner in m.meta.owners)}
        selected = [c for c in self.claims.values() if asked.selected.items() <= c.meta.labels.items()]
        if group.meta.deleted is not None:
            asked_for = [copy for copy in self.copied.values() if isinstance(copy, act.CreateCopy)]
            filling = {c.snapshot for c in asked_for if c.name in self.claims and self.claims[c.name].phase != "Bound"}
            if not filling & set(members):
                self.taken = {n: member for n, member in self.taken.items() if n not in members}
                del self.groups[name]
        elif not group.bound:
            error = self.trouble or ("" if selected else "label selector not applied to any PVC")
            self.groups[name] = replace(group, bound=not error, error=error, meta=self.touched(group.meta))
            self.settled[name] = sorted(claim.meta.name for claim in selected)
        elif not members:
            owner = Owner("groupsnapshot.storage.k8s.io/v1", "VolumeGroupSnapshot", name, group.meta.uid)
            for claim in self.settled[name]:
                made = VolumeSnapshot(self.meta(f"snapshot-{next(self.numbers)}", owners=(owner,)), claim, ready=True)
                self.taken[made.meta.name] = made
                self._hold_fast(f"snapshot {made.meta.name}", claim)
        elif not group.ready:
            error = self.trouble
            self.groups[name] = replace(group, ready=not error, error=error, meta=self.touched(group.meta))

    def meta(self, name: str, **more: Any) -> Meta:
        raise NotImplementedError

    def binds_at_once(self, asked: act.CreateCopy) -> bool:
        raise NotImplementedError

    def _fill(self, claim: Claim, asked: act.CreateCopy) -> None:
        name = claim.meta.name
        if asked.snapshot:
            assert self.taken[asked.snapshot].ready, "a claim from a VolumeSnapshot that is not ready"
            self.contents[name] = self.contents[f"snapshot {asked.snapshot}"]
            self.torn_copies |= {name} if f"snapshot {asked.snapshot}" in self.torn_copies else set()
        else:
            self._hold_fast(name, asked.claim)
        self.claims[name] = replace(claim, phase="Bound", trouble="", meta=self.touched(claim.meta))

    def _hold_fast(self, name: str, claim: str) -> None:
        self.contents[name] = self.contents[claim]
        if self.consumers(claim):
            self.torn_copies.add(name)

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
                self.add_pod(f"{workload.meta.name}-{next(self.numbers)}", *workload.claims, owner=workload)
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
                claims = tuple(filter(None, [mounted(mover.job)]))
                for name in claims:
                    asked = self.copied.get(f"claim {name}")
                    if isinstance(asked, act.CreateCopy) and self.claims[name].phase == "Pending" and not self.trouble:
                        self._fill(self.claims[name], asked)
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
                    progress=MoverProgress(self.now),
                )
                self.movers[pod.meta.uid] = mover
                if isinstance(mover.job, act.HookJob):
                    running = {p.meta.controller.name for p in self.pods.values() if p.ready and p.meta.controller}
                    self.hooked.append((mover.job.hook, tuple(sorted(running))))
                elif mover.job.writes:
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
        containers = (container, self._writer(fate)) if streamed(mover.job) is not None else (container,)
        self.pods[pod.meta.uid] = replace(
            pod, phase="Succeeded" if good else "Failed", containers=containers, meta=self.touched(pod.meta)
        )
        self.jobs[job.meta.uid] = replace(job, complete=good, failed=not good, meta=self.touched(job.meta))

    def _writer(self, fate: Fate) -> Container:
        """The container of a stream's command; a mover that failed for reasons of its own left it waiting."""
        if fate.reason == "StreamFailed" and fate.end == "failed":
            return Container("writer", terminated="Error", exit_code=fate.code, message=fate.said, finished=self.now)
        if fate.end != "ok":
            return Container("writer", terminated="Error", exit_code=143, finished=self.now)
        return Container("writer", terminated="Completed", exit_code=0, finished=self.now)

    def _result(self, mover: Mover, fate: Fate) -> Result:
        job = mover.job
        outcome = {"ok": Outcome.OK, "partial": Outcome.PARTIAL, "vanish": Outcome.OK, "empty": Outcome.OK}.get(
            fate.end, Outcome.FAILED
        )
        if isinstance(job, act.HookJob):
            good = fate.end in ("ok", "vanish")
            return Result("hook", *((Outcome.OK, "Done") if good else (Outcome.FAILED, "CommandFailed")), "exit code")
        if job.repository_id and job.repository_id != self.repository_id:
            return Result(
                job.purpose.value, Outcome.FAILED, "RepositoryChanged", "another repository", self.repository_id
            )
        ids: list[str] = []
        failed = outcome is Outcome.FAILED
        match job.purpose:
            case act.Purpose.BACKUP | act.Purpose.STREAM:
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
        number = f"{next(self.numbers):064x}"
        more["torn"] = more.get("torn", False) or job.copy in self.torn_copies
        self.repository[number] = Stored(number, job.tags, content=self.contents.get(mounted(job), ""), **more)
        return number

    def _tear(self) -> None:
        """A mover that reads or writes while a consumer's pod has the volume gets a torn state."""
        for uid, mover in self.movers.items():
            if uid in self.pods and self.pods[uid].phase == "Running" and mounted(mover.job):
                for pod in self.consumers(mounted(mover.job)):
                    mover.torn = True
                    assert self.trespassed or not (isinstance(mover.job, act.MoverJob) and mover.job.writes), (
                        f"{pod.meta.name} runs while {mover.job.name} writes its volume"
                    )

    def consumers(self, claim: str) -> list[Pod]:
        return [
            pod
            for pod in self.pods.values()
            if claim in pod.claims and not is_ours(pod.meta.labels) and pod.phase == "Running"
        ]


def streamed(job: act.MoverJob | act.HookJob) -> ResolvedStream | None:
    """The stream that the mover stores."""
    return None if isinstance(job, act.HookJob) else job.stream


def mounted(job: act.MoverJob | act.HookJob) -> str:
    """The claim whose volume the mover has; a hook has none."""
    return "" if isinstance(job, act.HookJob) else job.copy or job.claim
