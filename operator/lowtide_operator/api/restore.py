"""Restore: volumes brought back, once, into their own claims or into new ones."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lowtide_operator.api.conditions import Condition
from lowtide_operator.api.jobs import Failure, JobRecord
from lowtide_operator.api.model import Column, Kind, Model, Resource, Rule
from lowtide_operator.api.mover import CopiedTolerations, Mover, MoverSecurityContext
from lowtide_operator.api.policy import BY_NAME, CONDITIONS
from lowtide_operator.api.quiesce import ArmedRelease, Quiesce, QuiesceLedger
from lowtide_operator.api.repository import Repository
from lowtide_operator.api.snapshot import BY_CLAIM, VolumeMode, VolumeStatus
from lowtide_operator.api.values import (
    AbsolutePath,
    Elapsed,
    Name,
    Pattern,
    PolicyName,
    Quantity,
    SnapshotId,
    Tag,
    Timestamp,
)


class PolicySource(Model):
    """A Snapshot found through its policy. It is the newest good one, unless something else is said."""

    name: PolicyName
    """The name of the BackupPolicy; it need not exist any more."""
    as_of: Timestamp | None = None
    """Take the newest good Snapshot that was captured at this time or before. Where there is none the Restore fails: it
    never takes a younger one."""
    offset: Annotated[int, Field(ge=0, le=1000, json_schema_extra={"format": "int32"})] = 0
    """How many good Snapshots to go back from there: 0 is the newest, 1 the one before."""


class RepositorySource(Repository):
    """A snapshot in a repository, also of one that restic, VolSync or K8up wrote. It is the newest that matches, unless
    an id is said."""

    rules = (
        *Repository.rules,
        Rule(
            "has(self.id) != (has(self.host) || has(self.path) || has(self.tags))",
            "say which snapshot: by its id, or by host, path and tags, and only one of the two",
            lambda self: (self.id is None) == bool(self.host or self.path or self.tags),
        ),
        Rule(
            "!has(self.id) || !has(self.asOf)",
            "an id names one snapshot: asOf has nothing to choose from",
            lambda self: self.id is None or self.as_of is None,
        ),
    )

    id: SnapshotId | None = None
    """The snapshot's id, or the beginning of it that no other has."""
    host: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The host that the snapshot was taken for."""
    path: AbsolutePath | None = None
    """The path that was backed up."""
    tags: Annotated[
        tuple[Tag, ...] | None, Field(min_length=1, max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = None
    """Tags that the snapshot has, all of them."""
    as_of: Timestamp | None = None
    """Take the newest that was made at this time or before. Where there is none the Restore fails."""


class Source(Model):
    """What is restored: exactly one of the three."""

    rules = (
        Rule(
            "[has(self.snapshotName), has(self.policy), has(self.repository)].filter(x, x).size() == 1",
            "say what to restore from: exactly one of snapshotName, policy and repository",
            lambda self: [self.snapshot_name, self.policy, self.repository].count(None) == 2,
        ),
    )

    snapshot_name: Name | None = None
    """The Snapshot in this namespace."""
    policy: PolicySource | None = None
    """A Snapshot found through its policy."""
    repository: RepositorySource | None = None
    """A snapshot in a repository, without any Snapshot object."""


class AccessMode(StrEnum):
    """How a volume may be mounted."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_ONLY_MANY = "ReadOnlyMany"
    READ_WRITE_MANY = "ReadWriteMany"
    READ_WRITE_ONCE_POD = "ReadWriteOncePod"


