"""One namespace with a shop in it: a Deployment on one claim, a StatefulSet on another, a policy over both."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.kinds import Kind
from lowtide_operator.planning.naming import HELD_LABEL, PURPOSE_LABEL, RELEASE_OF_LABEL, RUN_LABEL
from tests.cluster.controlplane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.storage import define_snapshots
from tests.cluster.waiting import wait_for
from tests.integration.operator_world.api import Api, Object
from tests.integration.operator_world.kubelet import DRIVER, PlayedKubelet
from tests.integration.operator_world.movers import Movers
from tests.integration.operator_world.process import ROOT, Operator, ReleasePod

PATIENCE = 60.0
"""Seconds within which a run ends here; it takes about 5."""

WORKLOADS = ((kinds.DEPLOYMENT, "web", 2), (kinds.STATEFUL_SET, "db", 1))


class World:
    """Everything that a test needs of a namespace of its own."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.api = Api(plane)
        self.namespace = f"shop-{uuid.uuid4().hex[:8]}"
        self.movers = Movers()
        self.kubelet = PlayedKubelet(self.api, self.namespace, self.movers)
        self.folder = folder
        self.operator = Operator(plane.kubeconfig, folder / "operator.log", self.namespace)

    def set_up(self) -> None:
        """The namespace, its Secret, its claims, and workloads that run."""
        self.api.create(kinds.NAMESPACE, {"metadata": {"name": self.namespace}})
        wait_for("the service account", lambda: self.api.get(ACCOUNT, self.namespace, "default"), within=90)
        self.kubelet.start()
        for name in ("web-data", "db-data"):
            self.api.create(kinds.CLAIM, claim(self.namespace, name))
        for kind, name, count in WORKLOADS:
            self.api.create(kind, workload(self.namespace, kind, name, f"{name}-data", count))
        wait_for("the workloads run", self.all_ready, within=PATIENCE)

    def tear_down(self) -> None:
        """End the kubelet after the operator; the namespace's own end is the control plane's business."""
        self.operator.kill()
        self.kubelet.stop()
        for kind in (kinds.SNAPSHOT, kinds.RESTORE, kinds.BACKUP_POLICY):
            for body in self.api.list(kind, self.namespace):
                self.api.patch(kind, self.namespace, body["metadata"]["name"], {"metadata": {"finalizers": None}})
        self.api.delete(kinds.NAMESPACE, None, self.namespace)
        self.api.close()

    def allow_copies(self) -> None:
        """Snapshots in the API server, the classes `played`, and a driver that takes and copies."""
        define_snapshots(self.plane.kubectl)
        taking = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "deletionPolicy": "Delete"}
        grouping = {**taking, "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshotClass"}
        making = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": DRIVER}
        named = {"metadata": {"name": "played"}}
        classes = [{**body, **named, "driver": DRIVER} for body in (taking, grouping)]
        self.plane.kubectl.apply(*classes, {**making, **named})
        self.kubelet.takes_snapshots = True

    def policy(self, name: str = "nightly", **spec: Any) -> Object:
        """Create a BackupPolicy over both claims."""
        whole = {
            "repository": {"secretName": "repository"},
            "volumes": {"claims": ["web-data", "db-data"]},
            "capture": {"method": "Direct"},
            "mover": {"retry": {"limit": 1, "backoff": "1s"}},
            **spec,
        }
        return self.api.create(
            kinds.BACKUP_POLICY, {"metadata": {"name": name, "namespace": self.namespace}, "spec": whole}
        )

    def snapshot(self, name: str = "first", policy: str = "nightly", **spec: Any) -> Object:
        """Create a Snapshot by hand."""
        body = {"metadata": {"name": name, "namespace": self.namespace}, "spec": {"policyName": policy, **spec}}
        return self.api.create(kinds.SNAPSHOT, body)

    def restore(self, name: str, **spec: Any) -> Object:
        """Create a Restore."""
        return self.api.create(kinds.RESTORE, {"metadata": {"name": name, "namespace": self.namespace}, "spec": spec})

    def restore_until_it_writes(self, **spec: Any) -> None:
        """Make the Snapshot `first`, and a Restore `back` of it over db-data; and wait until its mover writes."""
        self.policy()
        self.snapshot()
        self.await_ready(kinds.SNAPSHOT, "first")
        over = {"volumes": [{"claim": "db-data"}], "overwrite": "Mirror"}
        self.restore("back", source={"snapshotName": "first"}, **over, **spec)
        wait_for("it writes", lambda: self.movers.count("restore"), within=PATIENCE, seen=self.operator.tail)

    def hold_movers(self, purpose: str) -> None:
        """Let no mover with this purpose start, until `let_movers_start`."""
        self.kubelet.held_back = lambda pod: pod["metadata"].get("labels", {}).get(PURPOSE_LABEL) == purpose

    def let_movers_start(self) -> None:
        self.kubelet.held_back = lambda pod: False

    def release_jobs(self, run: str = "") -> list[Object]:
        """The Jobs of release pods: of all runs, or of the one with this uid."""
        return self.api.list(kinds.JOB, self.namespace, f"{RELEASE_OF_LABEL}={run}" if run else RELEASE_OF_LABEL)

    def release_pod(self, kind: Kind, name: str) -> ReleasePod:
        """The release pod of a run, not started."""
        run = self.api.get(kind, self.namespace, name) or {}
        (job,) = self.release_jobs(run["metadata"]["uid"])
        arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
        return ReleasePod(self.plane.kubeconfig, self.folder / "release.log", arguments)

    def status(self, kind: Kind, name: str) -> Object:
        """The status of an object of ours; empty where it or its status is not there."""
        return (self.api.get(kind, self.namespace, name) or {}).get("status") or {}

    def condition(self, kind: Kind, name: str, condition: str = "Ready") -> Object:
        """One condition as it is now; empty where it is not there."""
        return condition_of(self.status(kind, name), condition)

    def await_ready(self, kind: Kind, name: str, within: float = PATIENCE) -> Object:
        """Wait until Ready is True, and answer the status. A run that failed ends the wait at once."""

        def ready() -> Object | None:
            status = self.status(kind, name)
            word = condition_of(status)
            if kind != kinds.BACKUP_POLICY and status.get("endTime"):
                assert word["status"] == "True", word
            return status if word.get("status") == "True" else None

        return wait_for(f"{kind} {name} is Ready", ready, within=within, seen=lambda: self.seen(kind, name))

    def await_end(self, kind: Kind, name: str, within: float = PATIENCE) -> Object:
        """Wait until the run has ended, and answer its Ready condition."""
        wait_for(
            f"{kind} {name} has ended",
            lambda: self.status(kind, name).get("endTime"),
            within=within,
            seen=lambda: self.seen(kind, name),
        )
        return self.condition(kind, name)

    def await_gone(self, kind: Kind, name: str, within: float = PATIENCE) -> None:
        """Wait until the object is gone."""
        wait_for(
            f"{kind} {name} is gone",
            lambda: self.api.get(kind, self.namespace, name) is None,
            within=within,
            seen=lambda: self.seen(kind, name),
        )

    def pods(self) -> set[str]:
        """The uids of the workloads' pods."""
        return {
            pod["metadata"]["uid"]
            for pod in self.api.list(kinds.POD, self.namespace)
            if not {RUN_LABEL, RELEASE_OF_LABEL} & set(pod["metadata"].get("labels") or {})
        }

    def seen(self, kind: Kind, name: str) -> str:
        """What to tell of a wait that failed."""
        return f"{self.status(kind, name)}\n{self.kubelet.errors}\n{self.operator.tail()}"

    def counts(self) -> dict[str, int]:
        """The replicas that each workload wants."""
        bodies = {name: self.api.get(kind, self.namespace, name) for kind, name, _ in WORKLOADS}
        return {name: body["spec"]["replicas"] for name, body in bodies.items() if body is not None}

    def wanted_counts(self) -> dict[str, int]:
        """The replicas that each workload had at the beginning."""
        return {name: count for _, name, count in WORKLOADS}

    def held(self) -> list[str]:
        """The workloads that carry a hold."""
        return [
            body["metadata"]["name"]
            for kind in (kinds.DEPLOYMENT, kinds.STATEFUL_SET)
            for body in self.api.list(kind, self.namespace)
            if HELD_LABEL in (body["metadata"].get("labels") or {})
        ]

    def all_ready(self) -> bool:
        """Whether every workload runs as it did at the beginning."""
        for kind, name, count in WORKLOADS:
            status = (self.api.get(kind, self.namespace, name) or {}).get("status") or {}
            if status.get("readyReplicas", 0) != count:
                return False
        return True

    def assert_back(self) -> None:
        """Every workload is back at its count, nothing is held, and it runs."""
        assert self.counts() == self.wanted_counts()
        assert self.held() == []
        wait_for("the workloads run again", self.all_ready, within=PATIENCE, seen=self.operator.tail)


