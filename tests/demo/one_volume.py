"""The smallest application with a volume: one pod that writes down each of its starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.cluster.clusters import Cluster
from tests.cluster.waiting import wait_for
from tests.demo.install import repository_secret

Object = dict[str, Any]

CLAIM = "data"
SECRET = "repository"
STARTS = "/data/starts"
"""A line for each time that the pod started."""


@dataclass(frozen=True, slots=True)
class OneVolume:
    """The Deployment `web` on the claim `data`, in a namespace that is there."""

    cluster: Cluster
    namespace: str

    def set_up(self, *, storage_class: str, size: str = "2Gi", mode: str = "ReadWriteOnce") -> None:
        """Make it, and wait until its pod is ready."""
        claim = {
            "accessModes": [mode],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}},
        }
        pod = {
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "web",
                    "image": self.cluster.images.apps,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", f"echo started >> {STARTS} && exec sleep infinity"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}}],
        }
        template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
        deployment = {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "Recreate"},
            "template": template,
        }
        self.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": claim})
        self.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": deployment})
        self.ready()

    def repository(self, url: str, password: str, environment: dict[str, str]) -> None:
        """Make the Secret of the repository."""
        self.run("apply", "-f", "-", stdin=repository_secret(SECRET, url, password, environment))

    def policy(self, name: str, **capture: Any) -> None:
        """A policy over the claim."""
        spec = {"repository": {"secretName": SECRET}, "volumes": {"claims": [CLAIM]}, "capture": capture}
        self.ours("BackupPolicy", name, spec)

    def snapshot(self, name: str, policy: str, within: float = 300) -> Object:
        """Take a Snapshot, and answer its status once it has ended; raises AssertionError where it is not Ready."""
        self.ours("Snapshot", name, {"policyName": policy})

        def ended() -> Object | None:
            status: Object = self.cluster.kubectl.get("-n", self.namespace, "snapshots.lowtide.dev", name).get(
                "status", {}
            )
            return status if status.get("endTime") else None

        status = wait_for(f"Snapshot {name} has ended", ended, within=within, every=0.5)
        ready = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
        assert ready["status"] == "True", f"{ready['reason']}: {ready['message']}"
        return status

    def ours(self, kind: str, name: str, spec: Object) -> None:
        """Apply an object of ours."""
        self.apply({"apiVersion": "lowtide.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})

    def apply(self, body: Object) -> None:
        """Apply an object in the namespace."""
        self.cluster.kubectl.apply(body, namespace=self.namespace)

    def ready(self, within: int = 180) -> None:
        """Wait until the pod is ready."""
        self.run("rollout", "status", "deployment/web", f"--timeout={within}s", timeout=within + 30)

    def shell(self, script: str) -> str:
        """What a script says that is run in the pod."""
        return self.run("exec", "deployment/web", "--", "sh", "-ec", script)

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 300) -> str:
        """kubectl in the namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin, timeout=timeout)
