"""Policies: what is due when, and whether volumes are protected."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from lowtide_operator.api.conditions import find
from lowtide_operator.api.mover import Mover
from lowtide_operator.api.policy import Capture, CaptureMethod
from lowtide_operator.api.quiesce import Quiesce
from lowtide_operator.api.repository import Repository
from lowtide_operator.api.snapshot import Resolved, SnapshotStatus
from lowtide_operator.planning.actions import Announce, CreateSnapshot
from tests.property.planning_world import START, Cluster, reasons

NIGHTLY = "0 2 * * *"
TWO = START.replace(hour=2)


def cluster(**spec: Any) -> Cluster:
    """A policy for 02:00 that was seen first at 01:00."""
    world = Cluster()
    world.add_claim("data")
    world.add_policy("db", **{"schedule": NIGHTLY, **spec})
    world.reconcile("policy", "db")
    return world


def at(world: Cluster, moment: datetime) -> list[Any]:
    world.now = moment
    return list(world.reconcile("policy", "db").actions)


def made(world: Cluster) -> list[str]:
    return sorted(world.snapshots)


def finish(world: Cluster, name: str, *, good: bool, captured: datetime | None = None) -> None:
    snapshot = world.snapshots[name]
    moment = captured or world.now
    text = {"lastTransitionTime": moment, "reason": "X", "message": "x"}
    body: dict[str, Any] = {
        "conditions": [{"type": "Ready", "status": "True" if good else "False", **text}],
        "endTime": moment,
    }
    if good:
        body["capturedTime"] = moment
    else:
        body["failure"] = {"reason": "X", "message": "x", "time": moment}
    world.snapshots[name] = replace(snapshot, status=SnapshotStatus.model_validate(body), fresh=False)


def test_creating_a_policy_runs_nothing():
    world = cluster(schedule="* * * * *")
    assert made(world) == []
    assert world.policies["db"].status.resumed_at == START


POD = {"podSelector": {"matchLabels": {"app": "db"}}, "command": ["sync"]}
IMAGE = {"name": "a.sql", "container": {"image": "postgres:16", "command": ["pg_dump"]}}


@pytest.mark.parametrize(
    ("spec", "reason", "value"),
    [
        pytest.param({"streams": [IMAGE]}, "StreamsNotAllowed", "streams.allow", id="an image"),
        pytest.param({"streams": [{"name": "a.sql", "exec": POD}]}, "StreamsNotAllowed", "exec.namespaces", id="exec"),
        pytest.param({"hooks": {"after": [POD]}}, "HooksNotAllowed", "exec.namespaces", id="hooks"),
        pytest.param(
            {"mover": {"privilege": "Elevated"}}, "PrivilegeNotAllowed", "lowtide.dev/privileged-movers", id="privilege"
        ),
    ],
)
@pytest.mark.parametrize("schedule", [NIGHTLY, None])
def test_a_policy_whose_runs_would_be_refused_says_so_and_which_value_to_set(
    spec: dict[str, Any], reason: str, value: str, schedule: str | None
):
    world = cluster(schedule=schedule, **spec)
    world.exec_allowed = world.streams_allowed = False
    at(world, TWO - timedelta(minutes=5))
    ready = find(world.policies["db"].status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", reason)
    assert value in ready.message
    at(world, TWO + timedelta(seconds=1))
    again = find(world.policies["db"].status.conditions, "Ready")
    assert again is not None
    assert again.last_transition_time == ready.last_transition_time
    assert made(world) == (["db-202603020200"] if schedule else []), "its runs fail, where alerts look for failures"
    world.exec_allowed = world.streams_allowed = world.elevated_allowed = True
    at(world, TWO + timedelta(minutes=5))
    assert reasons(world.policies["db"].status.conditions)["Ready"][0] == "True"


def test_a_slot_makes_one_snapshot_named_after_it():
    world = cluster(snapshotDeletionPolicy="Delete")
    for seconds in (0, 1, 10, 300, 3000, 7200):
        at(world, TWO + timedelta(seconds=seconds))
    assert made(world) == ["db-202603020200"]
    snapshot = world.snapshots["db-202603020200"]
    assert snapshot.spec is not None
    assert (snapshot.spec.origin, snapshot.spec.deletion_policy) == ("Schedule", "Delete")
    assert snapshot.meta.owners == ()
    assert all(key.startswith(("lowtide.dev/", "app.kubernetes.io/managed-by")) for key in snapshot.meta.labels)
    assert world.policies["db"].status.last_schedule_time == TWO
    assert world.policies["db"].status.last_snapshot == "db-202603020200"


def test_an_operator_killed_right_after_creating_makes_no_second_one():
    world = cluster()
    world.now = TWO
    world.reconcile("policy", "db", crash_after=2)
    assert made(world) == ["db-202603020200"]
    at(world, TWO + timedelta(seconds=5))
    assert made(world) == ["db-202603020200"]


def test_a_missed_slot_is_caught_up_once_within_its_deadline():
    world = cluster()
    at(world, TWO + timedelta(minutes=59))
    at(world, TWO + timedelta(minutes=59, seconds=5))
    assert made(world) == ["db-202603020200"]


def test_a_slot_missed_beyond_its_deadline_is_dropped_and_said():
    world = cluster()
    actions = at(world, TWO + timedelta(hours=10))
    assert made(world) == []
    assert [a.reason for a in actions if isinstance(a, Announce)] == ["SlotMissed"]
    assert world.policies["db"].status.last_schedule_time == TWO
    assert at(world, TWO + timedelta(hours=10, seconds=1)) == []


def test_of_many_missed_slots_only_the_last_is_caught_up():
    world = cluster(schedule="*/10 * * * *")
    at(world, TWO + timedelta(minutes=35))
    assert made(world) == ["db-202603020230"]


def test_slots_missed_while_suspended_are_dropped():
    world = cluster(suspend=True)
    at(world, TWO + timedelta(minutes=5))
    policy = world.policies["db"]
    assert policy.spec is not None
    assert policy.status.next_schedule_time is None
    spec = policy.spec.model_copy(update={"suspend": False})
    world.policies["db"] = replace(policy, spec=spec, meta=world.touched(policy.meta, spec=True))
    at(world, TWO + timedelta(minutes=10))
    at(world, TWO + timedelta(minutes=11))
    assert made(world) == []
    at(world, TWO + timedelta(days=1))
    assert made(world) == ["db-202603030200"]


def test_a_schedule_that_was_edited_runs_nothing_at_once():
    world = cluster()
    policy = world.policies["db"]
    assert policy.spec is not None
    world.now = START + timedelta(minutes=45)
    spec = policy.spec.model_copy(update={"schedule": "30 1 * * *"})
    world.policies["db"] = replace(policy, spec=spec, meta=world.touched(policy.meta, spec=True))
    at(world, world.now)
    at(world, world.now + timedelta(minutes=1))
    assert made(world) == []


def test_a_slot_waits_for_an_unfinished_run_and_not_beyond_its_deadline():
    world = cluster()
    world.add_snapshot("by-hand")
    at(world, TWO)
    assert made(world) == ["by-hand"]
    finish(world, "by-hand", good=True)
    at(world, TWO + timedelta(minutes=30))
    assert made(world) == ["by-hand", "db-202603020200"]


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        pytest.param({"origin": "Manual"}, {}, id="made by a person"),
        pytest.param({"origin": "Schedule", "policyName": "else"}, {}, id="of another policy"),
    ],
)
def test_a_snapshot_of_that_name_that_is_not_ours_skips_the_slot_with_a_warning(spec, labels):
    world = cluster()
    world.add_snapshot("db-202603020200", labels=labels, **spec)
    finish(world, "db-202603020200", good=True)
    actions = at(world, TWO)
    assert not any(isinstance(action, CreateSnapshot) for action in actions)
    assert [a.reason for a in actions if isinstance(a, Announce) and a.warning] == ["SlotTaken"]
    assert world.policies["db"].status.last_snapshot is None
    assert at(world, TWO + timedelta(minutes=1)) == []


def test_it_looks_again_at_the_next_slot():
    world = cluster()
    plan = world.plan("policy", world.observe("policy", "db"))
    assert plan.requeue_after == 3600
    assert world.policies["db"].status.next_schedule_time == TWO


@pytest.mark.parametrize(
    ("spec", "ready"),
    [
        pytest.param({}, ("True", "Scheduled"), id="scheduled"),
        pytest.param({"schedule": None}, ("True", "Manual"), id="without a schedule"),
        pytest.param({"suspend": True}, ("True", "Suspended"), id="suspended"),
        pytest.param({"schedule": "0 0 30 2 *"}, ("False", "InvalidSchedule"), id="a day that never comes"),
        pytest.param({"timeZone": "Middle/Earth"}, ("False", "InvalidSchedule"), id="a zone that is not known"),
    ],
)
def test_ready_means_valid_and_scheduled(spec, ready):
    world = cluster(**spec)
    conditions = reasons(world.policies["db"].status.conditions)
    assert conditions["Ready"] == ready
    assert ("Stalled" in conditions) == (ready[0] == "False")
    assert "Reconciling" not in conditions


def protected(world: Cluster) -> tuple[str, str]:
    return reasons(world.policies["db"].status.conditions)["Protected"]


def test_protected_is_unknown_before_the_first_run():
    assert protected(cluster()) == ("Unknown", "NoRunYet")


@pytest.mark.parametrize("good", [True, False])
def test_protected_after_the_first_run(good: bool):
    world = cluster()
    at(world, TWO)
    finish(world, "db-202603020200", good=good)
    at(world, TWO + timedelta(minutes=9))
    assert protected(world) == (("True", "Protected") if good else ("False", "NoSnapshot"))


def test_protected_ends_when_the_next_slot_is_overdue_and_not_before():
    world = cluster()
    at(world, TWO)
    finish(world, "db-202603020200", good=True)
    at(world, TWO + timedelta(days=1, hours=1, minutes=59))
    assert protected(world) == ("True", "Protected")
    at(world, TWO + timedelta(days=1, hours=2, minutes=1))
    assert protected(world) == ("False", "TooOld")
    condition = find(world.policies["db"].status.conditions, "Ready")
    assert condition is not None
    assert condition.status == "True"


@pytest.mark.parametrize(
    ("time_zone", "reason"), [("Europe/Berln", "InvalidSchedule"), (None, "InvalidSpec")], ids=["a typo", "unreadable"]
)
@pytest.mark.parametrize("ran", [True, False])
def test_a_policy_that_can_not_be_followed_protects_nothing(time_zone: str | None, reason: str, ran: bool):
    """Else the alert is blind: no run is made, and without a schedule nothing is ever too old."""
    world = cluster()
    if ran:
        at(world, TWO)
        finish(world, "db-202603020200", good=True)
        at(world, TWO + timedelta(minutes=9))
        assert protected(world) == ("True", "Protected")
    policy = world.policies["db"]
    spec = policy.spec.model_copy(update={"time_zone": time_zone}) if time_zone and policy.spec is not None else None
    world.policies["db"] = replace(policy, spec=spec, invalid="" if time_zone else "spec.volumes: not read")
    at(world, world.now)
    assert protected(world) == ("False", reason)
    condition = find(world.policies["db"].status.conditions, "Protected")
    assert condition is not None
    assert ("2026-03-02T02:00" in condition.message) is ran
    world.policies["db"] = replace(world.policies["db"], spec=policy.spec, invalid="")
    at(world, world.now)
    assert protected(world)[0] == ("True" if ran else "Unknown")


def test_failures_are_counted_since_the_last_good_run():
    world = cluster(schedule=None)
    for number, good in enumerate([False, True, False, False]):
        world.pass_time(60)
        world.add_snapshot(f"s{number}")
        finish(world, f"s{number}", good=good)
    at(world, world.now)
    status = world.policies["db"].status
    assert status.consecutive_failures == 2
    assert status.last_successful_time == START + timedelta(seconds=120)
    assert status.snapshots is not None
    assert (status.snapshots.total, status.snapshots.ready, status.snapshots.failed) == (4, 1, 3)


def test_the_last_success_is_remembered_after_its_snapshot_is_gone():
    world = cluster(schedule=None)
    world.add_snapshot("s")
    finish(world, "s", good=True)
    at(world, START + timedelta(minutes=1))
    del world.snapshots["s"]
    at(world, START + timedelta(minutes=2))
    assert world.policies["db"].status.last_successful_time == START
    assert protected(world)[0] != "True"


def test_a_repository_that_is_another_than_before_is_warned_of():
    world = cluster()
    for name, repository in (("first", "a" * 64), ("second", "b" * 64)):
        world.add_snapshot(name, policy="db")
        finish(world, name, good=True)
        found = world.snapshots[name]
        resolved = Resolved(
            policy_uid="u",
            policy_generation=1,
            repository=Repository(secret_name="s"),
            repository_id=repository,
            capture=Capture(method=CaptureMethod.DIRECT),
            quiesce=Quiesce(),
            mover=Mover(),
        )
        status = found.status.model_copy(update={"resolved": resolved, "start_time": world.now})
        world.snapshots[name] = replace(found, status=status)
        actions = at(world, world.now + timedelta(minutes=1))
        warned = [action for action in actions if isinstance(action, Announce)]
        assert [action.reason for action in warned] == ([] if name == "first" else ["RepositoryMoved"])
    assert "those before it aaaaaaaaaaaa" in warned[0].message
    protected = find(world.policies["db"].status.conditions, "Protected")
    assert protected is not None
    assert protected.message.endswith(
        "1 good Snapshots are in another repository than the last run used: aaaaaaaaaaaa."
    )
    assert not [action for action in at(world, world.now) if isinstance(action, Announce)]
