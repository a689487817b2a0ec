"""What a planner may know: everything that gather read from the API server, as frozen values.

gather reads live (no cache) right before a plan. Names of fields say what is collected; docstrings say from where.
All times are aware and in UTC. Absent means absent on the server: a kind that could not be read makes gather fail
instead of leaving a field empty, because an empty field would look like a cluster in which nothing is left to put
back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NewType

from lowtide_operator.planning.allowed import ArgoMode

if TYPE_CHECKING:
    from lowtide_operator.api import (
        BackupPolicySpec,
        BackupPolicyStatus,
        RestoreSpec,
        RestoreStatus,
        SnapshotSpec,
        SnapshotStatus,
    )
    from lowtide_operator.planning.observed_copies import GroupSnapshot, SnapshotClass, StorageClass, VolumeSnapshot
    from lowtide_operator.planning.observed_pods import Identity, Pod

Uid = NewType("Uid", str)

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Owner:
    """One entry of metadata.ownerReferences."""

    api_version: str
    kind: str
    name: str
    uid: Uid
    controller: bool = False


@dataclass(frozen=True, slots=True)
class Meta:
    """An object's metadata. `deleted` is deletionTimestamp: for a pod it already includes its grace period."""

    namespace: str
    name: str
    uid: Uid
    resource_version: str
    created: datetime
    generation: int = 0
    deleted: datetime | None = None
    finalizers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    annotations: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    owners: tuple[Owner, ...] = ()

    @property
    def controller(self) -> Owner | None:
        """The owner that manages this object, if it has one."""
        return next((owner for owner in self.owners if owner.controller), None)


# --- our own kinds


@dataclass(frozen=True, slots=True)
class PolicyObject:
    """A BackupPolicy. `invalid` is the sentence why its spec does not parse; then `spec` is None."""

    meta: Meta
    spec: BackupPolicySpec | None
    status: BackupPolicyStatus
    invalid: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotObject:
    """A Snapshot. `invalid` as in PolicyObject. `fresh` is whether the object had no status at all on the server."""

    meta: Meta
    spec: SnapshotSpec | None
    status: SnapshotStatus
    fresh: bool = True
    invalid: str = ""


@dataclass(frozen=True, slots=True)
class RestoreObject:
    """A Restore. `invalid` and `fresh` as in SnapshotObject."""

    meta: Meta
    spec: RestoreSpec | None
    status: RestoreStatus
    fresh: bool = True
    invalid: str = ""


# --- the namespace's objects


@dataclass(frozen=True, slots=True)
class Workload:
    """Anything in the namespace with a pod template: Deployment, StatefulSet, ReplicaSet, DaemonSet,
    ReplicationController, Job, CronJob.

    All of them are collected, not only those with pods. `replicas` is spec.replicas (1 where unset; None for kinds
    without it). `suspended` is spec.suspend for Job and CronJob. `claims` are the PVC names in the pod template (its
    ephemeral volumes excepted), `claim_templates` the names of volumeClaimTemplates: a StatefulSet names
    `<template>-<name>-<ordinal>` for every ordinal. `when_scaled` is persistentVolumeClaimRetentionPolicy.whenScaled
    ("Retain" where unset). `template` is spec.template of a Deployment, and that of a ReplicaSet as its Deployment has
    it. `half_updated` is whether a StatefulSet has pods of an older revision, or its controller has not seen its spec
    yet. `update_kept_by` is what keeps an update from going on by itself, in Kubernetes' words: a StatefulSet's
    OnDelete or partition, a Deployment's pause or exceeded progress deadline; "" where nothing does. `ready` is
    status.readyReplicas, `observed_generation` is status.observedGeneration. `finished` is, for a Job, whether it is
    Complete or Failed; `started` its status.startTime. `writer` is the field manager that set spec.replicas or
    spec.suspend last, as managedFields say ("" where they don't). `selector` is spec.selector as `kubectl get pods -l`
    takes it, "" where the kind has none.
    """

    api_version: str
    kind: str
    meta: Meta
    replicas: int | None = None
    ready: int = 0
    observed_generation: int = 0
    suspended: bool = False
    identity: Identity | None = None
    """Whom its pod template runs as, like Pod.identity."""
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """Those of its pod template."""
    claims: tuple[str, ...] = ()
    claim_templates: tuple[str, ...] = ()
    when_scaled: str = "Retain"
    template: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    half_updated: bool = False
    update_kept_by: str = ""
    finished: bool = False
    started: datetime | None = None
    writer: str = ""
    selector: str = ""
    applied_count: bool = False
    """Whether Argo CD applies spec.replicas or spec.suspend, as far as the workload itself tells."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """A ScaledObject of KEDA, or an Application of Argo CD. `targets`: kind and name of the workloads whose count it
    puts back. `paused`: it says that it is (KEDA), or is idle (Argo CD)."""

    api_version: str
    kind: str
    meta: Meta
    targets: frozenset[tuple[str, str]] = frozenset()
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A PersistentVolumeClaim. `size` is status.capacity.storage, else the request. `trouble` is the last warning about
    a copy of the run that is not bound, "" where there is none.
    """

    meta: Meta
    phase: str
    volume: str = ""
    storage_class: str = ""
    access_modes: tuple[str, ...] = ()
    volume_mode: str = "Filesystem"
    size: str = ""
    trouble: str = ""

    @property
    def pod(self) -> str:
        """The pod that it goes with, as that of a generic ephemeral volume does; "" where it outlives pods."""
        owner = self.meta.controller
        return owner.name if owner is not None and (owner.api_version, owner.kind) == ("v1", "Pod") else ""


