"""The objects that hold volumes fast: a VolumeSnapshot, a VolumeGroupSnapshot, and a claim that is made from a
snapshot or clones another.

The run is their owner, so that they go with it even where no operator runs any more.
"""

from __future__ import annotations

from typing import Any

from lowtide_operator.planning.actions import CreateCopy, CreateGroupSnapshot, CreateVolumeSnapshot
from lowtide_operator.planning.naming import CLAIM_ANNOTATION

GROUP = "snapshot.storage.k8s.io"
GROUP_SNAPSHOT_GROUP = "groupsnapshot.storage.k8s.io"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
"""What the scheduler sets once it knows where a claim's consumer goes: with it a class that waits makes the volume."""


def volume_snapshot(wanted: CreateVolumeSnapshot) -> dict[str, Any]:
    """The VolumeSnapshot of a claim."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "VolumeSnapshot",
        "metadata": _metadata(wanted),
        "spec": {
            "volumeSnapshotClassName": wanted.snapshot_class,
            "source": {"persistentVolumeClaimName": wanted.claim},
        },
    }


def group_snapshot(wanted: CreateGroupSnapshot) -> dict[str, Any]:
    """The VolumeGroupSnapshot of all claims with a label. The snapshot controller (8.7) reads matchLabels only: a
    selector that has nothing else would take every claim of the namespace."""
    return {
        "apiVersion": f"{GROUP_SNAPSHOT_GROUP}/v1",
        "kind": "VolumeGroupSnapshot",
        "metadata": _metadata(wanted),
        "spec": {
            "volumeGroupSnapshotClassName": wanted.snapshot_class,
            "source": {"selector": {"matchLabels": dict(wanted.selected)}},
        },
    }


def copy_claim(wanted: CreateCopy) -> dict[str, Any]:
    """The claim that movers read."""
    if wanted.snapshot:
        source = {"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": wanted.snapshot}
    else:
        source = {"kind": "PersistentVolumeClaim", "name": wanted.claim}
    metadata = _metadata(wanted)
    if wanted.node:
        metadata["annotations"][SELECTED_NODE] = wanted.node
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": {
            "accessModes": list(wanted.access_modes),
            "storageClassName": wanted.storage_class,
            **({"volumeMode": "Block"} if wanted.block else {}),
            "resources": {"requests": {"storage": wanted.size}},
            "dataSource": source,
        },
    }


def _metadata(wanted: CreateVolumeSnapshot | CreateGroupSnapshot | CreateCopy) -> dict[str, Any]:
    owner = wanted.owner
    return {
        "name": wanted.name,
        "namespace": wanted.namespace,
        "labels": dict(wanted.labels),
        "annotations": {} if isinstance(wanted, CreateGroupSnapshot) else {CLAIM_ANNOTATION: wanted.claim},
        "ownerReferences": [
            {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
        ],
    }
