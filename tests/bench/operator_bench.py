"""What the operator costs and how fast it is: `python -m tests.bench.operator_bench [memory|steps ...]`.

memory: resident memory at rest and with 500 policies, on a real API server without nodes.
steps: the seconds of each step of a first Snapshot of a 10 MB volume and of further ones, on the real cluster of
    tests/cluster, and what they come to beyond the time that pods take to start and stop.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any

from lowtide_operator.cluster import kinds
from tests.bench.pods import PodWatch, RunWatch
from tests.cluster import clusters
from tests.cluster.controlplane import control_plane
from tests.cluster.waiting import wait_for
from tests.demo.install import install, repository_secret
from tests.integration.operator_world.world import World, world
from tests.s3 import s3_server

POLICIES = 500
NAMESPACE = "lowtide-bench"
AGAIN = 5
MEGABYTE = 1024 * 1024
SETTLE_SECONDS = 10.0


def memory() -> dict[str, float]:
    """Resident memory (MB) at rest and with 500 policies, and the seconds until all of them are Ready."""
    with (
        control_plane() as plane,
        tempfile.TemporaryDirectory(prefix="lowtide-bench-") as folder,
        world(plane, Path(folder)) as made,
    ):
        made.operator.start()
        time.sleep(SETTLE_SECONDS)
        rest = made.operator.rss()
        for number in range(POLICIES):
            made.policy(f"policy-{number:03}", schedule=f"{number % 60} 2 * * *")
        began = time.monotonic()
        wait_for(
            "all policies are Ready", lambda: ready(made) == POLICIES, within=300, every=1, seen=made.operator.tail
        )
        seconds = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        return {
            "rss at rest, MB": rest / MEGABYTE,
            f"rss with {POLICIES} policies, MB": made.operator.rss() / MEGABYTE,
            f"from the last of {POLICIES} policies to all Ready, s": seconds,
        }


def ready(world: World) -> int:
    """How many policies are Ready."""
    return sum(
        any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions(policy))
        for policy in world.api.list(kinds.BACKUP_POLICY, world.namespace)
    )


def conditions(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The conditions of an object."""
    found: list[dict[str, Any]] = (body.get("status") or {}).get("conditions") or []
    return found


def steps_of(body: dict[str, Any]) -> dict[str, float]:
    """The seconds of each step of a run that ended, from its own status (times there are whole seconds)."""
    status = body["status"]
    ledger = status.get("quiesce") or {}
    moments = {
        "object made": body["metadata"]["creationTimestamp"],
        "started": status.get("startTime"),
        "first workload stopped": ledger.get("startTime"),
        "pods gone": ledger.get("goneTime"),
        "volumes read, workloads put back": ledger.get("releasedTime"),
        "workloads ready": ledger.get("readyTime"),
        "Ready": status.get("endTime"),
    }
    first = datetime.fromisoformat(str(moments["object made"]))
    return {
        f"{name}, s": (datetime.fromisoformat(moment) - first).total_seconds()
        for name, moment in moments.items()
        if moment is not None
    }


def steps() -> dict[str, float]:
    """The steps of a Snapshot of a 10 MB volume, and the means of AGAIN others of what is stored then."""
    kube = clusters.cluster()
    kubectl = kube.kubectl
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", "--timeout=120s", timeout=150)
    kubectl("create", "namespace", NAMESPACE)
    with s3_server(address=kube.address) as s3:
        install(kube)
        secret = repository_secret("repository", s3.repository("bench"), "a password for the bench", s3.environment)
        kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=secret)
        kubectl.apply(*shop(kube), namespace=NAMESPACE)
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/web", "--timeout=120s", timeout=150)
        write = ["sh", "-c", "head -c 10000000 /dev/urandom > /data/file && sync"]
        kubectl("-n", NAMESPACE, "exec", "deployment/web", "--", *write)
        first, *later = [run_once(kube, f"snapshot-{number}") for number in range(1 + AGAIN)]
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    # The kubelet looks at its containers once a second: one run alone says little.
    means = {what: mean(run[what] for run in later if what in run) for run in later for what in run}
    return {f"first: {what}": value for what, value in first.items()} | {
        f"again: {what}": value for what, value in means.items()
    }


def run_once(kube: clusters.Cluster, name: str) -> dict[str, float]:
    """The steps of one Snapshot from its object to Ready, and when its pods were made, ran, had ended and were gone."""
    with PodWatch(kube.kubectl, NAMESPACE) as pods, RunWatch(kube.kubectl, NAMESPACE, name) as run:
        kube.kubectl.apply(ours("Snapshot", name, {"policyName": "bench"}), namespace=NAMESPACE)
        began, ended = run.wait(180)
        waited, ran = pods.busy(began, ended), pods.ran(began)
        late = pods.busy(began, ended, as_it_was=True)
    body = kube.kubectl.get("snapshots.lowtide.dev", name, "-n", NAMESPACE)
    reason = next(entry["reason"] for entry in conditions(body) if entry["type"] == "Ready")
    if reason != "Complete":
        raise AssertionError(f"Snapshot {name} ended as {reason}: {body['status']}")
    found = steps_of(body)
    for purpose, told in ran.items():
        found |= {f"pod of {purpose} {word}, s": seconds for word, seconds in told.items()}
    found["from the object to Ready, s"] = ended - began
    found["of these, while no pod started or stopped, s"] = ended - began - waited
    found["the same, but for what the kubelet tells late, s"] = ended - began - late
    return found


def ours(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object of ours."""
    return {"apiVersion": "lowtide.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def shop(kube: clusters.Cluster) -> list[dict[str, Any]]:
    """A Deployment with one volume, and its policy."""
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": kube.storage_class,
        "resources": {"requests": {"storage": "64Mi"}},
    }
    pod = {
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "web",
                "image": kube.images.apps,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "infinity"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
    deployment = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    policy = {
        "repository": {"secretName": "repository"},
        "volumes": {"claims": ["data"]},
        "capture": {"method": "Direct"},
    }
    return [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": deployment},
        ours("BackupPolicy", "bench", policy),
    ]


def main(arguments: list[str]) -> int:
    """Measure what is named (default: both), and print it."""
    for name in arguments or ["memory", "steps"]:
        measure = {"memory": memory, "steps": steps}.get(name)
        if measure is None:
            print(f"no such measurement: {name}; there are memory and steps", file=sys.stderr)
            return 2
        for what, value in measure().items():
            print(f"{what:58} {value:8.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
