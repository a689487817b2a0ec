"""The planner of a BackupPolicy: makes Snapshots when its schedule is due, and says whether its volumes are
protected."""

from __future__ import annotations

from datetime import datetime, timedelta

from lowtide_operator.api import BackupPolicySpec, BackupPolicyStatus, SnapshotStatus
from lowtide_operator.api.conditions import Truth, is_true, with_condition, without_condition
from lowtide_operator.api.mover import Privilege
from lowtide_operator.api.policy import SnapshotCounts
from lowtide_operator.api.snapshot import Origin
from lowtide_operator.api.values import format_time
from lowtide_operator.planning.actions import Action, Announce, CheckUnchanged, CreateSnapshot, Plan, Ref, WriteStatus
from lowtide_operator.planning.allowed import refusal
from lowtide_operator.planning.naming import (
    API_VERSION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    POLICY_LABEL,
    SLOT_ANNOTATION,
)
from lowtide_operator.planning.observed import ObservedPolicy, PolicyObject, SnapshotObject
from lowtide_operator.planning.resolve import slot_of
from lowtide_operator.planning.run import whole_seconds
from lowtide_operator.planning.schedule import Schedule, ScheduleError, parse_schedule, snapshot_name

RUN_ALLOWANCE = timedelta(minutes=30)
"""What a run may take beside startingDeadline and maxDowntime before its slot's snapshot counts as overdue."""
ANNOTATION_SECONDS = 300
"""How soon it is seen that somebody annotated the namespace: namespaces are not watched."""


def plan_policy(observed: ObservedPolicy, now: datetime) -> Plan:
    """What is due for a policy. Creating one, or ending its suspension, runs nothing; a slot makes at most one
    Snapshot."""
    policy, now = observed.policy, whole_seconds(now)
    if policy.meta.deleted is not None:
        return Plan()
    draft = _Draft(policy, now)
    draft.status = draft.status.model_copy(update={"observed_generation": policy.meta.generation})
    spec = policy.spec
    if spec is None:
        draft.stalled("InvalidSpec", f"The policy can't be read: {policy.invalid}")
        return draft.plan()
    own = tuple(s for s in observed.snapshots if s.spec is not None and s.spec.policy_name == policy.meta.name)
    draft.summarise(own)
    try:
        schedule = _schedule(policy, spec)
    except ScheduleError as error:
        draft.stalled("InvalidSchedule", str(error))
        return draft.plan()
    draft.refused = refusal(
        spec,
        policy.meta.namespace,
        images=observed.streams_allowed,
        execution=observed.exec_allowed,
        elevated=observed.elevated_allowed,
    )
    draft.schedule(observed.snapshots, own, spec, schedule)
    draft.protected(own, spec, schedule)
    if spec.mover.privilege is Privilege.ELEVATED:
        draft.wait(ANNOTATION_SECONDS)
    return draft.plan()


def is_good(snapshot: SnapshotObject) -> bool:
    """Whether it can be restored, and is not being deleted."""
    return snapshot.meta.deleted is None and is_true(snapshot.status.conditions, "Ready")


def _schedule(policy: PolicyObject, spec: BackupPolicySpec) -> Schedule | None:
    if spec.schedule is None:
        return None
    return parse_schedule(spec.schedule, spec.time_zone, policy.meta.namespace, policy.meta.name)


