"""How the Jobs that move data run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from lowtide_operator.api.model import Model, Rule
from lowtide_operator.api.values import Duration, LabelKey, LabelValue, Quantity


class Privilege(StrEnum):
    """What a mover may do beyond its user's rights."""

    NONE = "None"
    ELEVATED = "Elevated"


class Resources(Model):
    """Resources of a container, as in a pod."""

    requests: Annotated[Mapping[Annotated[str, Field(max_length=253)], Quantity], Field(max_length=8)] = Field(
        default_factory=dict
    )
    """What is reserved. Where nothing is said: 100m of cpu and 256Mi of memory."""
    limits: Annotated[Mapping[Annotated[str, Field(max_length=253)], Quantity], Field(max_length=8)] = Field(
        default_factory=dict
    )
    """What is allowed at most. Where nothing is said: no limit."""


Identifier = Annotated[int, Field(ge=0, le=2**31 - 1, json_schema_extra={"format": "int64"})]


class MoverSecurityContext(Model):
    """The user and groups that a mover runs as."""

    run_as_user: Identifier | None = None
    """The user id."""
    run_as_group: Identifier | None = None
    """The group id."""
    supplemental_groups: Annotated[
        tuple[Identifier, ...] | None, Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = None
    """Further group ids."""
    fs_group: Identifier | None = None
    """The group that owns the volume's files. Kubernetes gives the files to it, so only movers that write into a volume
    set it; movers that read one have it as a further group."""
    se_linux_level: Annotated[str, Field(max_length=253)] | None = None
    """The SELinux level, such as s0:c123,c456: where nodes enforce SELinux, files of another level can't be read."""


class TolerationOperator(StrEnum):
    """How a taint is compared."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Model):
    """A toleration, as in a pod."""

    rules = (
        Rule(
            "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
            "a toleration without a key must have the operator Exists",
            lambda self: bool(self.key) or self.operator is TolerationOperator.EXISTS,
        ),
        Rule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "a toleration with the operator Exists has no value",
            lambda self: self.operator is not TolerationOperator.EXISTS or not self.value,
        ),
    )

    key: Annotated[str, Field(max_length=317)] | None = None
    """The taint's key; all of them where it is absent and the operator is Exists."""
    operator: TolerationOperator | None = None
    """Exists or Equal (which holds where it is absent)."""
    value: LabelValue | None = None
    """The taint's value."""
    effect: TaintEffect | None = None
    """The taint's effect; all of them where it is absent."""
    toleration_seconds: Annotated[int, Field(json_schema_extra={"format": "int64"})] | None = None
    """How long a NoExecute taint is borne."""


class CopiedToleration(Model):
    """A toleration of the pod that used a volume, as it stands there."""

    key: str | None = None
    """The taint's key; all of them where it is absent and the operator is Exists."""
    operator: str | None = None
    """How the taint's value is compared."""
    value: str | None = None
    """The value that it is compared with."""
    effect: str | None = None
    """The taint's effect; all of them where it is absent."""
    toleration_seconds: Annotated[int, Field(json_schema_extra={"format": "int64"})] | None = None
    """How long a NoExecute taint is borne."""


CopiedTolerations = Annotated[
    tuple[CopiedToleration, ...], Field(json_schema_extra={"x-kubernetes-list-type": "atomic"})
]


class Cache(Model):
    """The mover's cache of the repository's indexes and trees: an emptyDir, so it starts empty."""

    size_limit: Quantity = "4Gi"
    """The most that it may hold; the kubelet evicts a mover whose cache grows beyond it."""


class Deadlines(Model):
    """When a mover is given up."""

    rules = (
        Rule(
            "!has(self.start) || !has(self.whole) || duration(self.start) <= duration(self.whole)",
            "start must not be longer than whole",
            lambda self: self.start <= self.whole,
        ),
    )

    start: Duration = timedelta(minutes=10)
    """How long a mover may take until its container runs: scheduling, attaching, pulling the image."""
    no_progress: Duration = timedelta(minutes=15)
    """How long a running mover may report no progress."""
    whole: Duration = timedelta(hours=24)
    """How long a mover may take in all. A mover that reads volumes whose workloads are down ends before maxDowntime in
    any case."""


class Retry(Model):
    """What happens when a mover fails for a reason that may pass, such as a server that can't be reached."""

    limit: Annotated[int, Field(ge=0, le=10, json_schema_extra={"format": "int32"})] = 2
    """How many times a failed step is tried again within one run. All attempts share maxDowntime."""
    backoff: Duration = timedelta(seconds=30)
    """The time before the first retry; it doubles with each."""


class Mover(Model):
    """How the Jobs that move data run. They get no token for the API, drop all capabilities, and have a read-only
    root."""

    rules = (
        Rule(
            "!has(self.labels)"
            " || self.labels.all(k, !k.startsWith('lowtide.dev/') && k != 'app.kubernetes.io/managed-by')",
            "labels of lowtide.dev/ and app.kubernetes.io/managed-by are Lowtide's own",
            lambda self: (
                not any(key.startswith("lowtide.dev/") or key == "app.kubernetes.io/managed-by" for key in self.labels)
            ),
        ),
    )

    resources: Resources = Field(default_factory=Resources)
    """Resources of the container."""
    privilege: Privilege = Privilege.NONE
    """None: what the mover's user can't read is reported file by file. Elevated: movers of volumes run as root, with
    the capability to read every file (backup), or to write every file and set every owner (restore); only in namespaces
    that a cluster administrator annotated with lowtide.dev/privileged-movers: "true"."""
    security_context: MoverSecurityContext = Field(default_factory=MoverSecurityContext)
    """The user and groups that movers run as. What is absent is taken from the pod that uses the volume."""
    node_selector: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=16)] = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Annotated[
        tuple[Toleration, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Taints that are borne, besides those that the pod bears that uses the volume."""
    labels: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=16)] = Field(default_factory=dict)
    """Further labels of the mover's pods, for example for a NetworkPolicy."""
    cache: Cache = Field(default_factory=Cache)
    """The cache."""
    deadlines: Deadlines = Field(default_factory=Deadlines)
    """When a mover is given up."""
    retry: Retry = Field(default_factory=Retry)
    """What happens when a mover fails."""
    allow_partial: bool = False
    """Whether a run is good although some files could not be read, or not be restored as they were. They are reported
    either way."""
