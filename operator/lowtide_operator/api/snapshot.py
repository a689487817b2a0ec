"""Snapshot: one run over all volumes of a policy, and what came of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lowtide_operator.api.conditions import Condition
from lowtide_operator.api.hooks import HookStatus, ResolvedHook
from lowtide_operator.api.jobs import Failure, JobRecord
from lowtide_operator.api.model import Column, Kind, Model, Resource, Rule
from lowtide_operator.api.mover import CopiedTolerations, Mover, MoverSecurityContext
from lowtide_operator.api.policy import BY_NAME, CONDITIONS, Capture, DeletionPolicy
from lowtide_operator.api.quiesce import ArmedRelease, Quiesce, QuiesceLedger
from lowtide_operator.api.repository import Repository
from lowtide_operator.api.stream import ResolvedStream
from lowtide_operator.api.values import Elapsed, PolicyName, Tag, Timestamp

BY_CLAIM = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["claim"]}


class Origin(StrEnum):
    """Who asked for the run."""

    MANUAL = "Manual"
    SCHEDULE = "Schedule"


class SnapshotSpec(Model):
    """One run. Nothing in it can be changed but pinned and deletionPolicy."""

    rules = (
        Rule(
            "self.policyName == oldSelf.policyName && self.origin == oldSelf.origin"
            " && has(self.tags) == has(oldSelf.tags) && (!has(self.tags) || self.tags == oldSelf.tags)",
            "a Snapshot records what was done: only pinned and deletionPolicy can be changed;"
            " for another run make another Snapshot",
        ),
        Rule(
            "!has(self.tags) || self.tags.all(t, !t.startsWith('lowtide:'))",
            "tags that start with lowtide: are Lowtide's own",
            lambda self: not any(tag.startswith("lowtide:") for tag in self.tags),
        ),
    )

    policy_name: PolicyName
    """The BackupPolicy that says what is backed up. Its settings are copied into the status when the run starts, and
    only the copy counts afterwards."""
    origin: Origin = Origin.MANUAL
    """Manual: a person asked for this run. Schedule: the policy made it for a slot; it never starts after the slot's
    startingDeadline."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """Retain: deleting this object leaves the backup in the repository. Delete: it takes the backup out of the
    repository first."""
    pinned: bool = False
    """Whether the backup stays in the repository when this object is deleted, whatever deletionPolicy says. `lowtide
    forget` does not look at it: give that `--keep-tag lowtide:run=UID`, with the uid of this object."""
    tags: Annotated[tuple[Tag, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})] = ()
    """Tags for the snapshots in the repository."""


class ResolvedCopy(Model):
    """How the copy of a volume is made."""

    snapshot_class_name: str = ""
    """The VolumeSnapshotClass, or the VolumeGroupSnapshotClass of the group; empty for a clone."""
    storage_class_name: str
    """The StorageClass of the copy."""
    node: str = ""
    """For a clone whose StorageClass waits for a consumer: the node for which it is made."""


class VolumeMode(StrEnum):
    """What a volume is: a file system with files, or a raw block device."""

    FILESYSTEM = "Filesystem"
    BLOCK = "Block"


class ResolvedVolume(Model):
    """A claim as it was when the run started."""

    claim: str
    """The name of the claim."""
    uid: str
    """Its uid: another claim of the same name is not backed up in its place."""
    volume_name: str = ""
    """The PersistentVolume that it was bound to."""
    volume_mode: VolumeMode = VolumeMode.FILESYSTEM
    """Filesystem, or Block: then all of the device is one file of the snapshot, /volumes/CLAIM.img."""
    identity: MoverSecurityContext = Field(default_factory=MoverSecurityContext)
    """The user and groups of the pod that used it: movers run as these unless mover.securityContext differs."""
    tolerations: CopiedTolerations = ()
    """What the pod that used it tolerated: its movers do so too, besides mover.tolerations."""
    copied: ResolvedCopy | None = None
    """How its copy is made; absent with capture.method Direct."""


class Resolved(Model):
    """What the run goes by: copied from the policy when it started. Editing or deleting the policy changes
    nothing."""

    policy_uid: str
    """The uid of the policy."""
    policy_generation: int
    """The generation of the policy."""
    start_by: Timestamp | None = None
    """A scheduled run that has stopped nothing by then fails."""
    repository: Repository
    """Where the backup goes."""
    repository_id: str | None = None
    """The id of the repository that the preflight opened; a Secret that opens another one later is refused."""
    known_repository_id: str | None = None
    """The id of the repository that earlier runs of the policy used: where the Secret leads to none, none is made.
    Absent before the first of them has opened one."""
    volumes: Annotated[tuple[ResolvedVolume, ...], Field(json_schema_extra=BY_CLAIM)] = ()
    """The claims of the group."""
    capture: Capture
    """How their state is held fast; method Direct where there are only streams."""
    streams: Annotated[tuple[ResolvedStream, ...], Field(json_schema_extra=BY_NAME)] = ()
    """The streams of the group."""
    quiesce: Quiesce
    """How workloads are stopped; strategy None where there are only streams."""
    hooks: Annotated[tuple[ResolvedHook, ...], Field(json_schema_extra=BY_NAME)] = ()
    """The commands that run in pods, those of `before` first."""
    mover: Mover
    """How movers run."""


class Progress(Model):
    """How far a running mover is, by its own account: for people, never evidence."""

    files: int = 0
    """Files that are done."""
    bytes: int = 0
    """Bytes that are done."""
    total_bytes: int | None = None
    """Bytes in all, where that is known."""
    percent: int | None = None
    """How much is done, in percent."""
    updated_at: Timestamp | None = None
    """When the mover last reported."""


class VolumeOutcome(StrEnum):
    """What came of one volume: Stored, Partial (some files could not be read, or not be written as they were) or
    Failed."""

    STORED = "Stored"
    PARTIAL = "Partial"
    FAILED = "Failed"


class VolumeStatus(Model):
    """What came of one volume."""

    claim: str
    """The name of the claim."""
    outcome: VolumeOutcome | None = None
    """Stored, Partial or Failed; absent until a mover has ended."""
    reason: str | None = None
    """Why, as one CamelCase word."""
    message: str | None = None
    """Why, as a sentence for a person."""
    attempt: int = 1
    """The attempt that this is about."""
    snapshot_id: str | None = None
    """The id of the snapshot in the repository."""
    files: int | None = None
    """Files in the snapshot, or files that were restored."""
    bytes: int | None = None
    """Their size."""
    added_bytes: int | None = None
    """What had to be stored anew, as it lies in the repository."""
    seconds: int | None = None
    """How long the mover took."""
    errors: int | None = None
    """How many files could not be read, or not be written as they were."""
    warnings: Annotated[tuple[str, ...], Field(json_schema_extra={"x-kubernetes-list-type": "atomic"})] = ()
    """What a person should know: at most ten; the mover's log has all."""
    progress: Progress | None = None
    """How far the mover is, while it runs."""