@dataclass(frozen=True, slots=True)
class Volume:
    """The PersistentVolume that a claim of the run is bound to.

    `attach_required` is CSIDriver.spec.attachRequired of its driver: True where the CSIDriver object says so or
    leaves it out, False where it says false, and False for volumes without CSI (hostPath, local, nfs …) and where no
    CSIDriver object exists. `nodes` are the node names that its nodeAffinity allows, None where it has none.
    `node_terms` are that affinity's node selector terms as they stand.
    """

    name: str
    driver: str = ""
    attach_required: bool = False
    nodes: tuple[str, ...] | None = None
    node_terms: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A VolumeAttachment of a PersistentVolume of the run, whatever its status says: the object itself is the
    evidence.
    """

    volume: str
    node: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node on which a pod of the namespace is or was."""

    name: str
    ready: bool


@dataclass(frozen=True, slots=True)
class MoverJobSeen:
    """A Job of ours: found by the label naming.RUN_LABEL = the run's uid, in any state, being deleted included.

    `complete` and `failed` are its conditions Complete and Failed (True); `reason` and `message` are the Failed
    condition's, or already FailureTarget's, while its pods are being ended. Its pods are in Observed.pods with an owner
    reference to `meta.uid`.
    """

    meta: Meta
    complete: bool = False
    failed: bool = False
    reason: str = ""
    message: str = ""
    started: datetime | None = None
    finished: datetime | None = None


# --- what each planner gets


