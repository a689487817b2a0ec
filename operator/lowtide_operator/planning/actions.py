"""What a plan may ask for: a closed union of actions, and the plan that holds them.

apply executes a plan's actions in order and stops at the first that fails, but makes every release that stands behind
one that failed; the next plan is made from a new observation. Every action may be executed twice: its docstring says
what then happens. A conflict (409 on a precondition) is no error: it means that the observation was stale, and the
object is observed and planned anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lowtide_operator.planning.observed import NOTHING, Uid
from lowtide_operator.planning.observed_pods import Identity

if TYPE_CHECKING:
    from lowtide_operator.api.mover import CopiedToleration, Mover
    from lowtide_operator.api.repository import Repository
    from lowtide_operator.api.stream import ResolvedStream


@dataclass(frozen=True, slots=True)
class Ref:
    """The object that an action is about. `api_version` as in YAML: `lowtide.dev/v1alpha1`, `apps/v1`, `v1`."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: Uid


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Replace the whole status of an object of ours, with `resource_version` (and uid) as the precondition.

    `status` is the JSON to write. A conflict stops the plan. Written only where it differs from what was observed.
    """

    ref: Ref
    resource_version: str
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CheckUnchanged:
    """Read the object live; where its uid or resourceVersion differs, stop as at a conflict.

    It stands first in a plan that has effects but no new status, so that no effect ever follows from a stale
    observation.
    """

    ref: Ref
    resource_version: str


@dataclass(frozen=True, slots=True)
class SetFinalizers:
    """Make metadata.finalizers of an object of ours exactly `finalizers`, with `resource_version` as the
    precondition.

    The object may be gone already: that is success.
    """

    ref: Ref
    resource_version: str
    finalizers: tuple[str, ...]


class Purpose(StrEnum):
    """What a Job of ours is for; the value of naming.PURPOSE_LABEL."""

    PREFLIGHT = "preflight"
    STREAM = "stream"
    BEFORE_HOOK = "before-hook"
    BACKUP = "backup"
    LOOKUP = "lookup"
    VERDICT = "verdict"
    AFTER_HOOK = "after-hook"
    FORGET = "forget"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a mover must or should run.

    `required_nodes`: one of these (another pod holds a ReadWriteOnce claim there); `preferred_nodes`: better there.
    Both become node affinity on kubernetes.io/hostname, never nodeName; the PV's own node affinity is the scheduler's
    business. `spread`: better not where another mover of the run and purpose is.
    """

    required_nodes: tuple[str, ...] = ()
    preferred_nodes: tuple[str, ...] = ()
    required_terms: tuple[Mapping[str, Any], ...] = ()
    """Node selector terms of which one must hold, in place of `required_nodes`: where the volume of a copy's source can
    be reached, for a copy that is only made once its mover has a node."""
    spread: bool = False


