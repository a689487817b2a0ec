"""A kubelet and a provisioner that only play: pods get a node and run, claims get a volume, nothing is mounted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lowtide_operator.cluster import kinds
from lowtide_operator.planning.naming import PURPOSE_LABEL, RUN_LABEL
from tests.integration.operator_world.api import Api, ApiError, Object
from tests.integration.operator_world.movers import Movers, Play, message_of

NODE = "played-node"
DRIVER = "played.lowtide.dev"


def stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class PlayedKubelet:
    """Plays the pods of `namespace`, from `start` to `stop`. `linger` is how many seconds a deleted pod takes to go. A
    pod of which `stays` is true does not go, and one of which `held_back` is true does not become ready.

    While it is `stopped` it does nothing at all, and its containers do not go on either.

    With `takes_snapshots` VolumeSnapshots and VolumeGroupSnapshots become ready. While there is `trouble`, no copy is
    made, and it is said why.
    """

    def __init__(self, api: Api, namespace: str, movers: Movers) -> None:
        self._api = api
        self._namespace = namespace
        self.movers = movers
        self.also: list[str] = []
        """Further namespaces whose pods are played."""
        self.linger = 0.0
        self.stays: Callable[[Object], bool] = lambda pod: False
        self.held_back: Callable[[Object], bool] = lambda pod: False
        self.stopped = False
        self.takes_snapshots = False
        self.trouble = ""
        self.errors: list[str] = []
        self._plays: dict[str, tuple[Play, float]] = {}
        self._going: dict[str, float] = {}
        self._settled: dict[str, list[str]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="played kubelet", daemon=True)
        self._next_heartbeat = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def _run(self) -> None:
        while not self._stopping.wait(0.1):
            if self.stopped:
                self._next_heartbeat = 0.0
                continue
            try:
                self._round()
            except (OSError, ApiError) as error:
                if isinstance(error, ApiError) and error.status not in (403, 404, 409, 422, 429, 500, 503):
                    self.errors.append(str(error))

    def _round(self) -> None:
        if time.monotonic() >= self._next_heartbeat:
            self._keep_node_ready()
            self._next_heartbeat = time.monotonic() + 10
        for claim in self._api.list(kinds.CLAIM, self._namespace):
            if not claim["spec"].get("volumeName") and "deletionTimestamp" not in claim["metadata"]:
                if self.trouble and claim["spec"].get("dataSource"):
                    self._complain(claim)
                else:
                    self._provision(claim)
        if self.takes_snapshots:
            groups = self._api.list(kinds.GROUP_SNAPSHOT, self._namespace)
            for group in groups:
                self._take_together(group)
            there = {group["metadata"]["uid"] for group in groups}
            for snapshot in self._api.list(kinds.VOLUME_SNAPSHOT, self._namespace):
                owners = snapshot["metadata"].get("ownerReferences") or ()
                if any(o["kind"] == kinds.GROUP_SNAPSHOT.kind and o["uid"] not in there for o in owners):
                    self._api.delete(kinds.VOLUME_SNAPSHOT, self._namespace, snapshot["metadata"]["name"])
                else:
                    self._take(snapshot)
        for namespace in (self._namespace, *self.also):
            for pod in self._api.list(kinds.POD, namespace):
                self._step(pod)

    def _step(self, pod: Object) -> None:
        metadata, status = pod["metadata"], pod.get("status") or {}
        name, uid = metadata["name"], metadata["uid"]
        if "deletionTimestamp" in metadata:
            since = self._going.setdefault(uid, time.monotonic())
            if time.monotonic() - since >= self.linger and not self.stays(pod):
                if status.get("phase") == "Running":
                    self._set_killed(pod)
                self._api.delete(kinds.POD, metadata["namespace"], name, grace=0)
        elif not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            self._api.call("POST", kinds.POD.path(metadata["namespace"], name, "binding"), binding)
        elif status.get("phase") == "Pending":
            if not self.held_back(pod):
                self._set_running(pod)
        elif status.get("phase") == "Running" and RUN_LABEL in (metadata.get("labels") or {}):
            self._step_mover(pod)

    def _set_killed(self, pod: Object) -> None:
        """As a kubelet reports the containers of a deleted pod before the object goes: Jobs wait for that."""
        ended = {"exitCode": 143, "reason": "Error", "startedAt": stamp(), "finishedAt": stamp()}
        containers = [{**_container(entry), "state": {"terminated": ended}} for entry in pod["spec"]["containers"]]
        self._set(pod, {"phase": "Failed", "containerStatuses": containers})

    def _set_running(self, pod: Object) -> None:
        containers = [
            {**_container(entry), "state": {"running": {"startedAt": stamp()}}, "ready": True, "started": True}
            for entry in pod["spec"]["containers"]
        ]
        conditions = [
            {"type": kind, "status": "True", "lastTransitionTime": stamp()}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ]
        self._set(
            pod, {"phase": "Running", "startTime": stamp(), "conditions": conditions, "containerStatuses": containers}
        )

    def _step_mover(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._plays:
            words = pod["spec"]["containers"][0]["args"]
            self._plays[uid] = (self.movers.play(words, uid), time.monotonic())
        play, since = self._plays[uid]
        waits = play.until is not None and not play.until.is_set()
        if play.hang or waits or time.monotonic() - since < play.seconds:
            return
        if play.vanish:
            self._set(
                pod, {"phase": "Failed", "reason": "NodeLost", "message": "the node is gone, says the pod collector"}
            )
            self._api.delete(kinds.POD, self._namespace, pod["metadata"]["name"], grace=0)
            return
        good = play.result is not None and play.result.outcome != "failed"
        ended: dict[str, Any] = {
            "exitCode": 137 if play.oom else 0 if good else 1,
            "reason": "OOMKilled" if play.oom else "Completed" if good else "Error",
            "startedAt": stamp(),
            "finishedAt": stamp(),
            "message": "" if play.oom else message_of(play),
        }
        # The mover is the first container; beside it a stream's command ends well, or says why not.
        beside = {**ended, "exitCode": 0 if good else 1, "message": play.said}
        containers = [
            {**_container(entry), "state": {"terminated": beside if number else ended}}
            for number, entry in enumerate(pod["spec"]["containers"])
        ]
        self._set(pod, {"phase": "Succeeded" if good else "Failed", "containerStatuses": containers})

    def _set(self, pod: Object, status: Object) -> None:
        metadata = pod["metadata"]
        self._api.patch(kinds.POD, metadata["namespace"], metadata["name"], {"status": status}, "status")

    def _provision(self, claim: Object) -> None:
        """A volume for the claim; the volume controller of the control plane binds the two."""
        metadata, spec = claim["metadata"], claim["spec"]
        name = f"played-{metadata['uid']}"
        if self._api.get(kinds.VOLUME, None, name) is not None:
            return
        volume = {
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": spec.get("storageClassName", ""),
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": self._namespace,
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
                "csi": {"driver": DRIVER, "volumeHandle": name},
            },
        }
        self._api.create(kinds.VOLUME, volume)

    def _take(self, snapshot: Object) -> None:
        name, status = snapshot["metadata"]["name"], snapshot.get("status") or {}
        if self.trouble:
            told: Object = {"readyToUse": False, "error": {"message": self.trouble, "time": stamp()}}
        else:
            told = {
                "readyToUse": True,
                "boundVolumeSnapshotContentName": f"played-{name}",
                "restoreSize": "10Mi",
                "error": None,
            }
        if status.get("readyToUse") is not told["readyToUse"]:
            self._api.patch(kinds.VOLUME_SNAPSHOT, self._namespace, name, {"status": told}, "status")

    def _take_together(self, group: Object) -> None:
        """As the snapshot controller goes about it: what the selector finds when the content is made is settled; then
        the members are made, and then the group is ready."""
        metadata, status = group["metadata"], group.get("status") or {}
        name, told = metadata["name"], dict(status)
        if "deletionTimestamp" in metadata or status.get("readyToUse"):
            return
        members = self._settled.get(metadata["uid"])
        if members is None:
            selector = group["spec"]["source"]["selector"]["matchLabels"]
            labels = ",".join(f"{key}={value}" for key, value in selector.items())
            found = [claim["metadata"]["name"] for claim in self._api.list(kinds.CLAIM, self._namespace, labels)]
            if found and not self.trouble:
                self._settled[metadata["uid"]] = found
                told = {"boundVolumeGroupSnapshotContentName": f"played-{name}", "readyToUse": False, "error": None}
            else:
                message = self.trouble or f"label selector {labels} for group snapshot not applied to any PVC"
                told = {"error": {"message": message}}
        else:
            owner = {key: group[key] for key in ("apiVersion", "kind")} | {"name": name, "uid": metadata["uid"]}
            for claim in members:
                member = {"name": f"{name}-{claim}", "namespace": self._namespace, "ownerReferences": [owner]}
                body = {"metadata": member, "spec": {"source": {"persistentVolumeClaimName": claim}}}
                if self._api.get(kinds.VOLUME_SNAPSHOT, self._namespace, member["name"]) is None:
                    self._api.create(kinds.VOLUME_SNAPSHOT, body)
            told = {"readyToUse": True, "error": None}
        if (status.get("error") or {}).get("message") != (told.get("error") or {}).get("message") or told != status:
            self._api.patch(kinds.GROUP_SNAPSHOT, self._namespace, name, {"status": told}, "status")

    def _complain(self, claim: Object) -> None:
        """What a provisioner tells of a claim for which it can make no volume."""
        metadata = claim["metadata"]
        name = f"{metadata['name']}.trouble"
        if self._api.get(kinds.EVENT, self._namespace, name) is None:
            about = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": self._namespace}
            event = {
                "metadata": {"name": name, "namespace": self._namespace},
                "involvedObject": {**about, "name": metadata["name"], "uid": metadata["uid"]},
                "type": "Warning",
                "reason": "ProvisioningFailed",
                "message": self.trouble,
                "lastTimestamp": stamp(),
            }
            self._api.create(kinds.EVENT, event)

    def _keep_node_ready(self) -> None:
        if self._api.get(kinds.NODE, None, NODE) is None:
            self._api.create(kinds.NODE, {"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}})
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Played",
            "lastHeartbeatTime": stamp(),
            "lastTransitionTime": stamp(),
        }
        self._api.patch(kinds.NODE, None, NODE, {"status": {"conditions": [ready]}}, "status")


def _container(entry: Object) -> Object:
    return {"name": entry["name"], "image": entry["image"], "imageID": "", "ready": False, "restartCount": 0}


def purpose(pod: Object) -> str:
    """What a mover's pod is for."""
    return str((pod["metadata"].get("labels") or {}).get(PURPOSE_LABEL, ""))