class StreamStatus(Model):
    """What came of one stream."""

    name: str
    """The file's name: it is /streams/<name> in the snapshot."""
    outcome: VolumeOutcome | None = None
    """Stored or Failed; absent until a mover has ended."""
    reason: str | None = None
    """Why, as one CamelCase word."""
    message: str | None = None
    """Why, as a sentence for a person."""
    attempt: int = 1
    """The attempt that this is about."""
    snapshot_id: str | None = None
    """The id of the snapshot in the repository."""
    bytes: int | None = None
    """How much the command wrote."""
    added_bytes: int | None = None
    """What had to be stored anew, as it lies in the repository."""
    seconds: int | None = None
    """How long the mover took."""
    progress: Progress | None = None
    """How far the mover is, while it runs."""


class CopyRecord(Model):
    """The copy of one volume: a VolumeSnapshot and the claim that is made from it, or a clone."""

    claim: str
    """The name of the claim that it is a copy of."""
    name: str
    """The name of the claim, and of the VolumeSnapshot where that is not a member of a group."""
    snapshot_name: str | None = None
    """The name that the snapshot controller gave to the VolumeSnapshot, where it is a member of a group."""
    asked_at: Timestamp
    """When it was decided to make it."""
    uid: str | None = None
    """The uid of the VolumeSnapshot or of the clone, once it was seen."""
    ready_at: Timestamp | None = None
    """When it was seen to hold the volume's state."""
    size: str | None = None
    """The size that a volume made from the VolumeSnapshot must have at least."""
    claimed_at: Timestamp | None = None
    """When it was decided to make a claim from the VolumeSnapshot."""
    claim_uid: str | None = None
    """The uid of the claim that movers read, once it was seen."""


