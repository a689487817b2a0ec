"""The end of a Snapshot: what is put back and what is forgotten."""

from typing import Any

import pytest

from lowtide_operator.planning.actions import Purpose, WriteStatus
from lowtide_operator.planning.naming import RELEASED_ANNOTATION
from tests.property.planning_world import Cluster, Fate, reasons
from tests.unit.planning.runs import RUN, cluster, counts, fates, jobs_made, message, outcome, status, until

# --- deletion


def delete(world: Cluster, rounds: int = 40) -> None:
    world.delete(*RUN)
    for _ in range(rounds):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(5)


@pytest.mark.parametrize(
    ("spec", "left"),
    [
        pytest.param({"deletionPolicy": "Delete"}, 0, id="Delete forgets all of it"),
        pytest.param({"deletionPolicy": "Retain"}, 3, id="Retain forgets nothing"),
        pytest.param({"deletionPolicy": "Delete", "pinned": True}, 3, id="what is pinned stays"),
    ],
)
def test_deleting_a_snapshot(spec: dict[str, Any], left: int):
    world = cluster(snapshot=False)
    world.add_snapshot(**spec)
    world.run(RUN)
    delete(world)
    assert "one" not in world.snapshots
    assert len(world.repository) == left


def test_a_forget_that_fails_keeps_the_object_and_says_what_to_do():
    world = cluster(snapshot=False)
    world.add_snapshot(deletionPolicy="Delete")
    world.run(RUN)
    fates(world, forget=Fate("failed", reason="WrongPassword"))
    delete(world)
    assert reasons(status(world).conditions)["Stalled"] == ("True", "ForgetFailed")
    assert "Retain" in message(world)
    fates(world)
    world.pass_time(600)
    delete(world)
    assert ("one" in world.snapshots, world.repository) == (False, {})


def test_a_forget_that_is_tried_again_says_all_the_time_why_it_failed():
    world = cluster(snapshot=False)
    world.add_snapshot(deletionPolicy="Delete")
    world.run(RUN)
    fates(world, forget=Fate("failed", reason="WrongPassword"))
    delete(world)
    world.events.clear()
    for _ in range(200):
        assert outcome(world) == ("False", "ForgetFailed")
        assert "It is tried again every 10 minutes" in message(world)
        world.step()
        world.reconcile(*RUN)
        world.pass_time(10)
    assert jobs_made(world, "forget") > 3
    assert world.events == []


def test_what_keeps_a_forget_is_said():
    world = cluster(snapshot=False)
    world.add_snapshot(deletionPolicy="Delete")
    world.run(RUN)
    fates(world, forget=Fate("pending"))
    delete(world, rounds=3)
    assert outcome(world)[1] == "Forgetting"
    assert "out of the repository (its pod can't be scheduled: 0/1 nodes" in message(world)


@pytest.mark.parametrize("failing", [Purpose.FORGET, Purpose.LOOKUP])
def test_a_forget_that_keeps_failing_does_not_grow_its_object_until_it_can_not_be_written(failing: Purpose):
    world = cluster(snapshot=False, volumes={"claims": ["data"]}, mover={"retry": {"limit": 0}})
    world.add_snapshot(deletionPolicy="Delete")
    fates(world, backup=Fate("oom", True), lookup=Fate("failed"))
    world.run(RUN)
    world.fate = lambda job: Fate("failed", reason="WrongPassword") if job.purpose is failing else Fate()
    delete(world)
    most = 0
    for _ in range(60):
        for _ in range(4):
            world.step()
            world.reconcile(*RUN)
        most = max(most, len(status(world).jobs))
        world.pass_time(600)
    tried = [record for record in status(world).jobs if record.purpose == failing and record.role == "deletion"]
    assert max(record.attempt for record in tried) > 50, "it is tried every 10 minutes"
    assert most < 20
    recent = [record for record in tried if record.pod_uid is not None]
    assert len(recent) >= 3, "locks that are not old enough to be stale by themselves are still named as dead"
    fates(world)
    delete(world)
    assert ("one" in world.snapshots, world.repository) == (False, {})


def test_a_snapshot_deleted_during_its_run_ends_movers_releases_and_goes():
    world = cluster(snapshot=False)
    world.add_snapshot(deletionPolicy="Delete")
    fates(world, backup=Fate("hang"))
    until(world, lambda w: any(m.job.purpose is Purpose.BACKUP for m in w.movers.values()))
    fates(world)
    delete(world)
    assert "one" not in world.snapshots
    assert counts(world) == {"db": 1, "web": 3}
    assert (world.held(), world.jobs, world.repository) == ([], {}, {})
    assert all(RELEASED_ANNOTATION not in found.meta.annotations for found in world.workloads.values())


def test_what_a_failed_run_stored_unheard_is_found_and_forgotten():
    world = cluster(snapshot=False, volumes={"claims": ["data"]}, mover={"retry": {"limit": 0}})
    world.add_snapshot(deletionPolicy="Delete")
    fates(world, backup=Fate("oom", True), lookup=Fate("failed"))
    world.run(RUN)
    assert outcome(world) == ("False", "OutOfMemory")
    assert len(world.repository) == 1
    fates(world)
    delete(world)
    assert ("one" in world.snapshots, world.repository) == (False, {})


def test_in_a_namespace_that_goes_nothing_is_forgotten_and_nothing_blocks():
    world = cluster(snapshot=False)
    world.add_snapshot(deletionPolicy="Delete")
    world.run(RUN)
    world.namespace_terminating = True
    world.events.clear()
    delete(world, rounds=5)
    assert "one" not in world.snapshots
    assert len(world.repository) == 3
    assert {event.reason for event in world.events if event.warning} == {"BackupKept"}


def test_events_tell_each_step_of_a_run_once():
    world = cluster()
    world.run(RUN)
    told = [(event.reason, event.warning) for event in world.events]
    assert len(told) == len(set(told))
    assert {reason for reason, _ in told} >= {"Preflight", "Gone", "Read", "Stored", "Released", "Complete"}
    assert not any(warning for _, warning in told)


def test_the_event_about_a_failure_is_a_warning():
    world = cluster()
    fates(world, backup=Fate("failed", reason="SourceEmpty"))
    world.run(RUN)
    assert ("SourceEmpty", True) in [(event.reason, event.warning) for event in world.events]


def test_a_backup_that_a_restore_reads_is_forgotten_after_it():
    world = cluster(snapshot=False)
    world.add_snapshot(deletionPolicy="Delete")
    world.run(RUN)
    world.add_restore(volumes=[{"claim": "data"}])
    for _ in range(4):
        world.step()
        world.reconcile("restore", "back")
    delete(world, rounds=5)
    assert outcome(world)[1] == "InUse"
    assert "Restore back reads this backup" in message(world)
    assert "set deletionPolicy to Retain" in message(world)
    world.run(("restore", "back"), RUN)
    delete(world)
    assert world.contents["data"] == "data of data"
    assert "one" not in world.snapshots


def test_the_first_action_of_every_plan_with_effects_guards_against_a_stale_observation():
    world = cluster()
    for _ in range(40):
        world.step()
        plan = world.reconcile(*RUN)
        if plan.actions:
            assert type(plan.actions[0]).__name__ in ("WriteStatus", "CheckUnchanged", "SetFinalizers")
            assert sum(isinstance(action, WriteStatus) for action in plan.actions) <= 1
        world.pass_time(2)
    assert outcome(world) == ("True", "Complete")
