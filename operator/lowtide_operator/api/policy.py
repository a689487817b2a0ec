"""BackupPolicy: what is backed up together, when, how, and where to."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lowtide_operator.api.conditions import Condition
from lowtide_operator.api.hooks import Hooks
from lowtide_operator.api.model import Column, Kind, Model, Resource, Rule
from lowtide_operator.api.mover import Mover
from lowtide_operator.api.quiesce import Quiesce
from lowtide_operator.api.repository import Repository
from lowtide_operator.api.selectors import LabelSelector
from lowtide_operator.api.stream import Stream
from lowtide_operator.api.values import Duration, Name, Schedule, Timestamp, TimeZone

CONDITIONS = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class Volumes(Model):
    """The claims that belong together: they are captured as one group. A run whose selection is empty, or has an
    unbound claim, fails."""

    rules = (
        Rule(
            "has(self.claims) != has(self.selector)",
            "name the claims or select them by label, and only one of the two",
            lambda self: (self.claims is None) != (self.selector is None),
        ),
        Rule(
            "!has(self.exclude) || self.exclude.size() == 0 || has(self.selector)",
            "exclude goes with selector: what claims does not name is not taken",
            lambda self: not self.exclude or self.selector is not None,
        ),
    )

    claims: Annotated[
        tuple[Name, ...] | None, Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = None
    """The names of the PersistentVolumeClaims, at most 64."""
    selector: LabelSelector | None = None
    """The labels of the PersistentVolumeClaims. They are looked up when a run starts; more than 64 fail it. Those of
    generic ephemeral volumes are left out: they go with their pods."""
    exclude: Annotated[tuple[Name, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})] = ()
    """Names of claims that the selector finds and that are left out."""


class CaptureMethod(StrEnum):
    """How the state of the volumes is held fast."""

    SNAPSHOT = "Snapshot"
    GROUP_SNAPSHOT = "GroupSnapshot"
    CLONE = "Clone"
    DIRECT = "Direct"


class Capture(Model):
    """How the state of the volumes is held fast."""

    rules = (
        Rule(
            "self.method == 'Snapshot' || !has(self.volumeSnapshotClassName)",
            "volumeSnapshotClassName goes with method Snapshot",
            lambda self: self.method is CaptureMethod.SNAPSHOT or self.volume_snapshot_class_name is None,
        ),
        Rule(
            "self.method == 'GroupSnapshot' || !has(self.volumeGroupSnapshotClassName)",
            "volumeGroupSnapshotClassName goes with method GroupSnapshot",
            lambda self: self.method is CaptureMethod.GROUP_SNAPSHOT or self.volume_group_snapshot_class_name is None,
        ),
        Rule(
            "self.method != 'Direct' || !has(self.storageClassName)",
            "storageClassName is that of copies: method Direct makes none",
            lambda self: self.method is not CaptureMethod.DIRECT or self.storage_class_name is None,
        ),
    )

    method: CaptureMethod
    """Snapshot: a VolumeSnapshot of each volume is taken by its CSI driver, the workloads start again, and movers read
    volumes made from the snapshots. GroupSnapshot: the same with one VolumeGroupSnapshot, which takes all volumes at
    one moment; they must be of one driver that can do that. Clone: the same with a claim that the driver clones.
    Direct: movers read the volumes themselves, so workloads stay down until all is read. A method that a volume does
    not allow fails the run before anything is stopped; no other is taken in its place. It has no default: how long an
    application is down is the choice of its owner."""
    volume_snapshot_class_name: Name | None = None
    """The VolumeSnapshotClass, whose deletionPolicy must be Delete. Absent: the default one of each volume's driver, or
    the only one that it has."""
    volume_group_snapshot_class_name: Name | None = None
    """The VolumeGroupSnapshotClass, whose deletionPolicy must be Delete. Absent: the default one of the volumes'
    driver, or the only one that it has."""
    storage_class_name: Name | None = None
    """The StorageClass of the copies, of the same driver and with reclaimPolicy Delete: one with fewer replicas, or
    that makes shallow copies, for example. Absent: that of each claim."""
    timeout: Duration = timedelta(minutes=10)
    """How long each step of making copies may take: that all of them hold the state of their volumes, while workloads
    are down; and that a volume is made from a snapshot, when they run again."""


class Concurrency(StrEnum):
    """What happens when runs of one policy would overlap."""

    FORBID = "Forbid"


class DeletionPolicy(StrEnum):
    """What deleting a Snapshot does to the data."""

    RETAIN = "Retain"
    DELETE = "Delete"


class BackupPolicySpec(Model):
    """What is backed up together, when, how, and where to."""

    rules = (
        Rule(
            "has(self.volumes) || (has(self.streams) && self.streams.size() > 0)",
            "say what is backed up: volumes, streams or both",
            lambda self: self.volumes is not None or bool(self.streams),
        ),
        Rule(
            "has(self.volumes) == has(self.capture)",
            "capture says how the state of the volumes is held fast: it goes with volumes",
            lambda self: (self.volumes is None) == (self.capture is None),
        ),
        Rule(
            "has(self.volumes) || !has(self.quiesce.workloads) || self.quiesce.workloads.size() == 0",
            "quiesce.workloads goes with volumes: streams are taken while everything runs",
            lambda self: self.volumes is not None or not self.quiesce.workloads,
        ),
        Rule(
            "has(self.volumes) || ((!has(self.hooks.before) || self.hooks.before.size() == 0)"
            " && (!has(self.hooks.after) || self.hooks.after.size() == 0))",
            "hooks go with volumes: they run right before and after the capture, and streams are stored before that",
            lambda self: self.volumes is not None or not (self.hooks.before or self.hooks.after),
        ),
        Rule(
            "!has(self.repository.claimName) || !has(self.volumes) || !has(self.volumes.claims)"
            " || !(self.repository.claimName in self.volumes.claims)",
            "a repository can't be backed up into itself: its claim is among volumes.claims",
            lambda self: self.volumes is None or self.repository.claim_name not in (self.volumes.claims or ()),
        ),
    )

    repository: Repository
    """Where the backups go."""
    schedule: Schedule | None = None
    """When to back up: five cron fields, or @hourly, @daily, @weekly, @monthly, @yearly. `H` in a field, and the names,
    stand for a moment that is spread by the policy's name and stays the same. Absent: only Snapshots made by hand.
    Creating a policy runs nothing."""
    time_zone: TimeZone = "UTC"
    """The time zone of the schedule."""
    starting_deadline: Duration = timedelta(hours=1)
    """How late a scheduled run may start. A slot that was missed, because the operator was down or a run was
    unfinished, is caught up once within this time, and dropped after it: production must not go down at noon for a slot
    of the night."""
    suspend: bool = False
    """Whether the schedule rests. Slots that pass meanwhile are dropped. Snapshots made by hand still run."""
    concurrency: Concurrency = Concurrency.FORBID
    """Forbid: one run at a time. A slot that comes up while a run of this policy is unfinished waits for it, within
    startingDeadline."""
    volumes: Volumes | None = None
    """The claims that are backed up as one group."""
    capture: Capture | None = None
    """How the state of the volumes is held fast; required with volumes."""
    streams: Annotated[tuple[Stream, ...], Field(max_length=16, json_schema_extra=BY_NAME)] = ()
    """What commands write, such as the dump of a database: each becomes a file of the Snapshot. They run before
    anything is stopped, since a dump needs its server: a stream is a little older than the volumes, and where one fails
    or is cut, nothing is stopped and the run fails. Each runs in an image that the policy names, or in a pod that runs
    already; the chart must allow that."""
    quiesce: Quiesce = Field(default_factory=Quiesce)
    """How the workloads that use the volumes are stopped."""
    hooks: Hooks = Field(default_factory=Hooks)
    """Commands that run in pods before the workloads are stopped and after they run again."""
    snapshot_deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """The deletionPolicy of the Snapshots that the schedule makes."""
    mover: Mover = Field(default_factory=Mover)
    """How the Jobs that move data run."""


class SnapshotCounts(Model):
    """How many Snapshots of this policy there are."""

    total: int = 0
    """All of them."""
    ready: int = 0
    """Those that can be restored."""
    failed: int = 0
    """Those that failed."""


class BackupPolicyStatus(Model):
    """What is known about the policy. Ready: the spec is valid and scheduled, and the hooks,
    streams and privilege that it has are allowed. Protected: a good Snapshot is as young as the schedule promises."""

    observed_generation: int | None = None
    """The generation that this status is about."""
    conditions: Annotated[tuple[Condition, ...], Field(json_schema_extra=CONDITIONS)] = ()
    """Ready and Protected always; Stalled only while it is true."""
    last_schedule_time: Timestamp | None = None
    """The last slot that was handled."""
    next_schedule_time: Timestamp | None = None
    """The next slot."""
    resumed_at: Timestamp | None = None
    """When the schedule last stopped resting, or the policy was first seen: earlier slots are not caught up."""
    last_snapshot: str | None = None
    """The name of the last Snapshot that this policy made."""
    last_successful_time: Timestamp | None = None
    """When the last good Snapshot was captured."""
    consecutive_failures: int = 0
    """How many runs failed since the last good one."""
    repository_id: str | None = None
    """The id of the repository, as the last preflight read it."""
    snapshots: SnapshotCounts | None = None
    """How many Snapshots of this policy there are."""


class BackupPolicy(Resource):
    """What is backed up together, when, how, and where to."""

    kind = Kind(
        kind="BackupPolicy",
        plural="backuppolicies",
        singular="backuppolicy",
        short="bp",
        columns=(
            Column("Schedule", "string", ".spec.schedule"),
            Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Protected", "string", '.status.conditions[?(@.type=="Protected")].status'),
            Column("Last Success", "date", ".status.lastSuccessfulTime"),
            Column("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 1),
            Column("Next", "string", ".status.nextScheduleTime", 1),
            Column("Last Snapshot", "string", ".status.lastSnapshot", 1),
            Column("Failures", "integer", ".status.consecutiveFailures", 1),
            Column("Suspend", "boolean", ".spec.suspend", 1),
            Column("Age", "date", ".metadata.creationTimestamp"),
        ),
        rules=(
            Rule(
                "self.metadata.name.size() <= 40",
                "the name of a BackupPolicy has at most 40 characters, so that its Snapshots' names fit",
            ),
        ),
    )

    spec: BackupPolicySpec
    """What is wanted."""
    status: BackupPolicyStatus = Field(default_factory=BackupPolicyStatus)
    """What is."""