class _Draft:
    """The status of a policy as it becomes, and what is to be done."""

    def __init__(self, policy: PolicyObject, now: datetime) -> None:
        self.policy = policy
        self.now = now
        self.status: BackupPolicyStatus = policy.status
        self.effects: list[Action] = []
        self.look_again: float | None = None
        self.refused: tuple[str, str] | None = None
        """Why this installation refuses every run of it."""

    @property
    def ref(self) -> Ref:
        """The policy, as actions name it."""
        meta = self.policy.meta
        return Ref(API_VERSION, "BackupPolicy", meta.namespace, meta.name, meta.uid)

    def plan(self) -> Plan:
        """Status first where it changed, else a check that nothing is stale before an effect."""
        meta, body = self.policy.meta, self.status.to_body()
        actions = tuple(self.effects)
        if body != self.policy.status.to_body():
            actions = (WriteStatus(self.ref, meta.resource_version, body), *actions)
        elif any(not isinstance(action, Announce) for action in actions):
            actions = (CheckUnchanged(self.ref, meta.resource_version), *actions)
        return Plan(actions, self.look_again, body)

    def wait(self, seconds: float) -> None:
        """Look again after so long, or sooner."""
        self.look_again = seconds if self.look_again is None else min(self.look_again, seconds)

    def condition(self, kind: str, truth: Truth, reason: str, message: str) -> None:
        """Set one condition."""
        self._set(
            conditions=with_condition(
                self.status.conditions,
                kind,
                truth,
                reason,
                message,
                now=self.now,
                generation=self.policy.meta.generation,
            )
        )

    def stalled(self, reason: str, message: str) -> None:
        """The spec can't be followed: no run will be made, so nothing is protected, however young the last one is."""
        self.condition("Ready", Truth.FALSE, reason, message)
        self.condition("Stalled", Truth.TRUE, reason, message)
        self._set(next_schedule_time=None)
        last = self.status.last_successful_time
        when = f" The last good Snapshot was of {format_time(last)}." if last is not None else ""
        self.condition("Protected", Truth.FALSE, reason, f"No run is planned.{when}")

    def summarise(self, own: tuple[SnapshotObject, ...]) -> None:
        """What the policy's Snapshots tell. Times of good ones are kept when these are deleted."""
        status = self.status
        good = [snapshot for snapshot in own if is_good(snapshot)]
        failed = [snapshot for snapshot in own if snapshot.status.failure is not None]
        captured = [s.status.captured_time for s in good if s.status.captured_time is not None]
        ended = sorted(
            (s for s in own if s.status.end_time is not None), key=lambda s: (s.status.end_time or self.now, s.meta.uid)
        )
        failures = 0
        for snapshot in reversed(ended):
            if is_true(snapshot.status.conditions, "Ready"):
                break
            failures += snapshot.status.failure is not None
        opened = [s.status for s in own if s.status.resolved is not None and s.status.resolved.repository_id]
        newest = max(opened, key=lambda s: s.start_time or self.policy.meta.created, default=None)
        former, repository = status.repository_id, _repository(newest) or status.repository_id
        if former is not None and repository is not None and repository != former:
            text = (
                f"The last run used repository {repository[:12]}, those before it {former[:12]}: if nobody moved it on "
                f"purpose, correct the Secret."
            )
            self.effects.append(Announce(self.ref, warning=True, reason="RepositoryMoved", message=text))
        self._set(
            snapshots=SnapshotCounts(total=len(own), ready=len(good), failed=len(failed)),
            last_successful_time=max((*captured, *_some(status.last_successful_time)), default=None),
            consecutive_failures=failures,
            repository_id=repository,
        )

    def schedule(
        self,
        everything: tuple[SnapshotObject, ...],
        own: tuple[SnapshotObject, ...],
        spec: BackupPolicySpec,
        schedule: Schedule | None,
    ) -> None:
        """Make the Snapshot of the last slot where that is due, and say when the next one is."""
        self._set(conditions=without_condition(self.status.conditions, "Stalled"))
        if schedule is None:
            self._set(next_schedule_time=None, resumed_at=self.status.resumed_at or self.now)
            self._ready("Manual", "It has no schedule: Snapshots are made by hand.")
            return
        if spec.suspend:
            self._set(next_schedule_time=None, resumed_at=None)
            self._ready("Suspended", "The schedule rests; slots that pass are dropped.")
            return
        if self.status.resumed_at is None:
            self._set(resumed_at=self.now)
        following = schedule.after(self.now)
        self._set(next_schedule_time=following)
        if following is not None:
            self.look_again = (following - self.now).total_seconds()
        self._ready("Scheduled", "The spec is valid, and the schedule is followed.")
        slot = schedule.latest(self.now)
        if self._edited() and slot != self.policy.status.next_schedule_time:
            # A schedule that was edited runs nothing at once: only what the former one had promised is still due.
            self._set(resumed_at=self.now)
        handled = max((*_some(self.status.last_schedule_time), *_some(self.status.resumed_at)))
        if slot is not None and slot > handled:
            self._due(everything, own, spec, slot)

    def _due(
        self,
        everything: tuple[SnapshotObject, ...],
        own: tuple[SnapshotObject, ...],
        spec: BackupPolicySpec,
        slot: datetime,
    ) -> None:
        name = snapshot_name(self.policy.meta.name, slot)
        existing = next((snapshot for snapshot in everything if snapshot.meta.name == name), None)
        if existing is not None:
            self._set(last_schedule_time=slot)
            if existing in own and _is_for(existing, slot):
                self._set(last_snapshot=name)
            else:
                text = f"A Snapshot {name} that this policy did not make is in the way: the slot is skipped."
                self.effects.append(Announce(self.ref, warning=True, reason="SlotTaken", message=text))
            return
        if self.now > slot + spec.starting_deadline:
            self._set(last_schedule_time=slot)
            text = f"The slot of {format_time(slot)} was missed and its startingDeadline is over: it is dropped."
            self.effects.append(Announce(self.ref, warning=True, reason="SlotMissed", message=text))
            return
        running = next((snapshot for snapshot in own if _unfinished(snapshot)), None)
        if running is not None:
            self.wait(15)
            return
        # Created before the slot is marked as handled: a crash in between finds it by its name.
        self.wait(2)
        self.effects.append(
            CreateSnapshot(
                self.policy.meta.namespace,
                name,
                labels={MANAGED_BY_LABEL: MANAGED_BY, POLICY_LABEL: self.policy.meta.name},
                annotations={SLOT_ANNOTATION: format_time(slot)},
                spec={
                    "policyName": self.policy.meta.name,
                    "origin": Origin.SCHEDULE.value,
                    "deletionPolicy": spec.snapshot_deletion_policy.value,
                },
            )
        )

    def protected(self, own: tuple[SnapshotObject, ...], spec: BackupPolicySpec, schedule: Schedule | None) -> None:
        """Say whether a good Snapshot is as young as the schedule promises."""
        newest = max((s.status.captured_time for s in own if is_good(s) and s.status.captured_time), default=None)
        allowed = spec.starting_deadline + spec.quiesce.max_downtime + RUN_ALLOWANCE
        due = schedule.latest(self.now - allowed) if schedule is not None else None
        if due is not None and due <= self.policy.meta.created:
            due = None
        if newest is None:
            ended = any(snapshot.status.end_time is not None for snapshot in own)
            if ended or due is not None:
                self.condition("Protected", Truth.FALSE, "NoSnapshot", "There is no good Snapshot.")
            else:
                self.condition("Protected", Truth.UNKNOWN, "NoRunYet", "No run has ended yet.")
        elif due is not None and newest < due:
            text = f"The newest good Snapshot is of {format_time(newest)}; one of {format_time(due)} was promised."
            text += self._elsewhere(own)
            self.condition("Protected", Truth.FALSE, "TooOld", text)
        else:
            text = f"The newest good Snapshot is of {format_time(newest)}.{self._elsewhere(own)}"
            self.condition("Protected", Truth.TRUE, "Protected", text)
        if schedule is not None:
            following = schedule.after(self.now - allowed)
            if following is not None:
                self.wait((following + allowed - self.now).total_seconds() + 1)

    def _elsewhere(self, own: tuple[SnapshotObject, ...]) -> str:
        """A sentence about good Snapshots that the last run's repository does not have; "" where there are none."""
        used = [_repository(snapshot.status) for snapshot in own if is_good(snapshot)]
        others = [found for found in used if found not in (None, self.status.repository_id)]
        if not others:
            return ""
        names = ", ".join(sorted({str(found)[:12] for found in others}))
        return f" {len(others)} good Snapshots are in another repository than the last run used: {names}."

    def _ready(self, reason: str, message: str) -> None:
        """The spec is followed; its runs, which go on to be made and to be counted as failures, may be refused."""
        if self.refused is not None:
            self.condition("Ready", Truth.FALSE, *self.refused)
        else:
            self.condition("Ready", Truth.TRUE, reason, message)

    def _edited(self) -> bool:
        return self.policy.status.observed_generation not in (None, self.policy.meta.generation)

    def _set(self, **changes: object) -> None:
        self.status = self.status.model_copy(update=changes)


def _unfinished(snapshot: SnapshotObject) -> bool:
    return snapshot.status.end_time is None and snapshot.meta.deleted is None


def _is_for(snapshot: SnapshotObject, slot: datetime) -> bool:
    spec, meta = snapshot.spec, snapshot.meta
    ours = spec is not None and spec.origin is Origin.SCHEDULE and meta.labels.get(MANAGED_BY_LABEL) == MANAGED_BY
    return ours and slot_of(meta) == slot


def _repository(status: SnapshotStatus | None) -> str | None:
    return status.resolved.repository_id if status is not None and status.resolved is not None else None


def _some(moment: datetime | None) -> tuple[datetime, ...]:
    return () if moment is None else (moment,)