class NewClaim(Model):
    """A claim that the Restore creates. It stays when the Restore is deleted. A claim of that name that exists already
    fails the Restore."""

    name: Name
    """The name of the new claim."""
    storage_class_name: Name | None = None
    """Its storage class; absent, that of the claim that was backed up, else the cluster's default."""
    size: Quantity | None = None
    """Its size; absent, that of the claim that was backed up, where it still exists."""
    access_modes: Annotated[
        tuple[AccessMode, ...], Field(max_length=4, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """Its access modes; absent, those of the claim that was backed up, else ReadWriteOnce."""
    volume_mode: VolumeMode | None = None
    """Filesystem, or Block; absent, that of the volume that was backed up; with the source repository, Filesystem."""


class RestoreVolume(Model):
    """One volume that is restored."""

    claim: Name
    """The claim that was backed up. Without newClaim it is restored in place, into the claim of that name. With the
    source repository: the claim to restore into, or any name together with newClaim."""
    new_claim: NewClaim | None = None
    """Restore into a new claim, and leave the one that was backed up alone."""
    path: AbsolutePath | None = None
    """The folder in the snapshot that becomes the root of the volume, or the file that is written over a block device;
    absent, what Lowtide backed up of the claim. Required with the source repository: / for a snapshot of `.` (as
    VolSync makes them), /data/NAME for K8up's, /volumes/NAME or /volumes/NAME.img for Lowtide's; `lowtide ls ID` shows
    it."""


class Overwrite(StrEnum):
    """What happens to files that are there already."""

    MIRROR = "Mirror"
    MERGE = "Merge"


class PartialGroup(StrEnum):
    """Whether a group that is not complete may be restored from."""

    REFUSE = "Refuse"
    ALLOW = "Allow"


class SafetySnapshot(StrEnum):
    """Whether a volume is backed up before it is overwritten."""

    TAKE = "Take"
    SKIP = "Skip"


class RestoreSpec(Model):
    """What is restored, into what, and how. It can't be changed: a Restore runs once."""

    rules = (
        Rule("self == oldSelf", "a Restore runs once and can't be changed: make another one"),
        Rule(
            "self.volumes.all(v, self.volumes.filter(w, w.claim == v.claim).size() == 1)",
            "name each claim once: for a second copy make another Restore",
            lambda self: len({volume.claim for volume in self.volumes}) == len(self.volumes),
        ),
        Rule(
            "self.volumes.map(v, has(v.newClaim) ? v.newClaim.name : v.claim).all(n,"
            " self.volumes.filter(v, (has(v.newClaim) ? v.newClaim.name : v.claim) == n).size() == 1)",
            "two volumes can't be restored into one claim",
            lambda self: (
                len({volume.new_claim.name if volume.new_claim else volume.claim for volume in self.volumes})
                == len(self.volumes)
            ),
        ),
        Rule(
            "!has(self.source.repository) || self.volumes.size() == 1",
            "a snapshot in a repository is one volume: name one claim",
            lambda self: self.source.repository is None or len(self.volumes) == 1,
        ),
        Rule(
            "!has(self.source.repository) || self.volumes.all(v, has(v.path))",
            "say path in volumes: only you know which folder of a foreign snapshot is the root of the volume",
            lambda self: self.source.repository is None or all(v.path is not None for v in self.volumes),
        ),
        Rule(
            "!has(self.source.repository) || !has(self.source.repository.claimName)"
            " || !self.volumes.exists(v, !has(v.newClaim) && v.claim == self.source.repository.claimName)",
            "a repository can't be restored into itself: its claim is among the volumes",
            lambda self: (
                self.source.repository is None
                or self.source.repository.claim_name not in {v.claim for v in self.volumes if v.new_claim is None}
            ),
        ),
    )

    source: Source
    """What is restored. No match is a failure."""
    volumes: Annotated[
        tuple[RestoreVolume, ...],
        Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ]
    """The volumes that are restored, at least one."""
    include: Annotated[
        tuple[Pattern, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Patterns of the files to restore; absent, all of them."""
    exclude: Annotated[
        tuple[Pattern, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Patterns of files that are not restored."""
    overwrite: Overwrite
    """Mirror: afterwards the volume holds what the snapshot holds, and everything else in it is deleted. Merge: files
    of the snapshot replace those in the volume, and other files stay. A block device is written over from its start:
    with Mirror, what lies behind the snapshot's end becomes zeros, with Merge it stays."""
    partial_group: PartialGroup = PartialGroup.REFUSE
    """Whether to restore from a run that did not end well: a volume of it failed, or some of its files could not be
    read. Refuse, or Allow."""
    safety_snapshot: SafetySnapshot = SafetySnapshot.TAKE
    """Whether each volume that is restored in place is first backed up into the same repository. Take, or Skip. A
    safety snapshot that fails stops the Restore before it writes."""
    quiesce: Quiesce = Field(default_factory=Quiesce)
    """How the workloads that use the volumes are stopped, for volumes that are restored in place. maxDowntime bounds
    the time before the first write; after it, workloads stay down until the data is whole."""
    mover: Mover = Field(default_factory=Mover)
    """How the Jobs that move data run."""


class ResolvedRestoreVolume(Model):
    """One volume as it was found when the Restore started."""

    claim: str
    """The claim that was backed up."""
    target: str
    """The claim that is written to."""
    target_uid: str | None = None
    """Its uid, once it exists."""
    in_place: bool
    """Whether the claim was there before."""
    snapshot_id: str
    """The id of the snapshot in the repository."""
    path: str | None = None
    """The folder in the snapshot that becomes the root of the volume, or the file that becomes the device."""
    volume_mode: VolumeMode = VolumeMode.FILESYSTEM
    """Filesystem, or Block, of what is written to."""
    size: str | None = None
    """For a new claim: its size."""
    identity: MoverSecurityContext = Field(default_factory=MoverSecurityContext)
    """The user and groups of the pod that used it: movers run as these unless mover.securityContext differs."""
    tolerations: CopiedTolerations = ()
    """What that pod tolerated: its movers do so too, besides mover.tolerations."""


class ResolvedRestore(Model):
    """What the Restore goes by: found when it started."""

    snapshot_name: str | None = None
    """The Snapshot that was chosen."""
    captured_time: Timestamp | None = None
    """The moment whose state is restored."""
    repository: Repository
    """Where the snapshots are."""
    repository_id: str | None = None
    """The id of the repository that the preflight opened."""
    volumes: Annotated[tuple[ResolvedRestoreVolume, ...], Field(json_schema_extra=BY_CLAIM)] = ()
    """The volumes."""


class RestoreVolumeStatus(VolumeStatus):
    """What came of one volume."""

    safety_snapshot_id: str | None = None
    """The id of the snapshot of what was in the volume before."""


class RestoreStatus(Model):
    """What has been done and what came of it. Ready: everything was restored, and workloads run again."""

    observed_generation: int | None = None
    """The generation that this status is about."""
    conditions: Annotated[tuple[Condition, ...], Field(json_schema_extra=CONDITIONS)] = ()
    """Quiesced, Restored, Released, Ready; Reconciling and Stalled only while they are true."""
    resolved: ResolvedRestore | None = None
    """What the Restore goes by."""
    release: ArmedRelease | None = None
    """The pod that puts the workloads back where the operator can't."""
    quiesce: QuiesceLedger | None = None
    """What was stopped, and whether it runs again."""
    attempt: int = 0
    """How many attempts were started."""
    start_time: Timestamp | None = None
    """When the Restore started."""
    first_write_time: Timestamp | None = None
    """When the first mover that writes was started: from here on workloads stay down until the data is whole."""
    end_time: Timestamp | None = None
    """When it ended, for good or ill."""
    downtime: Elapsed | None = None
    """How long workloads were down."""
    jobs: Annotated[tuple[JobRecord, ...], Field(json_schema_extra=BY_NAME)] = ()
    """The Jobs that were started, and how they ended."""
    failure: Failure | None = None
    """Why the Restore fails, from the moment that is certain."""
    volumes: Annotated[tuple[RestoreVolumeStatus, ...], Field(json_schema_extra=BY_CLAIM)] = ()
    """What came of each volume."""


class Restore(Resource):
    """Volumes brought back, once, into their own claims or into new ones."""

    kind = Kind(
        kind="Restore",
        plural="restores",
        singular="restore",
        short="brestore",
        columns=(
            Column("Snapshot", "string", ".status.resolved.snapshotName"),
            Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
            Column("Overwrite", "string", ".spec.overwrite", 1),
            Column("Downtime", "string", ".status.downtime", 1),
            Column("Started", "date", ".status.startTime", 1),
            Column("Age", "date", ".metadata.creationTimestamp"),
        ),
    )

    spec: RestoreSpec
    """What is wanted."""
    status: RestoreStatus = Field(default_factory=RestoreStatus)
    """What is."""
