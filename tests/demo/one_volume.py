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
DEVICE = "/dev/data"
STARTS = "/data/starts"
"""A line for each time that the pod started."""


def ready(status: Object) -> dict[str, str]:
    """The condition Ready of a status."""
    found: dict[str, str] = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
    return found


@dataclass(frozen=True, slots=True)
class OneVolume:
    """The Deployment `web` on the claim `data`, in a namespace that is there."""

    cluster: Cluster
    namespace: str

    def set_up(
        self,
        *,
        storage_class: str,
        size: str = "2Gi",
        mode: str = "ReadWriteOnce",
        block: bool = False,
        user: int | None = 1000,
        fs_group: bool = True,
        grace: int = 1,
    ) -> None:
        """Make it, and wait until its pod is ready. With `block` the claim is the device DEVICE, and no start is
        written down. `user` None leaves it to the image, which then is root. Without `fs_group` the kubelet leaves
        owners and modes on the volume alone. A pod takes its `grace` (seconds) to go."""
        claim = {
            "accessModes": [mode],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": size}},
            "volumeMode": "Block" if block else "Filesystem",
        }
        use = (
            {"volumeDevices": [{"name": "data", "devicePath": DEVICE}]}
            if block
            else {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
        )
        note = "" if block else f"echo started >> {STARTS} && "
        identity = {} if user is None else {"runAsUser": user, "runAsGroup": user}
        if user is not None and fs_group:
            identity["fsGroup"] = user
        pod = {
            "securityContext": identity,
            "terminationGracePeriodSeconds": grace,
            "containers": [
                {
                    "name": "web",
                    "image": self.cluster.images.apps,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", f"{note}exec sleep infinity"],
                    # Ready once it has written down that it was started.
                    "readinessProbe": {
                        "exec": {"command": ["grep", "-qx", "sleep", "/proc/1/comm"]},
                        "periodSeconds": 1,
                    },
                    **use,
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

    def policy(
        self, name: str, *, mover: Object | None = None, repository: Object | None = None, **capture: Any
    ) -> None:
        """A policy over the claim."""
        spec = {
            "repository": {"secretName": SECRET, **(repository or {})},
            "volumes": {"claims": [CLAIM]},
            "capture": capture,
            "mover": mover or {},
        }
        self.ours("BackupPolicy", name, spec)

    def snapshot(self, name: str, policy: str, within: float = 300) -> Object:
        """Take a Snapshot, and answer its status once it has ended; raises AssertionError where it is not Ready."""
        self.ours("Snapshot", name, {"policyName": policy})
        return self.succeeded("snapshots", name, within)

    def restore(self, name: str, volume: Object | None = None, *, snapshot: str = "first", **spec: Any) -> None:
        """Ask for a Restore of the claim, in place unless `volume` says more."""
        volumes = [{"claim": CLAIM, **(volume or {})}]
        self.ours(
            "Restore",
            name,
            {"source": {"snapshotName": snapshot}, "volumes": volumes, "overwrite": "Mirror", **spec},
        )

    def status(self, kind: str, name: str) -> Object:
        """What an object of ours says of itself."""
        found: Object = self.cluster.kubectl.get("-n", self.namespace, f"{kind}.lowtide.dev", name).get("status", {})
        return found

    def ended(self, kind: str, name: str, within: float = 300) -> Object:
        """The status of a run, once it has ended; how it ended is in its condition Ready."""

        def ended() -> Object | None:
            status = self.status(kind, name)
            return status if status.get("endTime") else None

        return wait_for(f"{kind} {name} has ended", ended, within=within, every=0.5)

    def succeeded(self, kind: str, name: str, within: float = 300) -> Object:
        """The same; raises AssertionError where it is not Ready."""
        status = self.ended(kind, name, within)
        verdict = ready(status)
        assert verdict["status"] == "True", f"{verdict['reason']}: {verdict['message']}"
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
