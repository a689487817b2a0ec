"""Random histories: people, faults, crashes between any two actions, slow plans, two groups that overlap. What must
always hold, holds.

Never two Jobs for one volume, never a consumer beside a writer, never a volume deleted by scaling (all asserted by
the world itself). A Snapshot is Ready only if every member is stored, whole, and named by a verdict. Data is
forgotten only where a person said so. In the end everything converges, nothing is held, and every workload has the
count that a person last gave it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lowtide_operator.api.conditions import find, is_true
from lowtide_operator.api.policy import DeletionPolicy
from lowtide_operator.planning.actions import MoverJob, Plan, Purpose
from lowtide_operator.planning.hold import read_hold
from lowtide_operator.planning.naming import HOLD_ANNOTATION, RUN_LABEL
from lowtide_operator.planning.observed import SnapshotObject, Workload
from lowtide_operator.planning.observed_copies import StorageClass
from tests.property.planning_world import Cluster, Conflict, Fate, job_of, reasons

NAMES = ("zero", "one", "two")
BACKS = ("back", "again")
ENDS = ("partial", "failed", "empty", "oom", "vanish", "hang", "pending")


class Histories(RuleBasedStateMachine):
    """One history of a namespace with two overlapping policies."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster()
        self.luck: dict[Purpose, Fate] = {}
        self.lasting: set[Purpose] = set()
        self.under_way: dict[tuple[str, str], Plan] = {}
        self.cluster.fate = self.fate

    def fate(self, job: MoverJob) -> Fate:
        return self.luck.get(job.purpose, Fate())

    @initialize(
        attach=st.booleans(),
        downtime=st.sampled_from(["2m", "10m"]),
        retries=st.integers(0, 2),
        claim_repository=st.booleans(),
        ordered=st.booleans(),
        story=st.sampled_from(["backup", "backup", "restore", "both"]),
        method=st.sampled_from(["Direct", "Snapshot", "GroupSnapshot", "Clone"]),
        waits=st.booleans(),
    )
    def begin(
        self,
        attach: bool,
        downtime: str,
        retries: int,
        claim_repository: bool,
        ordered: bool,
        story: str,
        method: str,
        waits: bool,
    ) -> None:
        cluster = self.cluster
        cluster.storage_classes = [StorageClass("standard", "csi.example", waits=waits)]
        cluster.add_claim("data")
        cluster.add_claim("files", attach=attach)
        cluster.add_claim("repository")
        self.db = cluster.add_workload("StatefulSet", "db", "data")
        self.web = cluster.add_workload("Deployment", "web", "files", replicas=2)
        self.idle = cluster.add_workload("Deployment", "idle", "files", replicas=0)
        self.nightly = cluster.add_workload("CronJob", "nightly", "data")
        shared: dict[str, Any] = {
            "capture": {"method": method},
            "quiesce": {"timeout": "1m", "maxDowntime": downtime},
            "mover": {"retry": {"limit": retries, "backoff": "5s"}, "deadlines": {"start": "1m", "whole": "1h"}},
        }
        if ordered:
            workloads = [{"kind": "Deployment", "name": "web"}, {"kind": "StatefulSet", "name": "db"}]
            shared["quiesce"]["workloads"] = workloads
        if claim_repository:
            shared["repository"] = {"secretName": "repo", "claimName": "repository"}
        cluster.add_policy("db", volumes={"claims": ["data", "files"]}, **shared)
        dump = {"name": "shop.sql", "container": {"image": "postgres:16", "command": ["pg_dump", "shop"]}}
        self.files = cluster.add_policy("files", volumes={"claims": ["files"]}, streams=[dump], **shared)
        cluster.step()
        if story != "backup":
            cluster.add_snapshot("zero")
            cluster.run(("snapshot", "zero"), seconds=2)
            assert is_true(cluster.snapshots["zero"].status.conditions, "Ready")
            cluster.contents["data"] = "broken"
            self.a_person_restores("back", "zero", new=False, merge=False, skip=False)
        if story != "restore":
            cluster.add_snapshot("one")

    # --- the operator

    @rule(name=st.sampled_from(NAMES), crash=st.sampled_from([None, None, 0, 1, 2, 3]))
    def plan_snapshot(self, name: str, crash: int | None) -> None:
        self._reconcile("snapshot", name, crash)

    @rule(name=st.sampled_from(BACKS), crash=st.sampled_from([None, None, 0, 1, 2, 3]))
    def plan_restore(self, name: str, crash: int | None) -> None:
        self._reconcile("restore", name, crash)

    @rule()
    def plan_orphans(self) -> None:
        self._reconcile("orphans", "", None)

    @rule(rounds=st.integers(2, 8))
    def everything_goes_well_for_a_while(self, rounds: int) -> None:
        for _ in range(rounds):
            self.cluster.step()
            for key in self._keys():
                self._reconcile(*key, None)
            self.cluster.pass_time(2)

    @rule(key=st.sampled_from([("snapshot", name) for name in NAMES] + [("restore", name) for name in BACKS]))
    def a_plan_takes_long(self, key: tuple[str, str]) -> None:
        observed = self.cluster.observe(*key)
        if observed is not None and key not in self.under_way:
            self.under_way[key] = self.cluster.plan(key[0], observed)

    @precondition(lambda self: self.under_way)
    @rule()
    def a_slow_plan_is_applied(self) -> None:
        _, plan = self.under_way.popitem()
        self._apply(plan)

    # --- release pods

    @precondition(lambda self: self.cluster.watches)
    @rule(number=st.integers(0, 3), slow=st.booleans())
    def a_release_pod_looks(self, number: int, slow: bool) -> None:
        key = ("armed", sorted(self.cluster.watches)[number % len(self.cluster.watches)])
        if not slow:
            self._reconcile(*key, None)
        elif key not in self.under_way:
            self.under_way[key] = self.cluster.plan("armed", self.cluster.observe(*key))

    @precondition(lambda self: self.cluster.release_pods)
    @rule(number=st.integers(0, 3), job=st.booleans())
    def a_release_pod_is_lost(self, number: int, job: bool) -> None:
        pods = self.cluster.release_pods
        pod = pods.pop(sorted(pods)[number % len(pods)])
        if job:
            self.cluster.release_jobs = {
                uid: seen for uid, seen in self.cluster.release_jobs.items() if uid != job_of(pod)
            }

    def _reconcile(self, kind: str, name: str, crash: int | None) -> None:
        if (kind, name) not in self.under_way:
            self.cluster.reconcile(kind, name, crash_after=crash)

    def _apply(self, plan: Plan) -> None:
        for action in plan.actions:
            try:
                self.cluster.apply(action)
            except Conflict:
                return

    # --- everyone else

    @rule()
    def others_act(self) -> None:
        self.cluster.step()

    @rule(seconds=st.sampled_from([1, 5, 30, 70, 400]))
    def time_passes(self, seconds: int) -> None:
        self.cluster.pass_time(seconds)

    @rule(purpose=st.sampled_from(list(Purpose)), end=st.sampled_from(ENDS), stores=st.booleans(), lasts=st.booleans())
    def movers_have_bad_luck(self, purpose: Purpose, end: str, stores: bool, lasts: bool) -> None:
        if end in ("empty", "partial") and purpose is not Purpose.BACKUP:
            end = "failed"
        stores = stores or end in ("partial", "empty")
        self.luck[purpose] = Fate(end, stores and end != "failed")
        if lasts and purpose not in (Purpose.FORGET, Purpose.LOOKUP):
            self.lasting.add(purpose)

    @rule()
    def luck_turns(self) -> None:
        self.luck.clear()
        self.lasting.clear()

    @rule(which=st.sampled_from(["db", "web", "idle"]), count=st.integers(0, 3))
    def a_person_scales(self, which: str, count: int) -> None:
        workload = self._workload(which)
        if self._held_by_restore() or (count == 0 and HOLD_ANNOTATION in workload.meta.annotations):
            return
        self.cluster.scale(workload, count)

    @precondition(lambda self: self._held())
    @rule(number=st.integers(0, 2), count=st.integers(1, 3))
    def a_person_scales_what_is_held(self, number: int, count: int) -> None:
        held = self._held()
        self.cluster.scale(held[number % len(held)], count)

    @precondition(lambda self: self._held())
    @rule(number=st.integers(0, 2))
    def a_person_edits_what_is_held(self, number: int) -> None:
        held = self._held()
        workload = held[number % len(held)]
        self.cluster.workloads[workload.meta.uid] = replace(
            workload, meta=self.cluster.touched(workload.meta, spec=True)
        )

    @precondition(lambda self: self._held())
    @rule(which=st.sampled_from(["db", "web", "idle"]))
    def a_person_removes_a_hold(self, which: str) -> None:
        workload = self._workload(which)
        if HOLD_ANNOTATION in workload.meta.annotations and not self._held_by_restore():
            self.cluster.annotate(workload, **{HOLD_ANNOTATION: None, "lowtide.dev/held": None})
            workload = self._workload(which)
            labels = {key: value for key, value in workload.meta.labels.items() if key != "lowtide.dev/held"}
            self.cluster.workloads[workload.meta.uid] = replace(workload, meta=replace(workload.meta, labels=labels))
            self.cluster.wanted[workload.meta.uid] = workload.replicas or 0

    @rule(which=st.sampled_from(["db", "web"]))
    def a_person_edits_a_workload(self, which: str) -> None:
        workload = self._workload(which)
        self.cluster.workloads[workload.meta.uid] = replace(
            workload, meta=self.cluster.touched(workload.meta, spec=True)
        )

    @rule(name=st.sampled_from(NAMES), policy=st.sampled_from(["db", "files"]), delete=st.booleans())
    def a_person_takes_a_snapshot(self, name: str, policy: str, delete: bool) -> None:
        if name not in self.cluster.snapshots:
            self.cluster.add_snapshot(name, policyName=policy, deletionPolicy="Delete" if delete else "Retain")

    @rule(name=st.sampled_from(NAMES))
    def a_person_deletes_a_snapshot(self, name: str) -> None:
        if ("snapshot", name) not in self.under_way:
            self.cluster.delete("snapshot", name)

    @rule(name=st.sampled_from(NAMES), pinned=st.booleans(), delete=st.booleans())
    def a_person_edits_a_snapshot(self, name: str, pinned: bool, delete: bool) -> None:
        found = self.cluster.snapshots.get(name)
        if found is not None and found.meta.deleted is None and found.spec is not None:
            policy = DeletionPolicy.DELETE if delete else DeletionPolicy.RETAIN
            spec = found.spec.model_copy(update={"pinned": pinned, "deletion_policy": policy})
            self.cluster.snapshots[name] = replace(found, spec=spec, meta=self.cluster.touched(found.meta, spec=True))

    @precondition(lambda self: self._good())
    @rule(
        name=st.sampled_from(BACKS),
        source=st.sampled_from(NAMES),
        new=st.booleans(),
        merge=st.booleans(),
        skip=st.booleans(),
    )
    def a_person_restores(self, name: str, source: str, new: bool, merge: bool, skip: bool) -> None:
        good = self._good()
        snapshot = good.get(source) or next(iter(good.values()), None)
        if name in self.cluster.restores or snapshot is None:
            return
        source = snapshot.meta.name
        volumes: list[dict[str, Any]] = [{"claim": volume.claim} for volume in snapshot.status.volumes]
        if new:
            volumes[-1]["newClaim"] = {"name": f"copy-{name}"}
        self.cluster.add_restore(
            name,
            source={"snapshotName": source},
            volumes=volumes,
            overwrite="Merge" if merge else "Mirror",
            safetySnapshot="Skip" if skip else "Take",
            quiesce={"timeout": "1m", "maxDowntime": "3m"},
            mover={"retry": {"limit": 1, "backoff": "5s"}, "deadlines": {"start": "1m", "whole": "1h"}},
        )

    @rule(name=st.sampled_from(BACKS))
    def a_person_deletes_a_restore(self, name: str) -> None:
        if ("restore", name) not in self.under_way:
            self.cluster.delete("restore", name)

    @rule()
    def a_person_deletes_the_policies(self) -> None:
        self.cluster.policies.pop("files", None)

    @rule(trouble=st.sampled_from(["", "", "no space left in the pool"]))
    def the_driver_is_in_trouble(self, trouble: str) -> None:
        self.cluster.trouble = trouble

    @precondition(lambda self: self.cluster.copies())
    @rule(number=st.integers(0, 3))
    def somebody_deletes_a_copy(self, number: int) -> None:
        copies = self.cluster.copies()
        name = copies[number % len(copies)]
        for store in (self.cluster.groups, self.cluster.taken, self.cluster.claims):
            if name in store:
                store[name] = replace(
                    store[name], meta=self.cluster.touched(store[name].meta, deleted=self.cluster.now)
                )

    @precondition(lambda self: self.cluster.jobs)
    @rule(number=st.integers(0, 3))
    def somebody_deletes_a_job(self, number: int) -> None:
        jobs = list(self.cluster.jobs.values())
        self.cluster._delete_job(jobs[number % len(jobs)])

    @rule(number=st.integers(0, 5))
    def a_pod_does_not_go(self, number: int) -> None:
        pods = list(self.cluster.pods)
        if pods and len(self.cluster.stuck) < 2:
            self.cluster.stuck.add(pods[number % len(pods)])

    @rule()
    def stuck_pods_go(self) -> None:
        self.cluster.stuck.clear()

    # --- what must hold

    @invariant()
    def ready_means_restorable(self) -> None:
        for snapshot in self.cluster.snapshots.values():
            status = snapshot.status
            if not is_true(status.conditions, "Ready"):
                continue
            assert status.resolved is not None
            assert [volume.claim for volume in status.volumes] == [volume.claim for volume in status.resolved.volumes]
            assert [s.name for s in status.streams] == [s.name for s in status.resolved.streams]
            members = [*(v.snapshot_id for v in status.volumes), *(s.snapshot_id for s in status.streams)]
            assert status.verdict_snapshot_id is not None
            assert sorted(self.cluster.repository[status.verdict_snapshot_id].members) == sorted(filter(None, members))
            for volume in status.volumes:
                assert volume.snapshot_id is not None
                stored = self.cluster.repository[volume.snapshot_id]
                assert not stored.torn, f"{volume.claim} was read while a consumer ran"
                assert not stored.partial, f"{volume.claim} lacks files"
                mine = {f"lowtide:run={snapshot.meta.uid}", f"lowtide:claim={volume.claim}"}
                found = [known for known in self.cluster.repository.values() if mine <= set(known.tags)]
                assert found == [stored], "what a lost mover stored is adopted, not stored again"
            for stream in status.streams:
                mine = {f"lowtide:run={snapshot.meta.uid}", f"lowtide:stream={stream.name}"}
                found = [known.id for known in self.cluster.repository.values() if mine <= set(known.tags)]
                assert found == [stream.snapshot_id], "what a lost mover stored is adopted, not stored again"
            assert not status.failure
            assert find(status.conditions, "Stalled") is None

    @invariant()
    def data_is_forgotten_only_where_a_person_said_so(self) -> None:
        for mover in self.cluster.movers.values():
            if mover.job.purpose is Purpose.FORGET:
                owner = self._snapshot_of(mover.job.labels[RUN_LABEL])
                if owner is not None and owner.spec is not None:
                    assert owner.meta.deleted is not None
                    assert owner.spec.deletion_policy is DeletionPolicy.DELETE
                    assert not owner.spec.pinned

    @invariant()
    def two_groups_never_hold_at_once_what_both_use(self) -> None:
        runs = [*self.cluster.snapshots.values(), *self.cluster.restores.values()]
        holding: dict[str, str] = {}
        for run in runs:
            ledger = run.status.quiesce
            if ledger is None or ledger.start_time is None or ledger.released_time is not None:
                continue
            for entry in ledger.workloads:
                assert entry.uid not in holding, f"{run.meta.name} and {holding[entry.uid]} both stop {entry.name}"
                holding[entry.uid] = run.meta.name

    @invariant()
    def a_restore_that_is_ready_restored_everything(self) -> None:
        for restore in self.cluster.restores.values():
            if is_true(restore.status.conditions, "Ready") and restore.status.resolved is not None:
                assert len(restore.status.volumes) == len(restore.status.resolved.volumes)

    @invariant()
    def no_consumer_has_a_half_written_volume(self) -> None:
        for claim, content in self.cluster.contents.items():
            if content == "half" and claim in self.cluster.claims:
                assert not self.cluster.consumers(claim), f"a workload runs on {claim}, which is half-written"

    def teardown(self) -> None:
        for key in list(self.under_way):
            self._apply(self.under_way.pop(key))
        self.luck = {purpose: fate for purpose, fate in self.luck.items() if purpose in self.lasting}
        self.cluster.stuck.clear()
        self.cluster.trouble = ""
        for round_number in range(700):
            self.cluster.step()
            self.ready_means_restorable()
            self.two_groups_never_hold_at_once_what_both_use()
            self.no_consumer_has_a_half_written_volume()
            keys = [*self._keys(), ("orphans", "")]
            acted = [self.cluster.reconcile(*key).actions for key in keys]
            self.cluster.pass_time(5 if round_number < 400 else 60)
            if not any(acted) and self._over():
                break
        self._check_the_end()
        self._check_that_it_still_works()

    def _check_that_it_still_works(self) -> None:
        """Whatever happened: two Snapshots of both groups, asked for at once, become good."""
        self.luck.clear()
        if any(read_hold(workload) is not None for workload in self.cluster.workloads.values()):
            return
        self.cluster.policies["files"] = self.files
        for name, policy in (("last", "db"), ("last-files", "files")):
            self.cluster.add_snapshot(name, policyName=policy)
        for _ in range(120):
            self.cluster.step()
            for name in ("last-files", "last"):
                self.cluster.reconcile("snapshot", name)
            self.cluster.reconcile("orphans")
            self.cluster.pass_time(3)
            if all(self.cluster.snapshots[name].status.end_time for name in ("last", "last-files")):
                break
        self.ready_means_restorable()
        for name in ("last", "last-files"):
            ready = find(self.cluster.snapshots[name].status.conditions, "Ready")
            assert ready is not None
            assert ready.status == "True", f"{name}: {ready.message}"

    def _check_the_end(self) -> None:
        cluster = self.cluster
        assert cluster.copies() == [], "a copy is left"
        assert cluster.marked() == [], "a mark is left on a claim"
        stuck = set()
        for run in (*cluster.restores.values(), *cluster.snapshots.values()):
            name, status = run.meta.name, run.status
            ready = find(status.conditions, "Ready")
            if ready is not None and ready.reason == "RollbackFailed":
                stuck.add(run.meta.uid)
                assert "half" in cluster.contents.values() or Purpose.RESTORE in self.luck
                continue
            if stuck and reasons(status.conditions)["Quiesced"][1] == "WaitingForOtherRun":
                continue
            assert status.end_time is not None, f"{name} does not end: {ready}"
            assert run.meta.deleted is None, f"{name} does not go: {ready}"
            assert find(status.conditions, "Reconciling") is None
            assert is_true(status.conditions, "Ready") != is_true(status.conditions, "Stalled")
            assert is_true(status.conditions, "Ready") == (status.failure is None)
        for workload in cluster.workloads.values():
            hold = read_hold(workload)
            if hold is not None and hold.run in stuck:
                continue
            assert hold is None, f"{workload.meta.name} is still held"
            assert "lowtide.dev/held" not in workload.meta.labels
            assert "lowtide.dev/released" not in workload.meta.annotations or stuck
            if workload.kind == "CronJob":
                assert not workload.suspended, f"{workload.meta.name} is still suspended"
            else:
                wanted = cluster.wanted[workload.meta.uid]
                assert workload.replicas == wanted, f"{workload.meta.name} has {workload.replicas}, not {wanted}"
        if not stuck:
            assert not cluster.jobs, "Jobs are left"

    def _over(self) -> bool:
        runs = (*self.cluster.snapshots.values(), *self.cluster.restores.values())
        return all(run.status.end_time is not None and run.meta.deleted is None for run in runs)

    def _keys(self) -> list[tuple[str, str]]:
        return [*(("snapshot", name) for name in NAMES), *(("restore", name) for name in BACKS)]

    def _held(self) -> list[Workload]:
        """What Snapshots hold; Restores are left in peace, since nobody can scale up beside a writer and expect no
        harm."""
        if self._held_by_restore():
            return []
        return [
            w for w in self.cluster.workloads.values() if HOLD_ANNOTATION in w.meta.annotations and w.kind != "CronJob"
        ]

    def _good(self) -> dict[str, SnapshotObject]:
        return {n: s for n, s in self.cluster.snapshots.items() if is_true(s.status.conditions, "Ready")}

    def _workload(self, name: str) -> Workload:
        return next(found for found in self.cluster.workloads.values() if found.meta.name == name)

    def _held_by_restore(self) -> bool:
        return any(restore.status.end_time is None for restore in self.cluster.restores.values())

    def _snapshot_of(self, uid: str) -> SnapshotObject | None:
        return next((found for found in self.cluster.snapshots.values() if found.meta.uid == uid), None)


EXAMPLES = os.environ.get("LOWTIDE_HISTORIES")
"""How many new histories are tried, after a change to a planner; without it the same 60 each time."""

Histories.TestCase.settings = settings(
    max_examples=int(EXAMPLES or 60),
    derandomize=EXAMPLES is None,
    stateful_step_count=60,
    deadline=timedelta(seconds=60),
    suppress_health_check=list(HealthCheck),
)
TestHistories = Histories.TestCase
