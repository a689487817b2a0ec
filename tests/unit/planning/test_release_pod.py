"""The release pod, armed and at work: nothing is stopped without it, it acts at its deadline only, and on its run
only."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide_operator.planning import actions as act
from lowtide_operator.planning.armed import LEAD, LINGER
from lowtide_operator.planning.arming import LOST_AFTER, READY_WITHIN
from lowtide_operator.planning.naming import HOLD_ANNOTATION, TAKEN_OVER_ANNOTATION
from lowtide_operator.planning.observed import ObservedArmed, Uid
from tests.property.planning_world import Cluster, Conflict, Fate, reasons
from tests.unit.planning.runs import (
    RUN,
    cluster,
    counts,
    down,
    failure,
    fates,
    gone,
    jobs_made,
    message,
    status,
    until,
    workload,
)

MAX_DOWNTIME = timedelta(minutes=30)


def armed(world: Cluster) -> ObservedArmed:
    (uid,) = world.watches
    found = world.observe("armed", uid)
    assert isinstance(found, ObservedArmed)
    return found


def look(world: Cluster) -> act.Plan:
    """One look of the release pod, applied."""
    (uid,) = world.watches
    return world.reconcile("armed", uid)


def at_deadline(world: Cluster) -> Cluster:
    """A window whose operator is dead, and whose deadline has passed for the release pod."""
    until(world, gone)
    ledger = status(world).quiesce
    assert ledger is not None
    world.now = ledger.deadline + LEAD
    return world


# --- arming


def test_it_is_armed_beside_the_preflight_and_dismissed_once_everything_is_back():
    world = cluster()
    world.reconcile(*RUN)
    world.reconcile(*RUN)
    world.reconcile(*RUN)
    assert (len(world.release_jobs), jobs_made(world, "preflight")) == (1, 1)
    assert not down(world)
    until(world, lambda world: status(world).quiesce is not None and status(world).quiesce.released_time is not None)
    until(world, lambda world: not world.release_jobs)
    assert counts(world) == {"db": 1, "web": 3}


def test_nothing_is_stopped_before_it_is_ready():
    world = cluster()
    world.release_ready = False
    until(world, lambda world: reasons(status(world).conditions).get("Quiesced") == ("Unknown", "Arming"))
    world.run(RUN, rounds=20, seconds=2)
    assert counts(world) == {"db": 1, "web": 3}
    assert status(world).quiesce is None
    world.release_pods = {uid: replace(pod, ready=True) for uid, pod in world.release_pods.items()}
    until(world, down)


def test_a_run_whose_release_pod_never_gets_ready_fails_and_has_stopped_nothing():
    world = cluster()
    world.release_ready = False
    until(world, lambda world: bool(failure(world)), seconds=READY_WITHIN.total_seconds() / 20)
    assert failure(world) == "ReleaseNotReady"
    assert "nothing was stopped" in message(world)
    assert counts(world) == {"db": 1, "web": 3}
    world.run(RUN)
    assert world.release_jobs == {}


def test_one_that_was_ready_and_is_lost_while_the_run_waits_may_be_replaced_and_nothing_fails():
    world = cluster()
    job = world.add_workload("Job", "import", "data")
    importing = world.add_pod("import-1", "data", owner=job)
    until(world, lambda world: reasons(status(world).conditions).get("Quiesced") == ("False", "WaitingForJob"))
    world.reconcile(*RUN)
    world.pass_time(READY_WITHIN.total_seconds() + 1)
    world.pods.pop(importing.meta.uid)
    world.workloads[job.meta.uid] = replace(job, finished=True)
    world.release_ready = False
    world.release_pods.clear()
    for _ in range(5):
        world.reconcile(*RUN)
    assert failure(world) == ""
    world.release_ready = True
    world.add_release_pod(next(iter(world.release_jobs.values())))
    world.run(RUN)
    assert reasons(status(world).conditions)["Ready"] == ("True", "Complete")


def test_where_nothing_is_to_be_stopped_none_is_needed():
    world = cluster(quiesce={"strategy": "None"})
    world.run(RUN)
    assert reasons(status(world).conditions)["Ready"] == ("True", "Complete")
    assert world.watches == {}


def test_a_window_never_outlasts_its_release_pod():
    world = cluster()
    until(world, gone)
    ledger, pod = status(world).quiesce, status(world).release
    assert ledger is not None
    assert pod is not None
    assert ledger.deadline <= pod.deadline
    assert {job.deadline for job in world.watches.values()} == {pod.deadline}


def test_a_run_that_waits_for_long_arms_anew():
    world = cluster(mover={"deadlines": {"start": "3h", "whole": "9h"}})
    fates(world, preflight=Fate("pending"))
    until(world, lambda world: bool(world.release_jobs))
    first = status(world).release
    assert first is not None
    world.now = first.deadline - MAX_DOWNTIME + timedelta(seconds=1)
    world.reconcile(*RUN)
    second = status(world).release
    assert second is not None
    assert (second.attempt, second.deadline > first.deadline) == (2, True)
    world.reconcile(*RUN)
    assert [job.meta.name for job in world.release_jobs.values()] == [second.name]


@pytest.mark.parametrize("job", [False, True], ids=["its pod", "its Job"])
def test_one_that_is_lost_in_the_window_is_replaced_and_the_run_goes_on(job: bool):
    world = cluster()
    until(world, gone)
    world.release_pods.clear()
    if job:
        world.release_jobs.clear()
    world.reconcile(*RUN)
    world.reconcile(*RUN)
    if not job:
        world.add_release_pod(next(iter(world.release_jobs.values())))
    world.run(RUN)
    assert reasons(status(world).conditions)["Ready"] == ("True", "Complete")


def test_one_that_is_lost_and_has_no_successor_ends_the_run():
    world = cluster()
    fates(world, backup=Fate("hang"))
    until(world, gone)
    world.release_ready = False
    world.release_pods.clear()
    until(world, lambda world: bool(failure(world)), seconds=LOST_AFTER.total_seconds() / 4)
    assert failure(world) == "ReleaseLost"
    until(world, lambda world: counts(world) == {"db": 1, "web": 3}, seconds=30)


# --- at work


def test_before_the_deadline_it_does_nothing_whoever_is_dead():
    world = cluster()
    until(world, gone)
    ledger = status(world).quiesce
    assert ledger is not None
    for moment in (world.now, ledger.deadline, ledger.deadline + LEAD - timedelta(seconds=1)):
        world.now = moment
        plan = world.plan("armed", armed(world))
        assert plan.actions == ()
        assert plan.requeue_after is not None


def test_it_takes_the_run_over_ends_its_movers_and_puts_back_what_the_holds_say():
    world = at_deadline(cluster())
    world.reconcile(*RUN, crash_after=4)
    assert isinstance(look(world).actions[0], act.TakeOver)
    assert TAKEN_OVER_ANNOTATION in world.snapshots["one"].meta.annotations
    for _ in range(10):
        world.step()
        look(world)
        world.pass_time(2)
    assert counts(world) == {"db": 1, "web": 3}
    assert world.jobs == {}
    assert workload(world, "db").meta.annotations["lowtide.dev/released"].endswith(".1")


def test_it_waits_until_a_mover_is_gone():
    world = cluster()
    until(world, lambda world: any("backup" in job.meta.name for job in world.jobs.values()))
    world.step()
    movers = {pod.meta.uid for pod in world.pods.values() if "lowtide.dev/run-uid" in pod.meta.labels}
    assert movers
    world.stuck |= movers
    ledger = status(world).quiesce
    assert ledger is not None
    world.now = ledger.deadline + LEAD
    for _ in range(3):
        look(world)
        world.step()
    assert counts(world) == {"db": 0, "web": 0}, "a mover that reads has the volume"
    world.stuck.clear()
    for _ in range(5):
        look(world)
        world.step()
        world.pass_time(5)
    assert counts(world) == {"db": 1, "web": 3}


def test_a_count_that_a_person_set_meanwhile_stays():
    world = at_deadline(cluster())
    world.scale(workload(world, "web"), 5)
    world.annotate(workload(world, "db"), **{HOLD_ANNOTATION: "?"})
    for _ in range(6):
        look(world)
        world.step()
    assert counts(world) == {"db": 0, "web": 5}


def test_an_operator_that_stood_still_can_not_go_on_with_what_it_had_planned():
    world = cluster()
    until(world, gone)
    planned = world.plan(RUN[0], world.observe(*RUN))
    assert any(isinstance(action, act.WriteStatus | act.CheckUnchanged) for action in planned.actions[:1])
    at_deadline(world)
    look(world)
    with pytest.raises(Conflict):
        world.apply(planned.actions[0])


def test_another_runs_holds_are_not_its_business():
    world = at_deadline(cluster())
    seen = armed(world)
    plan = world.plan("armed", replace(seen, run=Uid("another"), owner=None))
    assert plan.actions == ()


def test_it_ends_once_nothing_can_come_any_more():
    world = at_deadline(cluster())
    for _ in range(6):
        look(world)
        world.step()
    assert look(world).requeue_after is not None, "what the operator sent before it died may still arrive"
    world.pass_time(LINGER.total_seconds() + 30)
    assert look(world) == act.Plan()


def test_it_ends_where_the_run_is_over():
    world = cluster()
    until(world, gone)
    seen = armed(world)
    world.run(RUN)
    over = replace(seen, owner=world.snapshots["one"], world=replace(seen.world, workloads=()))
    assert world.plan("armed", over) == act.Plan()
