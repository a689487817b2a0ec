"""How workloads are stopped for a capture, and the ledger of what was stopped."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lowtide_operator.api.model import Model, Rule
from lowtide_operator.api.values import Duration, Name, Timestamp


class QuiesceStrategy(StrEnum):
    """Whether workloads are stopped."""

    SCALE_DOWN = "ScaleDown"
    NONE = "None"


class WorkloadKind(StrEnum):
    """The kinds that Lowtide can stop and start."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    REPLICA_SET = "ReplicaSet"
    CRON_JOB = "CronJob"


class WorkloadRef(Model):
    """A workload in the same namespace."""

    kind: WorkloadKind
    """Deployment, StatefulSet, ReplicaSet (one that no Deployment owns) or CronJob (suspended, not scaled)."""
    name: Name
    """Its name."""


class Quiesce(Model):
    """How the workloads that use the volumes are stopped."""

    rules = (
        Rule(
            "!has(self.timeout) || !has(self.maxDowntime) || duration(self.timeout) <= duration(self.maxDowntime)",
            "timeout must not be longer than maxDowntime: the pods must be gone before the time is up",
            lambda self: self.timeout <= self.max_downtime,
        ),
        Rule(
            "self.strategy != 'None' || !has(self.workloads) || self.workloads.size() == 0",
            "strategy None stops nothing: leave workloads out",
            lambda self: self.strategy is not QuiesceStrategy.NONE or not self.workloads,
        ),
    )

    strategy: QuiesceStrategy = QuiesceStrategy.SCALE_DOWN
    """ScaleDown: every workload whose pods mount one of the volumes is scaled to 0, and CronJobs are suspended; they
    are put back as they were. None: nothing is stopped, and the files are read as they change."""
    workloads: Annotated[
        tuple[WorkloadRef, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["kind", "name"]},
        ),
    ] = ()
    """Workloads to stop beside those that are found from the volumes, or to stop in an order: these come first, in the
    order of this list, then the others. They are started again in the reverse order."""
    timeout: Duration = timedelta(minutes=5)
    """How long their pods may take to go. After it the run fails and everything is started again."""
    max_downtime: Duration = timedelta(minutes=30)
    """The longest that workloads may stay down, retries included. When it is over they are started again, whatever the
    run has reached."""


class HeldState(StrEnum):
    """How far a workload is: Planned (nothing was changed yet), Held (stopped by us), Released (put back by us),
    Overridden (someone else changed it meanwhile, and that wins), Gone (it was deleted)."""

    PLANNED = "Planned"
    HELD = "Held"
    RELEASED = "Released"
    OVERRIDDEN = "Overridden"
    GONE = "Gone"


class Switch(Model):
    """An annotation by which another controller is told to leave something alone, as it was before."""

    annotation: str
    """Its name."""
    value: str | None = None
    """Its value before the run, which is put back; absent where it was not there, and is removed."""


class LedgerEntry(Model):
    """One workload that this run stops, or an object that keeps its count and is paused, written down before it is
    touched."""

    api_version: str
    """Its API version, such as apps/v1."""
    kind: str
    """Its kind."""
    namespace: str | None = None
    """Its namespace, where that is not the run's own."""
    name: str
    """Its name."""
    uid: str
    """Its uid: another object of the same name is never touched."""
    order: int = 0
    """The place in the order of stopping; starting goes the other way. What is paused comes before every workload, with
    -1."""
    replicas: int | None = None
    """The count that was seen and is put back; absent for a CronJob, and for what is only paused."""
    suspend: bool | None = None
    """For a CronJob: whether it was suspended already."""
    switches: Annotated[
        tuple[Switch, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["annotation"]}),
    ] = ()
    """Annotations that pause another controller for the time of the run, as they were before."""
    state: HeldState = HeldState.PLANNED
    """Planned, Held, Released, Overridden or Gone."""
    generation_held: int | None = None
    """The generation that our own patch left: another one at the window's end means that someone else changed it."""
    held_at: Timestamp | None = None
    """When it was stopped."""
    released_at: Timestamp | None = None
    """When it was put back."""
    message: str = ""
    """What there is to say about it, for a person."""


class ArmedRelease(Model):
    """The pod that puts the workloads back where the operator can't: nothing is stopped before it is ready."""

    name: str
    """Its Job, in the operator's namespace."""
    attempt: int = 1
    """The attempt to have such a pod."""
    created_at: Timestamp
    """When its Job was made."""
    deadline: Timestamp
    """Until when it is there; nothing is stopped that may stay down for longer."""
    missing_since: Timestamp | None = None
    """Since when it is not ready; absent while it is."""


class QuiesceLedger(Model):
    """Everything that a run stops, from before the first change until all of it runs again."""

    attempt: int = 1
    """The attempt that this ledger was written for."""
    deadline: Timestamp
    """When the workloads are started again at the latest."""
    start_time: Timestamp | None = None
    """When the first workload was changed."""
    gone_time: Timestamp | None = None
    """When no pod had a volume mounted any more."""
    released_time: Timestamp | None = None
    """When the last workload was put back."""
    ready_time: Timestamp | None = None
    """When all of them were ready again."""
    workloads: Annotated[
        tuple[LedgerEntry, ...],
        Field(
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["apiVersion", "kind", "name"],
            }
        ),
    ] = ()
    """The workloads, in the order in which they are stopped, after what is paused for them."""
