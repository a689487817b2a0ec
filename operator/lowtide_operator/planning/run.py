"""The draft of one plan for one run (a Snapshot or a Restore): its status as it becomes, and the effects that follow
it.

Planners change a draft step by step and then ask it for the plan. It keeps the two rules that make a killed operator
harmless: the status is written before the effects that it announces, and a plan with effects but no news first checks
that its observation is not stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from lowtide_operator.api import RestoreStatus, SnapshotStatus
from lowtide_operator.api.conditions import (
    MAX_MESSAGE,
    Condition,
    Truth,
    find,
    shortened,
    with_condition,
    without_condition,
)
from lowtide_operator.api.jobs import Failure
from lowtide_operator.planning.actions import (
    Action,
    Announce,
    CheckUnchanged,
    CreateJob,
    CreateRelease,
    DeleteCopy,
    PatchWorkload,
    Plan,
    Ref,
    SetFinalizers,
    WriteStatus,
    is_release,
)
from lowtide_operator.planning.naming import API_VERSION
from lowtide_operator.planning.observed import Meta, World

S = TypeVar("S", SnapshotStatus, RestoreStatus)

MAX_TEXT = 1000
"""Characters of what is kept of one Job, volume, stream or hook, of which a run has many; the API allows 1024."""

NOT_MADE = frozenset({"Forbidden", "NameTaken", "Rejected", "ServerError"})
"""Why an object was not made, as the driver says in Ready."""

SOONEST, LATEST = 0.25, 2.0
"""The bounds, in seconds, of how soon is looked again for what nothing reports."""


@dataclass(slots=True)
class Run(Generic[S]):
    """A draft. `status` starts as what was observed; `known` is its JSON, or None where the object had none."""

    kind: str
    meta: Meta
    world: World
    now: datetime
    status: S
    known: Mapping[str, Any] | None
    effects: list[Action] = field(default_factory=list)
    look_again_in: float | None = None
    _finalizers: tuple[str, ...] | None = None

    @property
    def ref(self) -> Ref:
        """This run, as actions name it."""
        return Ref(API_VERSION, self.kind, self.meta.namespace, self.meta.name, self.meta.uid)

    @property
    def failing(self) -> bool:
        """Whether it is certain that this run fails."""
        return self.status.failure is not None

    @property
    def ended(self) -> bool:
        """Whether the run is terminal: nothing is held, and all that was to be known is in its status."""
        return self.status.end_time is not None

    def update(self, **changes: Any) -> None:
        """Change fields of the status."""
        self.status = self.status.model_copy(update=changes)

    def condition(self, kind: str, truth: Truth, reason: str, message: str) -> None:
        """Set one condition; its time changes with its status only."""
        self.update(
            conditions=with_condition(
                self.status.conditions, kind, truth, reason, message, now=self.now, generation=self.meta.generation
            )
        )

    def no_condition(self, kind: str) -> None:
        """Remove a condition that is shown only while it is true."""
        self.update(conditions=without_condition(self.status.conditions, kind))

    def since(self, kind: str) -> datetime | None:
        """When the condition took its present status."""
        found = find(self.status.conditions, kind)
        return found.last_transition_time if found is not None else None

    def fail(self, reason: str, message: str) -> None:
        """Decide that the run fails. The first reason stays; workloads are put back before the run ends.

        What this plan was about to stop is not stopped: the run may end in this very plan, which does not see it held.
        """
        self.effects = [effect for effect in self.effects if not isinstance(effect, PatchWorkload) or effect.release]
        if self.status.failure is None:
            text = shortened(message, MAX_MESSAGE)
            self.update(failure=Failure(reason=reason, message=text, time=self.now))

    def waiting(self, reason: str, message: str) -> None:
        """Say what the run is doing: Ready is not known yet, Reconciling is true."""
        self.condition("Ready", Truth.FALSE if self.failing else Truth.UNKNOWN, reason, message)
        self.condition("Reconciling", Truth.TRUE, reason, message)

    def do(self, action: Action) -> None:
        """Add an effect, once."""
        if action not in self.effects:
            self.effects.append(action)

    def set_finalizers(self, finalizers: tuple[str, ...]) -> None:
        """Make these the finalizers; it is the plan's last act, since it changes the object's resourceVersion."""
        self._finalizers = finalizers

    def look_again(self, seconds: float) -> None:
        """Plan again after `seconds` at the latest, even if nothing is reported."""
        self._look_again(max(1.0, seconds))

    def look_soon(self, since: datetime) -> None:
        """Plan again for what nothing reports, such as pods and workloads that are not ours, after a tenth of the time
        that has been waited for it `since` then, within SOONEST and LATEST: workloads are down meanwhile."""
        self._look_again(min(max((self.now - since) / timedelta(seconds=10), SOONEST), LATEST))

    def look_again_at(self, moment: datetime) -> None:
        """Plan again at `moment` at the latest."""
        self.look_again((moment - self.now) / timedelta(seconds=1))

    def _look_again(self, seconds: float) -> None:
        if self.look_again_in is None or seconds < self.look_again_in:
            self.look_again_in = seconds

    def plan(self) -> Plan:
        """What to do. Empty for a run of which nothing is left to do. Its first effects put workloads back and its last
        ones delete copies, since a plan ends where the cluster refuses something."""
        if self.ended:
            self._end_progress()
        self._keep_refusal()
        status = self.status.to_body()
        actions: tuple[Action, ...] = tuple(sorted(self.effects, key=_turn))
        if self._news:
            actions = (WriteStatus(self.ref, self.meta.resource_version, status), *actions, *self._transitions())
        if self._finalizers is not None and self._finalizers != self.meta.finalizers:
            # Not beside effects: those of a run's beginning need the finalizer, and its end needs those before.
            if all(isinstance(action, WriteStatus | Announce) for action in actions):
                change = SetFinalizers(self.ref, self.meta.resource_version, self._finalizers)
                return Plan((*actions, change), 1.0, status)
            self.look_again(1)
        if actions and not self._news:
            actions = (CheckUnchanged(self.ref, self.meta.resource_version), *actions)
        return Plan(actions, self.look_again_in, status)

    def _keep_refusal(self) -> None:
        """Leave Ready as it says why a Job was not made, where this plan asks for that Job again: what the run is doing
        is no news beside that."""
        jobs = [effect.job.name for effect in self.effects if isinstance(effect, CreateJob | CreateRelease)]
        said = next((entry for entry in (self.known or {}).get("conditions", ()) if entry["type"] == "Ready"), None)
        if said is None or said["reason"] not in NOT_MADE or not any(name in said["message"] for name in jobs):
            return
        kept = Condition.model_validate(said)
        self.update(conditions=tuple(kept if c.type == kept.type else c for c in self.status.conditions))

    def _end_progress(self) -> None:
        """Nothing moves any more in a run that is over."""
        members = ("volumes", "streams") if isinstance(self.status, SnapshotStatus) else ("volumes",)
        for name in members:
            known = getattr(self.status, name)
            if any(member.progress is not None for member in known):
                self.update(**{name: tuple(member.model_copy(update={"progress": None}) for member in known)})

    def _transitions(self) -> list[Announce]:
        """An Event for each step that the conditions took: what `kubectl describe` tells of a run."""
        former = {entry["type"]: entry for entry in (self.known or {}).get("conditions", ())}
        told: list[Announce] = []
        for entry in self.status.conditions:
            was = former.get(entry.type, {})
            same = (was.get("status"), was.get("reason")) == (entry.status.value, entry.reason)
            if (
                same
                or entry.type in ("Reconciling", "Stalled")
                or (entry.type != "Ready" and entry.status is not Truth.TRUE)
            ):
                continue
            bad = self.failing and entry.status is Truth.FALSE
            told.append(Announce(self.ref, warning=bad, reason=entry.reason, message=entry.message))
        return list(dict.fromkeys(told))

    @property
    def _news(self) -> bool:
        if self.known is None and self.status == type(self.status)():
            return False
        return self.status.to_body() != self.known


def _turn(effect: Action) -> int:
    """Its place in a plan; those of one place stay in the order in which they were asked for."""
    if is_release(effect):
        return 0
    return 2 if isinstance(effect, DeleteCopy) else 1


def whole_seconds(moment: datetime) -> datetime:
    """`moment` as the API stores it."""
    return moment.replace(microsecond=0)