@dataclass(frozen=True, slots=True)
class MoverJob:
    """A Job of ours, fully described: manifests/ turns it into an object, and its command is one that a person could
    type.

    Common: `labels` (naming.job_labels), `owner` (the run, as controller: collected with it), `active_deadline` in
    seconds or None. `repository` and `mover` are copied from the run's status.resolved. `host` is --host. `tags` are
    all tags, those of the user last. `claim` is mounted at /volumes/<claim>, read-only unless `writes`; where it is a
    `block` volume, its device is /volumes/<claim>.img.

    - PREFLIGHT: open the repository (make it if `create` and there is none), prove that it can be locked, report its
      id. Where `snapshot_ids` are given, each must exist; where `select` is given, the newest good snapshot that it
      selects must exist, and its id is reported.
    - BACKUP: back up /volumes/<claim> under that path, with `host` and `tags`; `parent_tags` select what may be the
      parent. No file at all is a failure, unless `may_be_empty`.
    - STREAM: run the command of `stream` in a container beside the mover, or execute it from there in a pod that runs;
      the mover stores its standard output as the file /streams/<name>, with `host` and `tags`. A command that fails,
      writes nothing, or of which it is not known how it ended, is a failure.
    - LOOKUP: report the ids of the snapshots that carry all of `tags`, the newest last; none is a success with no
      ids; the outcome is partial where the newest is tagged partial.
    - VERDICT: write the verdict snapshot that names `snapshot_ids`, with `host` and `tags`; one that exists is
      reported instead.
    - FORGET: forget `snapshot_ids`; an id that is gone already is a success.
    - RESTORE: restore `snapshot_ids[0]` into /volumes/<claim>, by `include` and `exclude`; `delete` removes what the
      snapshot has not.
    """

    namespace: str
    name: str
    purpose: Purpose
    owner: Ref
    labels: Mapping[str, str]
    repository: Repository
    mover: Mover
    repository_id: str = ""
    """Where set: the mover refuses (reason RepositoryChanged) a repository that has another id, before it writes
    anything."""
    active_deadline: int | None = None
    claim: str = ""
    path: str = ""
    """RESTORE: the folder in the snapshot that becomes the root of the volume, or the file that becomes the device;
    required there."""
    block: bool = False
    """Whether the volume is a raw block device: it is one file of the snapshot."""
    fresh: bool = False
    """RESTORE: the claim was made for it, so nothing in the volume has a group yet that could be changed."""
    writes: bool = False
    copy: str = ""
    """BACKUP: the claim that is mounted in place of `claim`, whose copy it is."""
    stream: ResolvedStream | None = None
    """STREAM: what is stored; required there."""
    host: str = ""
    tags: tuple[str, ...] = ()
    parent_tags: tuple[str, ...] = ()
    snapshot_ids: tuple[str, ...] = ()
    select: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """For a repository source: any of id, host, path, tag, asOf (RFC 3339), as in Restore.spec.source.repository."""
    create: bool = False
    may_be_empty: bool = False
    """BACKUP: whether a volume without a file is as good as any other: what a Restore finds in its way may be nothing.
    """
    delete: bool = False
    allow_partial: bool = False
    """RESTORE with `delete`: whether the snapshot may be partial, or one whose run has no verdict (a safety snapshot
    never has one); else the mover refuses such with DeletionRefused."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    identity: Identity | None = None
    """The consumer pod's user and groups, where mover.securityContext does not say otherwise."""
    tolerations: tuple[CopiedToleration, ...] = ()
    """Those of the consumer pod; mover.tolerations come on top."""
    placement: Placement = Placement()
    elevated_allowed: bool = False
    """Whether the namespace's annotation allows privilege Elevated; the planner has refused before where it does not.
    """
    dead_holders: tuple[str, ...] = ()
    """Lock hosts (`<cluster>.<namespace>.<pod uid>`) whose containers the kubelet reported terminated: this mover
    removes their locks.
    """


@dataclass(frozen=True, slots=True)
class HookJob:
    """The Job of one hook (BEFORE_HOOK or AFTER_HOOK): it executes `command` in `container` ("" for the only one) of
    the one pod that `selector` finds, and gives up `timeout` seconds after its start. It has no volume and no Secret,
    and a token that may execute commands in the namespace's pods.
    """

    namespace: str
    name: str
    purpose: Purpose
    owner: Ref
    labels: Mapping[str, str]
    hook: str
    selector: str
    command: tuple[str, ...]
    timeout: int
    active_deadline: int
    container: str = ""


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the Job. "Exists" is success: the name is deterministic, and a Job of ours is never modified."""

    job: MoverJob | HookJob


@dataclass(frozen=True, slots=True)
class ReleaseJob:
    """The Job of a run's release pod. It is in the operator's namespace, so nothing but its labels ties it to `run`.

    `deadline`: until when it watches, even where nothing is stopped.
    """

    name: str
    run: Ref
    deadline: datetime


@dataclass(frozen=True, slots=True)
class CreateRelease:
    """Create the Job of a release pod. "Exists" is success, as for CreateJob."""

    job: ReleaseJob


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Say on the run, with `resource_version` as the precondition, that its release pod acts from now on.

    It moves the run's resourceVersion: whatever an operator that stands still had planned for it conflicts.
    """

    ref: Ref
    resource_version: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the Job with this uid in the background, its pods with it (their usual grace). Gone already is
    success."""

    ref: Ref


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete the pod with this uid with its usual grace, never by force. Gone already is success."""

    ref: Ref


