"""The kinds of objects that the operator reads or writes, and where the API serves them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object. `group` is empty for the core API; `plural` is the name in paths."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As an object's `apiVersion` says it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """The path of one object, or of the list where `name` is empty; `namespace` None lists every namespace."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/" + "/".join(quote(part, safe="") for part in parts)

    def __str__(self) -> str:
        return self.kind


LOWTIDE_GROUP = "lowtide.dev"

BACKUP_POLICY = Kind(LOWTIDE_GROUP, "v1alpha1", "backuppolicies", "BackupPolicy")
SNAPSHOT = Kind(LOWTIDE_GROUP, "v1alpha1", "snapshots", "Snapshot")
RESTORE = Kind(LOWTIDE_GROUP, "v1alpha1", "restores", "Restore")

NAMESPACE = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
NODE = Kind("", "v1", "nodes", "Node", namespaced=False)
POD = Kind("", "v1", "pods", "Pod")
CLAIM = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUME = Kind("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
EVENT = Kind("", "v1", "events", "Event")
REPLICATION_CONTROLLER = Kind("", "v1", "replicationcontrollers", "ReplicationController")

DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
STATEFUL_SET = Kind("apps", "v1", "statefulsets", "StatefulSet")
REPLICA_SET = Kind("apps", "v1", "replicasets", "ReplicaSet")
DAEMON_SET = Kind("apps", "v1", "daemonsets", "DaemonSet")
JOB = Kind("batch", "v1", "jobs", "Job")
CRON_JOB = Kind("batch", "v1", "cronjobs", "CronJob")
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")
CSI_DRIVER = Kind("storage.k8s.io", "v1", "csidrivers", "CSIDriver", namespaced=False)
VOLUME_ATTACHMENT = Kind("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", namespaced=False)
STORAGE_CLASS = Kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
VOLUME_SNAPSHOT = Kind("snapshot.storage.k8s.io", "v1", "volumesnapshots", "VolumeSnapshot")
VOLUME_SNAPSHOT_CLASS = Kind(
    "snapshot.storage.k8s.io", "v1", "volumesnapshotclasses", "VolumeSnapshotClass", namespaced=False
)
SCALED_OBJECT = Kind("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
APPLICATION = Kind("argoproj.io", "v1alpha1", "applications", "Application")
GROUP_SNAPSHOT = Kind("groupsnapshot.storage.k8s.io", "v1", "volumegroupsnapshots", "VolumeGroupSnapshot")
GROUP_SNAPSHOT_CLASS = Kind(
    "groupsnapshot.storage.k8s.io", "v1", "volumegroupsnapshotclasses", "VolumeGroupSnapshotClass", namespaced=False
)

KINDS: tuple[Kind, ...] = (
    BACKUP_POLICY, SNAPSHOT, RESTORE, NAMESPACE, NODE, POD, CLAIM, VOLUME, EVENT, REPLICATION_CONTROLLER, DEPLOYMENT,
    STATEFUL_SET, REPLICA_SET, DAEMON_SET, JOB, CRON_JOB, LEASE, CSI_DRIVER, VOLUME_ATTACHMENT,
    STORAGE_CLASS, VOLUME_SNAPSHOT, VOLUME_SNAPSHOT_CLASS, GROUP_SNAPSHOT, GROUP_SNAPSHOT_CLASS, SCALED_OBJECT,
    APPLICATION,
)  # fmt: skip
"""Every kind that the operator knows by name."""

_BY_NAME = {(kind.group, kind.kind): kind for kind in KINDS}


def find_kind(api_version: str, name: str) -> Kind | None:
    """The known kind called `name` in the group of `api_version` ("apps/v1"), whatever its version, or None."""
    group = api_version.rpartition("/")[0]
    return _BY_NAME.get((group, name))