ACCOUNT = Kind("", "v1", "serviceaccounts", "ServiceAccount")


def condition_of(status: Object, condition: str = "Ready") -> Object:
    """The condition in one reading of a status, so that it is never newer or older than what stands beside it; empty
    where it is not there."""
    return next((entry for entry in status.get("conditions") or [] if entry["type"] == condition), {})


def claim(namespace: str, name: str, size: str = "10Mi") -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "resources": {"requests": {"storage": size}},
        },
    }


def workload(namespace: str, kind: Kind, name: str, claim_name: str, replicas: int) -> Object:
    labels = {"app": name}
    pod = {
        "containers": [
            {"name": "main", "image": "played", "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}],
        "terminationGracePeriodSeconds": 1,
    }
    spec: Object = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    if kind == kinds.STATEFUL_SET:
        spec["serviceName"] = name
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


@functools.cache
def _define(kubectl: Kubectl) -> None:
    """Apply the definitions of our kinds, once for each API server."""
    kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    kubectl("wait", "--for=condition=Established", "-f", str(ROOT / "crds"), "--timeout=30s")


@contextlib.contextmanager
def world(plane: ControlPlane, folder: Path) -> Iterator[World]:
    """A World for the time of a `with` block; the operator is not started."""
    _define(plane.kubectl)
    made = World(plane, folder)
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()