@dataclass(frozen=True, slots=True)
class PatchWorkload:
    """One atomic merge patch of a workload, with uid and `resource_version` as preconditions.

    Labels and annotations of value None are removed. `replicas` and `suspend` are left alone where None. A conflict
    stops the plan; a workload that is gone is a success when `release` is set, else it stops the plan like a
    conflict.
    """

    ref: Ref
    resource_version: str
    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    replicas: int | None = None
    suspend: bool | None = None
    release: bool = False


def is_release(action: Action) -> bool:
    """Whether the action puts back what was stopped."""
    return isinstance(action, PatchWorkload) and action.release


@dataclass(frozen=True, slots=True)
class CreateSnapshot:
    """Create a Snapshot for a slot. "Exists" is success here: the next plan sees whether it is ours."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CreateClaim:
    """Create a PersistentVolumeClaim. "Exists" is success here: the next plan sees whether it is ours by its
    annotations.
    """

    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    size: str
    access_modes: tuple[str, ...]
    storage_class: str = ""
    """"" leaves it to the cluster's default class."""
    block: bool = False


@dataclass(frozen=True, slots=True)
class StampClaim:
    """Merge annotations and labels into a PersistentVolumeClaim (None removes one), with uid and `resource_version` as
    preconditions."""

    ref: Ref
    resource_version: str
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CreateVolumeSnapshot:
    """Create the VolumeSnapshot of `claim`. "Exists" is success where it is of the same run (naming.RUN_LABEL)."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    owner: Ref
    claim: str
    snapshot_class: str


@dataclass(frozen=True, slots=True)
class CreateGroupSnapshot:
    """Create the VolumeGroupSnapshot of the claims that carry the labels `selected`. "Exists" as for
    CreateVolumeSnapshot."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    owner: Ref
    selected: Mapping[str, str]
    snapshot_class: str


@dataclass(frozen=True, slots=True)
class CreateCopy:
    """Create a claim that is a copy of `claim`: from the VolumeSnapshot `snapshot`, or where that is empty, by cloning
    it. "Exists" as for CreateVolumeSnapshot. With `node` it is made at once for that node, though its class waits for
    a consumer.
    """

    namespace: str
    name: str
    labels: Mapping[str, str]
    owner: Ref
    claim: str
    size: str
    access_modes: tuple[str, ...]
    storage_class: str
    snapshot: str = ""
    node: str = ""
    block: bool = False


@dataclass(frozen=True, slots=True)
class DeleteCopy:
    """Delete the VolumeSnapshot, VolumeGroupSnapshot or claim with this uid that carries naming.COPY_LABEL. Gone
    already is success."""

    ref: Ref


@dataclass(frozen=True, slots=True)
class Announce:
    """Post an Event about the object (type Normal or Warning). Best effort: its failure never stops a plan."""

    ref: Ref
    warning: bool
    reason: str
    message: str


Action = (
    WriteStatus
    | CheckUnchanged
    | SetFinalizers
    | CreateJob
    | CreateRelease
    | TakeOver
    | DeleteJob
    | DeletePod
    | PatchWorkload
    | CreateSnapshot
    | CreateClaim
    | StampClaim
    | CreateVolumeSnapshot
    | CreateGroupSnapshot
    | CreateCopy
    | DeleteCopy
    | Announce
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The actions, in order, and when to look again even if nothing is reported: in `requeue_after` seconds, None for
    never.

    `status` is the object's status as it will be once the plan is applied (JSON), for metrics.
    """

    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None
    status: Mapping[str, Any] | None = None