@dataclass(frozen=True, slots=True)
class World:
    """What is in the namespace of a run, read live. Shared by the planners of Snapshot and Restore.

    keepers: every ScaledObject of the namespace; with argocd PAUSE also the Applications of its workloads and of the
    run's ledger. claims: every PVC. volumes, attachments: those of bound claims. nodes: those named by pods.
    snapshots, restores: every object of these kinds in the namespace (the run itself too). jobs: those of ours for
    this run. release_jobs, release_pods: those of this run's release pod, in the operator's namespace (by the label
    naming.RELEASE_OF_LABEL = the run's uid).
    namespace_terminating: the namespace has a deletionTimestamp, so that no Job can be created in it.
    elevated_allowed: a cluster administrator annotated the namespace (design 4, Movers). streams_allowed: whether this
    installation runs the images of streams. exec_allowed: whether it may execute commands in pods of the namespace (the
    chart's exec.namespaces). cluster: the uid of kube-system, which tags and lock holders carry.

    Only for a Snapshot whose capture makes copies: storage_classes; and for method Snapshot, snapshots_served (whether
    the API server has VolumeSnapshots at all), snapshot_classes, and volume_snapshots (those of this run; none where
    they are not served). For GroupSnapshot: snapshots_served is whether it has VolumeGroupSnapshots too,
    snapshot_classes are VolumeGroupSnapshotClasses, and group_snapshots those of this run, read before
    volume_snapshots.
    """

    namespace: str
    cluster: str = ""
    namespace_terminating: bool = False
    elevated_allowed: bool = False
    streams_allowed: bool = False
    exec_allowed: bool = False
    pods: tuple[Pod, ...] = ()
    workloads: tuple[Workload, ...] = ()
    keepers: tuple[Keeper, ...] = ()
    argocd: ArgoMode = ArgoMode.REFUSE
    argocd_namespaces: tuple[str, ...] = ("argocd",)
    claims: tuple[Claim, ...] = ()
    volumes: tuple[Volume, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    nodes: tuple[Node, ...] = ()
    jobs: tuple[MoverJobSeen, ...] = ()
    release_jobs: tuple[MoverJobSeen, ...] = ()
    release_pods: tuple[Pod, ...] = ()
    policies: tuple[PolicyObject, ...] = ()
    snapshots: tuple[SnapshotObject, ...] = ()
    restores: tuple[RestoreObject, ...] = ()
    storage_classes: tuple[StorageClass, ...] = ()
    snapshots_served: bool = False
    snapshot_classes: tuple[SnapshotClass, ...] = ()
    volume_snapshots: tuple[VolumeSnapshot, ...] = ()
    group_snapshots: tuple[GroupSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservedPolicy:
    """Input of plan_policy: the policy and every Snapshot of its namespace. `streams_allowed`, `exec_allowed` and
    `elevated_allowed` are as in World; the last is not asked for where the policy does not need it."""

    policy: PolicyObject
    snapshots: tuple[SnapshotObject, ...] = ()
    streams_allowed: bool = False
    exec_allowed: bool = False
    elevated_allowed: bool = False


@dataclass(frozen=True, slots=True)
class ObservedSnapshot:
    """Input of plan_snapshot."""

    snapshot: SnapshotObject
    world: World


@dataclass(frozen=True, slots=True)
class ObservedRestore:
    """Input of plan_restore."""

    restore: RestoreObject
    world: World


@dataclass(frozen=True, slots=True)
class ObservedOrphans:
    """Input of plan_orphans, per namespace, at the operator's start and at every resync.

    `workloads`, `keepers`: all that carry the label naming.HELD_LABEL or the annotation naming.RELEASED_ANNOTATION.
    `pods`: the namespace's. `snapshots`, `restores`: every object of these kinds in the namespace.
    `volume_snapshots`, `group_snapshots`: those that carry naming.COPY_LABEL; none where the API server does not have
    that kind. `marked_claims`: those that carry naming.GROUP_SNAPSHOT_LABEL, read before the runs.
    """

    namespace: str
    workloads: tuple[Workload, ...] = ()
    keepers: tuple[Keeper, ...] = ()
    pods: tuple[Pod, ...] = ()
    claims: tuple[Claim, ...] = ()
    snapshots: tuple[SnapshotObject, ...] = ()
    restores: tuple[RestoreObject, ...] = ()
    volume_snapshots: tuple[VolumeSnapshot, ...] = ()
    group_snapshots: tuple[GroupSnapshot, ...] = ()
    marked_claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservedGoing:
    """Input of plan_going: a run in a namespace that is being deleted, of which nothing else can be read any more.

    `run` is the run, `release_jobs` are those of its release pods, in the operator's own namespace.
    """

    kind: str
    run: Meta
    release_jobs: tuple[MoverJobSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservedArmed:
    """Input of plan_armed, for the release pod of one run.

    `owner` is the run, None where it is gone. `until` is the pod's own deadline. Of `world`: the workloads of the
    kinds that can be held, the keepers, and the namespace's pods and claims, and the run's Jobs; the rest is empty.
    """

    run: Uid
    until: datetime
    owner: SnapshotObject | RestoreObject | None
    world: World
