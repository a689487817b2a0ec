"""Small Kubernetes objects that many cluster tests need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def claim(
    name: str, storage_class: str, *, source: Mapping[str, str] | None = None, size: str = "1Gi"
) -> dict[str, Any]:
    """A ReadWriteOnce claim; `source` is {"kind": "VolumeSnapshot" or "PersistentVolumeClaim", "name": …}."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": size}},
    }
    if source is not None:
        group = {"apiGroup": "snapshot.storage.k8s.io"} if source["kind"] == "VolumeSnapshot" else {}
        spec["dataSource"] = {**source, **group}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def snapshot(name: str, claim_name: str, snapshot_class: str) -> dict[str, Any]:
    """A VolumeSnapshot of a claim."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {"volumeSnapshotClassName": snapshot_class, "source": {"persistentVolumeClaimName": claim_name}},
    }


def pod(name: str, image: str, command: Sequence[str], *, claims: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A pod that runs once; `claims` maps mount paths to claims."""
    mounts = [{"name": f"v{number}", "mountPath": path} for number, path in enumerate(claims or {})]
    volumes = [
        {"name": f"v{number}", "persistentVolumeClaim": {"claimName": each}}
        for number, each in enumerate((claims or {}).values())
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": image, "command": list(command), "volumeMounts": mounts}],
            "volumes": volumes,
        },
    }
