"""What gather read of pods. See observed.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lowtide_operator.planning.observed import Meta


@dataclass(frozen=True, slots=True)
class Container:
    """One entry of status.containerStatuses or .initContainerStatuses, with the image and the memory limit of its spec.

    `waiting` and `terminated` are the reasons of the current state ("" if it is another one), `message` the message
    of either; for a terminated container that is its termination message. `started` is when one that runs began. If
    the current state is waiting and there is a lastState.terminated (restartPolicy Never movers have none), the current
    state wins.
    """

    name: str
    image: str = ""
    memory_limit: str = ""
    waiting: str = ""
    terminated: str = ""
    message: str = ""
    exit_code: int | None = None
    started: datetime | None = None
    finished: datetime | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a pod runs as: its securityContext, overlaid by that of the first container that mounts the claim."""

    user: int | None = None
    group: int | None = None
    fs_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    fs_group_change_policy: str = ""
    se_linux_level: str = ""


@dataclass(frozen=True, slots=True)
class MoverProgress:
    """How far a running mover is by its own log: `time` is when it last wrote that anything had moved, or began to run
    where it has written nothing. Sizes in bytes; None where it can't tell yet, or the end of its log is full of other
    things."""

    time: datetime
    files: int | None = None
    bytes: int | None = None
    total_bytes: int | None = None
    percent: int | None = None
    last_words: str = ""
    """The last thing that it said which is no number: at most 200 characters, "" where there is none."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of the namespace, whoever made it and in whatever phase: every pod object of the namespace is collected.

    `claims` are the names of the PVCs that its volumes name, those of ephemeral volumes (`<pod>-<volume>`) included.
    `scheduled` is the PodScheduled condition: None absent, else True or False with `unschedulable` as its message.
    `reason` and `message` are status.reason and .message (Evicted, NodeLost, …). `progress` is what the end of the
    mover's log says, where gather looked (our own running movers only) and it tells anything, else None.
    """

    meta: Meta
    phase: str
    node: str = ""
    claims: tuple[str, ...] = ()
    ready: bool = False
    scheduled: bool | None = None
    unschedulable: str = ""
    started: datetime | None = None
    reason: str = ""
    message: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    identity: Identity = Identity()
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """spec.tolerations as they stand."""
    progress: MoverProgress | None = None

    @property
    def finished(self) -> bool:
        """Whether its phase is final. That says nothing about its mounts."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def began(self) -> datetime | None:
        """When the last of its containers began that run: the others waited for it, as long as its image took."""
        return max((container.started for container in self.containers if container.started is not None), default=None)

    @property
    def ended(self) -> datetime | None:
        """When its last container ended, for a finished pod whose kubelet said so."""
        containers = (*self.init_containers, *self.containers)
        times = [container.finished for container in containers if container.finished is not None]
        return max(times) if self.finished and times else None