class GroupSnapshotRecord(Model):
    """The VolumeGroupSnapshot of all volumes. Until it is bound, the claims carry the label lowtide.dev/group-snapshot,
    by which it selects them."""

    name: str
    """Its name."""
    asked_at: Timestamp
    """When it was decided to make it."""
    uid: str | None = None
    """Its uid, once it was seen."""


class SnapshotStatus(Model):
    """What has been done and what came of it. Ready: this Snapshot can be restored."""

    observed_generation: int | None = None
    """The generation that this status is about."""
    conditions: Annotated[tuple[Condition, ...], Field(json_schema_extra=CONDITIONS)] = ()
    """Quiesced, Captured, Released, Uploaded, Ready; Reconciling and Stalled only while they are true."""
    resolved: Resolved | None = None
    """What the run goes by."""
    release: ArmedRelease | None = None
    """The pod that puts the workloads back where the operator can't."""
    quiesce: QuiesceLedger | None = None
    """What was stopped, and whether it runs again."""
    hooks: Annotated[tuple[HookStatus, ...], Field(json_schema_extra=BY_NAME)] = ()
    """What came of each hook, from the moment that the first of them may run."""
    attempt: int = 0
    """How many attempts were started."""
    start_time: Timestamp | None = None
    """When the run started."""
    end_time: Timestamp | None = None
    """When it ended, for good or ill."""
    captured_time: Timestamp | None = None
    """The moment whose state was captured: when all pods were gone, or where nothing is stopped, when the first copy
    was asked for or the first mover of a volume started; where there are only streams, when the first was begun."""
    downtime: Elapsed | None = None
    """How long workloads were down: from the first change until all were ready again."""
    upload: Elapsed | None = None
    """How long storing took, from the first mover until the last was done. With copies, workloads run meanwhile."""
    group_snapshot: GroupSnapshotRecord | None = None
    """The VolumeGroupSnapshot, with capture.method GroupSnapshot; it is deleted with the copies."""
    copies: Annotated[tuple[CopyRecord, ...], Field(json_schema_extra=BY_CLAIM)] = ()
    """The copies that were made of the volumes; they are deleted once they are stored."""
    volumes: Annotated[tuple[VolumeStatus, ...], Field(json_schema_extra=BY_CLAIM)] = ()
    """What came of each volume."""
    streams: Annotated[tuple[StreamStatus, ...], Field(json_schema_extra=BY_NAME)] = ()
    """What came of each stream."""
    files: int | None = None
    """Files of all volumes and streams."""
    bytes: int | None = None
    """Their size."""
    added_bytes: int | None = None
    """What had to be stored anew."""
    jobs: Annotated[tuple[JobRecord, ...], Field(json_schema_extra=BY_NAME)] = ()
    """The Jobs that were started, and how they ended."""
    failure: Failure | None = None
    """Why the run fails, from the moment that is certain."""
    verdict_snapshot_id: str | None = None
    """The id of the snapshot in the repository that declares the group complete. Without it the group is never taken
    for good."""


class Snapshot(Resource):
    """One run over all volumes of a policy, and what came of it."""

    kind = Kind(
        kind="Snapshot",
        plural="snapshots",
        singular="snapshot",
        short="bsnap",
        columns=(
            Column("Policy", "string", ".spec.policyName"),
            Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
            Column("Downtime", "string", ".status.downtime"),
            Column("Upload", "string", ".status.upload"),
            Column("Size", "integer", ".status.bytes", 1),
            Column("Added", "integer", ".status.addedBytes", 1),
            Column("Origin", "string", ".spec.origin", 1),
            Column("Deletion", "string", ".spec.deletionPolicy", 1),
            Column("Pinned", "boolean", ".spec.pinned", 1),
            Column("Age", "date", ".metadata.creationTimestamp"),
        ),
    )

    spec: SnapshotSpec
    """What is wanted."""
    status: SnapshotStatus = Field(default_factory=SnapshotStatus)
    """What is."""
