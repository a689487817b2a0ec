"""A shop in a MemoryCluster, with controllers and movers that play, and the driver that is under test."""

from __future__ import annotations

import copy
import hashlib
import itertools
from dataclasses import dataclass, field
from typing import Any

from lowtide_engine.contract import Outcome, Result, encode
from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.cluster.memory import Call, MemoryCluster
from lowtide_operator.manifests import Installation, ReleasePods, mover_job, release_job
from lowtide_operator.planning.naming import GROUP_SNAPSHOT_LABEL, HELD_LABEL, RELEASE_OF_LABEL
from lowtide_operator.reconcile.apply import Applier
from lowtide_operator.reconcile.driver import Driver
from lowtide_operator.reconcile.gather import Gatherer
from lowtide_operator.reconcile.keys import KIND_OF, Key, Subject
from lowtide_operator.reconcile.leases import NamespaceLeases
from lowtide_operator.reconcile.planners import plan
from lowtide_operator.telemetry import Metrics

Object = dict[str, Any]

SHOP = "shop"
REPOSITORY_ID = hashlib.sha256(b"repository").hexdigest()
WORKLOADS: tuple[tuple[Kind, str, int], ...] = ((kinds.DEPLOYMENT, "web", 2), (kinds.STATEFUL_SET, "db", 1))
CLAIMS = ("web-data", "db-data")
DRIVER = "csi.example"


class Died(BaseException):
    """The operator's process, ended in the middle of a call."""


