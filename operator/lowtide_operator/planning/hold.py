"""The annotation that says who holds a workload at 0, since when, until when, and what to put back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lowtide_operator.api.quiesce import Switch
from lowtide_operator.api.values import format_time, parse_time
from lowtide_operator.planning.actions import Ref
from lowtide_operator.planning.naming import HELD_LABEL, HOLD_ANNOTATION
from lowtide_operator.planning.observed import Keeper, Uid, Workload

Holdable = Workload | Keeper
"""What a hold can be on."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold. `generation` is the object's before our patch; `replicas` or (CronJob) `suspend`, and `switches`, are
    what is put back. A keeper has switches only."""

    kind: str
    name: str
    run: Uid
    attempt: int
    since: datetime
    until: datetime
    replicas: int | None
    suspend: bool | None
    generation: int
    switches: tuple[Switch, ...] = ()

    def text(self) -> str:
        """The annotation's value: JSON, so that a person and jq can read it."""
        value: dict[str, Any] = {
            "by": f"{self.kind}/{self.name}",
            "run": self.run,
            "attempt": self.attempt,
            "since": format_time(self.since),
            "until": format_time(self.until),
            "generation": self.generation,
        }
        if self.replicas is not None:
            value["replicas"] = self.replicas
        if self.suspend is not None:
            value["suspend"] = self.suspend
        if self.switches:
            value["annotations"] = {switch.annotation: switch.value for switch in self.switches}
        return json.dumps(value, sort_keys=True)


def read_hold(found: Holdable) -> Hold | None:
    """The hold that is on the object; None where there is none, or one that nobody can read.

    Label and annotation come and go in one patch, and both must be there: annotations alone are also copied, by a
    Deployment to its ReplicaSets and by `kubectl rollout undo` from there back.
    """
    return read_note(found) if HELD_LABEL in found.meta.labels else None


def read_note(found: Holdable) -> Hold | None:
    """What the annotation alone says, which may be a copy of one that is over; None where nobody can read it."""
    try:
        value = json.loads(found.meta.annotations[HOLD_ANNOTATION])
        kind, _, name = value["by"].partition("/")
        replicas, suspend = value.get("replicas"), value.get("suspend")
        if not isinstance(replicas, int | None) or isinstance(replicas, bool) or not isinstance(suspend, bool | None):
            return None
        counts = (replicas is not None) + (suspend is not None)
        if counts != isinstance(found, Workload) or (replicas is not None and replicas < 0):
            return None
        return Hold(
            kind=kind,
            name=name,
            run=Uid(str(value["run"])),
            attempt=int(value["attempt"]),
            since=parse_time(value["since"]),
            until=parse_time(value["until"]),
            replicas=replicas,
            suspend=suspend,
            generation=int(value["generation"]),
            switches=tuple(Switch(annotation=name, value=was) for name, was in value.get("annotations", {}).items()),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def is_down(found: Holdable) -> bool:
    """Whether the workload starts no pods: at 0, or (CronJob) suspended. A keeper never does."""
    if isinstance(found, Keeper):
        return True
    return found.suspended if found.kind == "CronJob" else found.replicas == 0


def holdable_ref(found: Holdable) -> Ref:
    """The object as actions name it."""
    meta = found.meta
    return Ref(found.api_version, found.kind, meta.namespace, meta.name, meta.uid)