@dataclass
class Shop:
    """A namespace with two workloads, two claims, a node, a policy. Times are those of the cluster."""

    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    stored: dict[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        put = self.cluster.put
        put(kinds.NAMESPACE, {"metadata": {"name": SHOP}})
        put(kinds.NODE, {"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        for name in CLAIMS:
            put(kinds.VOLUME, {"metadata": {"name": f"pv-{name}"}, "spec": {"csi": {"driver": DRIVER}}})
            spec = {"volumeName": f"pv-{name}", "accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}
            put(
                kinds.CLAIM,
                {
                    "metadata": {"name": name, "namespace": SHOP},
                    "spec": {**spec, "resources": {"requests": {"storage": "1Gi"}}},
                    "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
                },
            )
        put(kinds.STORAGE_CLASS, {"metadata": {"name": "fast"}, "provisioner": DRIVER})
        put(
            kinds.VOLUME_SNAPSHOT_CLASS,
            {"metadata": {"name": "snapshots"}, "driver": DRIVER, "deletionPolicy": "Delete"},
        )
        put(
            kinds.GROUP_SNAPSHOT_CLASS,
            {"metadata": {"name": "groups"}, "driver": DRIVER, "deletionPolicy": "Delete"},
        )
        for kind, name, count in WORKLOADS:
            template = {"spec": pod_spec(f"{name}-data")}
            put(
                kind,
                {"metadata": {"name": name, "namespace": SHOP}, "spec": {"replicas": count, "template": template}},
            )
        self.policy()
        self.step()
        self.step()
        self.driver = self.new_driver()

    def copy(self) -> Shop:
        """Another shop in the same state, without a record of calls, and with an operator that knows nothing."""
        other = Shop(stored=dict(self.stored))
        other.cluster = MemoryCluster(
            time=self.cluster.time, objects=copy.deepcopy(self.cluster.objects), _version=self.cluster._version
        )
        other.driver = other.new_driver()
        return other

    def policy(self, **spec: Any) -> None:
        whole = {
            "repository": {"secretName": "repository"},
            "volumes": {"claims": list(CLAIMS)},
            "capture": {"method": "Direct"},
            **spec,
        }
        self.cluster.put(kinds.BACKUP_POLICY, {"metadata": {"name": "nightly", "namespace": SHOP}, "spec": whole})

    def snapshot(self, name: str = "first", **spec: Any) -> Key:
        body = {"metadata": {"name": name, "namespace": SHOP}, "spec": {"policyName": "nightly", **spec}}
        self.cluster.put(kinds.SNAPSHOT, body)
        return Key(Subject.SNAPSHOT, SHOP, name)

    def restore(self, name: str, **spec: Any) -> Key:
        self.cluster.put(kinds.RESTORE, {"metadata": {"name": name, "namespace": SHOP}, "spec": spec})
        return Key(Subject.RESTORE, SHOP, name)

    def new_driver(self) -> Driver:
        """A driver that knows nothing: the operator after a start."""
        installation = Installation(image="lowtide:test", cluster_uid="cluster")
        return Driver(
            cluster=self.cluster,
            gatherer=Gatherer(self.cluster, "cluster", "lowtide"),
            plan=plan,
            applier=Applier(
                self.cluster,
                lambda job: mover_job(job, installation),
                lambda job: release_job(job, installation, ReleasePods("lowtide", "release")),
            ),
            leases=NamespaceLeases(self.cluster, "tests/lowtide", 300),
            metrics=self.metrics,
        )

    async def drive(self, key: Key, *, most: int = 250) -> None:
        """Let operator and world take turns until the operator has nothing more to do about `key`."""
        for _ in range(most):
            before = self.cluster._version
            again = await self.driver.reconcile(key)
            self.step()
            if again is None and self.cluster._version == before:
                return
            self.cluster.advance(min(again if again is not None else 1.0, 5.0))
        raise AssertionError(f"{key} never comes to rest: {self.status(key)}")

    def step(self) -> None:
        """Let every controller act once."""
        for kind, name, _ in WORKLOADS:
            self._play_workload(kind, name)
        for job in self.cluster.all(kinds.JOB):
            if RELEASE_OF_LABEL in job["metadata"]["labels"]:
                self._play_release(job["metadata"])
            else:
                self._play_job(job)
        self._play_driver()

    def status(self, key: Key) -> Object:
        body = self.cluster.peek(KIND_OF[key.subject], SHOP, key.name)
        return (body or {}).get("status") or {}

    def ready(self, key: Key) -> tuple[str, str]:
        """Status and reason of the condition Ready."""
        conditions = {entry["type"]: entry for entry in self.status(key).get("conditions") or ()}
        ready = conditions.get("Ready", {})
        return ready.get("status", ""), ready.get("reason", "")

    def counts(self) -> dict[str, int]:
        found = {name: self.cluster.peek(kind, SHOP, name) for kind, name, _ in WORKLOADS}
        return {name: body["spec"]["replicas"] for name, body in found.items() if body is not None}

    def held(self) -> list[str]:
        bodies = [self.cluster.peek(kind, SHOP, name) or {} for kind, name, _ in WORKLOADS]
        return [body["metadata"]["name"] for body in bodies if HELD_LABEL in (body["metadata"].get("labels") or {})]

    def assert_back(self) -> None:
        """Every workload has its count again, and nothing carries a hold."""
        assert self.counts() == {name: count for _, name, count in WORKLOADS}
        assert self.held() == []

    def mutations(self) -> list[Call]:
        return [call for call in self.cluster.calls if call.mutates]

    def copies(self) -> list[str]:
        """Every copy that is there."""
        claims = [claim for claim in self.cluster.all(kinds.CLAIM) if claim["metadata"]["name"] not in CLAIMS]
        taken = (*self.cluster.all(kinds.VOLUME_SNAPSHOT), *self.cluster.all(kinds.GROUP_SNAPSHOT))
        return [body["metadata"]["name"] for body in (*claims, *taken)]

    def marked(self) -> list[str]:
        """The claims that are marked for a VolumeGroupSnapshot."""
        bodies = self.cluster.all(kinds.CLAIM)
        return [b["metadata"]["name"] for b in bodies if GROUP_SNAPSHOT_LABEL in (b["metadata"].get("labels") or {})]

    def _play_group(self, group: Object) -> None:
        """The snapshot controller: the members of what the selector finds, and then the group is ready."""
        metadata, selector = group["metadata"], group["spec"]["source"]["selector"]["matchLabels"]
        bodies = self.cluster.all(kinds.CLAIM)
        chosen = [b for b in bodies if selector.items() <= (b["metadata"].get("labels") or {}).items()]
        owner = {"apiVersion": group["apiVersion"], "kind": group["kind"]}
        for claim in chosen:
            name = claim["metadata"]["name"]
            owners = [{**owner, "name": metadata["name"], "uid": metadata["uid"]}]
            member = {"name": f"snapshot-of-{name}", "namespace": SHOP, "ownerReferences": owners}
            source = {"source": {"persistentVolumeClaimName": name}}
            self.cluster.put(kinds.VOLUME_SNAPSHOT, {"metadata": member, "spec": source})
        status = {"boundVolumeGroupSnapshotContentName": "content", "readyToUse": True} if chosen else {}
        self.cluster.put(kinds.GROUP_SNAPSHOT, {**group, "status": status})

    def _play_driver(self) -> None:
        for group in self.cluster.all(kinds.GROUP_SNAPSHOT):
            if not group.get("status"):
                self._play_group(group)
        for taken in self.cluster.all(kinds.VOLUME_SNAPSHOT):
            if not taken.get("status"):
                ready = {"readyToUse": True, "boundVolumeSnapshotContentName": "content", "restoreSize": "1Gi"}
                self.cluster.put(kinds.VOLUME_SNAPSHOT, {**taken, "status": ready})
        for claim in self.cluster.all(kinds.CLAIM):
            if not claim.get("status"):
                self.cluster.put(kinds.CLAIM, {**claim, "status": {"phase": "Bound"}})

    def _play_workload(self, kind: Kind, name: str) -> None:
        body = self.cluster.peek(kind, SHOP, name)
        if body is None:
            return
        wanted, uid = body["spec"]["replicas"], body["metadata"]["uid"]
        owner = {"apiVersion": kind.api_version, "kind": kind.kind, "name": name, "uid": uid, "controller": True}
        for number in itertools.count():
            pod = f"{name}-{number}"
            there = self.cluster.peek(kinds.POD, SHOP, pod)
            if number >= wanted:
                if there is None:
                    break
                self.cluster.remove(kinds.POD, SHOP, pod)
            elif there is None:
                self._put_pod(pod, owner, {}, pod_spec(f"{name}-data"), "Running")
        ready = {"readyReplicas": wanted, "observedGeneration": body["metadata"]["generation"]}
        if body.get("status") != ready:
            self.cluster.put(kind, {**body, "status": ready})

    def _play_release(self, job: Object) -> None:
        name = f"{job['name']}-pod"
        if self.cluster.peek(kinds.POD, job["namespace"], name) is None:
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["name"], "uid": job["uid"]}
            owner["controller"] = True
            self._put_pod(name, owner, job["labels"], {}, "Running", job["namespace"])

    def _play_job(self, job: Object) -> None:
        metadata = job["metadata"]
        name = f"{metadata['name']}-pod"
        pod = self.cluster.peek(kinds.POD, SHOP, name)
        template = job["spec"]["template"]
        if pod is None and not job.get("status"):
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
            self._put_pod(name, {**owner, "controller": True}, metadata["labels"], template["spec"], "Running")
            self.cluster.put(kinds.JOB, {**job, "status": {"startTime": self._stamp(), "active": 1}})
        elif pod is not None and pod["status"]["phase"] == "Running":
            words = template["spec"]["containers"][0]["args"]
            self.commands.append(words)
            self._end(pod, encode(self.result(words, metadata["uid"])).decode())
            done = [{"type": "Complete", "status": "True", "lastTransitionTime": self._stamp()}]
            now = {"startTime": self._stamp(), "completionTime": self._stamp(), "conditions": done}
            self.cluster.put(kinds.JOB, {**job, "status": now})

    def result(self, words: list[str], job: str) -> Result:
        """What the mover does and tells; tests put another in its place."""
        found: list[str] = []
        if words[0] in ("backup", "verdict"):
            found = [hashlib.sha256(f"{words[0]} {job}".encode()).hexdigest()]
            self.stored[found[0]] = frozenset(itertools.pairwise(words))
        return Result(
            command=words[0],
            outcome=Outcome.OK,
            reason="Done",
            repository_id=REPOSITORY_ID,
            snapshot_ids=found,
            files=3,
            bytes=3000,
            added_bytes=1000,
        )

    def _end(self, pod: Object, message: str) -> None:
        ended = {"exitCode": 0, "reason": "Completed", "finishedAt": self._stamp(), "message": message}
        status = {"phase": "Succeeded", "containerStatuses": [{"name": "mover", "state": {"terminated": ended}}]}
        self.cluster.put(kinds.POD, {**pod, "status": {**pod["status"], **status}})

    def _put_pod(
        self, name: str, owner: Object, labels: Object, spec: Object, phase: str, namespace: str = SHOP
    ) -> None:
        conditions = [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]
        self.cluster.put(
            kinds.POD,
            {
                "metadata": {"name": name, "namespace": namespace, "labels": dict(labels), "ownerReferences": [owner]},
                "spec": {**spec, "nodeName": "n"},
                "status": {"phase": phase, "startTime": self._stamp(), "conditions": conditions},
            },
        )

    def _stamp(self) -> str:
        return self.cluster.time.strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_spec(claim: str) -> Object:
    return {
        "containers": [{"name": "main", "image": "x", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }
