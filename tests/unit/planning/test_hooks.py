"""Hooks: before anything is stopped and after everything runs again, once each, and what a failure does."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lowtide_operator.api.hooks import HookOutcome
from lowtide_operator.planning.actions import HookJob, Purpose
from tests.property.planning_world import Cluster, Fate, reasons
from tests.unit.planning.runs import (
    RUN,
    cluster,
    counts,
    down,
    failure,
    gone,
    message,
    outcome,
    status,
    until,
    workload,
)

DB = {"podSelector": {"matchLabels": {"app": "db"}}}
ALL = ["before-1", "before-2", "after-1", "after-2"]


def hook(**more: Any) -> dict[str, Any]:
    return {**DB, "command": ["psql", "-c", "CHECKPOINT"], "timeout": "20s", **more}


def hooked(*, before: Any = None, after: Any = None, **more: Any) -> Cluster:
    two = [hook(), hook()]
    return cluster(
        hooks={"before": two if before is None else before, "after": two if after is None else after}, **more
    )


def fail(world: Cluster, *names: str, end: str = "failed") -> None:
    world.fate = lambda job: Fate(end if isinstance(job, HookJob) and job.hook in names else "ok")


def ran(world: Cluster) -> list[str]:
    return [name for name, _ in world.hooked]


def outcomes(world: Cluster) -> dict[str, str]:
    return {known.name: known.outcome.value if known.outcome else "" for known in status(world).hooks}


def hook_jobs(world: Cluster) -> list[HookJob]:
    return [mover.job for mover in world.movers.values() if isinstance(mover.job, HookJob)]


# --- the good way


@pytest.mark.parametrize("capture", [{"method": "Direct"}, {"method": "Snapshot"}])
def test_each_hook_runs_once_in_order_while_all_workloads_run(capture: dict[str, str]):
    world = hooked(capture=capture)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert ran(world) == ALL
    assert all({"db", "web"} <= set(running) for _, running in world.hooked)
    assert outcomes(world) == dict.fromkeys(ALL, "Succeeded")
    assert world.jobs == {}


def test_hooks_before_come_after_the_preflight_and_before_the_ledger():
    world = hooked()
    fail(world, "before-2", end="hang")
    until(world, lambda w: "before-2" in ran(w))
    done = {record.purpose for record in status(world).jobs if record.outcome is not None}
    assert done == {"preflight", "before-hook"}
    assert status(world).quiesce is None
    assert reasons(status(world).conditions)["Quiesced"] == ("Unknown", "BeforeHooks")
    assert world.held() == []


def test_no_hook_runs_while_an_older_run_is_in_the_way():
    world = hooked(snapshot=False)
    world.add_policy("other", mover={"retry": {"limit": 0}})
    world.add_snapshot("older", policyName="other")
    world.fate = lambda job: Fate("hang" if job.purpose is Purpose.PREFLIGHT and job.owner.name == "older" else "ok")
    world.pass_time(1)
    world.add_snapshot()
    for _ in range(20):
        world.step()
        world.reconcile("snapshot", "older")
        world.reconcile(*RUN)
        world.pass_time(1)
    assert reasons(status(world).conditions)["Quiesced"] == ("Unknown", "WaitingForOtherRun")
    assert ran(world) == []
    world.fate = lambda job: Fate()
    world.run(("snapshot", "older"), RUN)
    assert ran(world) == ALL


def test_what_the_hooks_of_one_run_undo_is_undone_before_those_of_the_next_begin():
    without = {"capture": {"method": "Snapshot"}, "quiesce": {"strategy": "None"}}
    world = hooked(snapshot=False, **without)
    world.add_snapshot("older")
    fail(world, "after-1", end="hang")
    for _ in range(20):
        world.step()
        world.reconcile("snapshot", "older")
        world.pass_time(1)
    assert ran(world) == ["before-1", "before-2", "after-1"]
    world.add_snapshot()
    for _ in range(20):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(1)
    assert reasons(status(world).conditions)["Quiesced"] == ("Unknown", "WaitingForOtherRun")
    assert len(ran(world)) == 3
    fail(world)
    world.run(("snapshot", "older"), RUN)
    assert ran(world) == [*ALL, *ALL]


def test_with_copies_the_hooks_after_come_before_the_upload():
    world = hooked(capture={"method": "Snapshot"})
    fail(world, "after-1", end="hang")
    until(world, lambda w: "after-1" in ran(w))
    assert not any(record.purpose == "backup" for record in status(world).jobs)
    assert counts(world) == {"db": 1, "web": 3}


def test_without_quiescing_they_enclose_the_capture():
    world = hooked(capture={"method": "Snapshot"}, quiesce={"strategy": "None"})
    fail(world, "before-2", end="hang")
    until(world, lambda w: "before-2" in ran(w))
    for _ in range(3):
        world.step()
        world.reconcile(*RUN)
    assert world.copies() == []
    fail(world)
    world.run(RUN)
    assert (outcome(world), ran(world)) == (("True", "Complete"), ALL)


def test_the_run_goes_by_what_the_policy_said_when_it_started():
    world = hooked()
    until(world, lambda w: status(w).resolved is not None)
    world.add_policy(hooks={"before": [hook(command=["rm"])] * 8})
    world.run(RUN)
    assert ran(world) == ALL


def test_a_workload_stands_for_its_pods():
    world = hooked(
        before=[{"workload": {"kind": "StatefulSet", "name": "db"}, "command": ["sync"]}], after=[], snapshot=False
    )
    db = workload(world, "db")
    world.workloads[db.meta.uid] = replace(db, selector="app=db,!canary")
    world.add_snapshot()
    fail(world, "before-1", end="hang")
    until(world, hook_jobs)
    (job,) = hook_jobs(world)
    assert (job.selector, job.command, job.container) == ("app=db,!canary", ("sync",), "")
    assert job.active_deadline == 600 + job.timeout + 60


# --- what is refused


def test_where_the_installation_may_not_execute_nothing_begins_and_it_is_said_which_value_to_set():
    world = hooked()
    world.exec_allowed = False
    world.run(RUN)
    assert outcome(world) == ("False", "HooksNotAllowed")
    assert "exec.namespaces" in message(world)
    assert (ran(world), status(world).jobs) == ([], ())


def test_a_policy_without_hooks_needs_no_such_right():
    world = cluster()
    world.exec_allowed = False
    world.run(RUN)
    assert (outcome(world), status(world).hooks) == (("True", "Complete"), ())


def test_a_workload_that_is_not_there_is_found_out_at_the_start():
    world = hooked(after=[{"workload": {"kind": "Deployment", "name": "wbe"}, "command": ["sync"]}])
    world.run(RUN)
    assert outcome(world) == ("False", "WorkloadMissing")
    assert "Deployment wbe" in message(world)
    assert status(world).jobs == ()


# --- failures


def test_a_hook_before_that_fails_stops_nothing_and_those_after_run_all_the_same():
    world = hooked()
    fail(world, "before-1")
    world.run(RUN)
    assert outcome(world) == ("False", "HookFailed")
    assert "before-1" in message(world)
    assert "nothing was stopped" in message(world)
    assert ran(world) == ["before-1", "after-1", "after-2"]
    assert outcomes(world) == {"before-1": "Failed", "before-2": "", "after-1": "Succeeded", "after-2": "Succeeded"}
    assert "PatchWorkload" not in world.log


def test_a_hook_that_may_fail_is_gone_on_without_and_named():
    world = hooked(before=[hook(onError="Continue"), hook()], after=[hook(onError="Continue")])
    fail(world, "before-1", "after-1")
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert "Failed, and gone on without: hook before-1, after-1." in message(world)
    assert [event.reason for event in world.events if event.warning] == ["HookFailed", "HookFailed"]


@pytest.mark.parametrize("capture", [{"method": "Direct"}, {"method": "Snapshot"}])
def test_a_hook_after_that_fails_makes_the_run_not_ready_and_the_others_run_all_the_same(capture: dict[str, str]):
    world = hooked(capture=capture)
    fail(world, "after-1")
    world.run(RUN)
    assert outcome(world) == ("False", "HookFailed")
    assert "after-1" in message(world)
    assert ran(world) == ALL
    assert counts(world) == {"db": 1, "web": 3}
    assert (world.copies(), world.jobs) == ([], {})


@pytest.mark.parametrize(
    ("end", "reason"),
    [("vanish", "ResultLost"), ("oom", "OutOfMemory"), ("hang", "TooLong"), ("pending", "CannotStart")],
)
def test_a_hook_of_which_nobody_knows_what_came_has_failed_and_is_never_tried_again(end: str, reason: str):
    world = hooked(mover={"retry": {"limit": 3, "backoff": "1s"}, "deadlines": {"start": "1m"}})
    fail(world, "before-1", end=end)
    world.run(RUN, rounds=200)
    assert outcome(world) == ("False", "HookFailed")
    (first,) = (known for known in status(world).hooks if known.name == "before-1")
    assert (first.outcome, first.reason) == (HookOutcome.FAILED, reason)
    assert len([record for record in status(world).jobs if record.role == "before-1"]) == 1
    assert ran(world).count("before-1") == 1


def test_after_a_failure_in_the_window_those_after_run_once_everything_runs_again():
    world = hooked()
    until(world, gone)
    world.add_pod("intruder", "data")
    world.fate = lambda job: Fate("hang" if job.purpose is Purpose.BACKUP else "ok")
    world.run(RUN)
    assert failure(world) == "Inconsistent"
    assert ran(world) == ALL
    assert {"db", "web"} <= set(world.hooked[-1][1])


def test_a_failure_before_the_hooks_began_runs_none():
    world = hooked()
    world.fate = lambda job: Fate("failed", reason="WrongPassword")
    world.run(RUN)
    assert outcome(world) == ("False", "WrongPassword")
    assert ran(world) == []
    assert status(world).hooks == ()


def test_with_hooks_after_only_they_run_from_the_moment_that_something_is_stopped():
    world = hooked(before=[])
    until(world, gone)
    world.add_pod("intruder", "data")
    world.run(RUN)
    assert failure(world) == "Inconsistent"
    assert ran(world) == ["after-1", "after-2"]


def test_a_run_that_fails_while_a_hook_before_runs_ends_it_and_says_so():
    world = hooked(snapshot=False)
    world.add_snapshot("one", origin="Schedule", annotations={"lowtide.dev/slot": f"{world.now:%Y-%m-%dT%H:%M:%SZ}"})
    fail(world, "before-1", end="hang")
    until(world, lambda w: "before-1" in ran(w))
    world.pass_time(timedelta(hours=2).total_seconds())
    world.run(RUN)
    assert outcome(world) == ("False", "DeadlinePassed")
    assert ran(world) == ["before-1", "after-1", "after-2"]
    assert outcomes(world)["before-1"] == "Failed"


# --- deletion


def test_a_snapshot_that_is_deleted_in_its_window_runs_those_after_before_it_goes():
    world = hooked()
    until(world, down)
    world.delete(*RUN)
    world.run(RUN)
    assert "one" not in world.snapshots
    assert ran(world) == ALL
    assert counts(world) == {"db": 1, "web": 3}


def test_deleting_it_after_its_run_runs_nothing_again():
    world = hooked(snapshot=False)
    world.add_snapshot(deletionPolicy="Delete")
    world.run(RUN)
    world.delete(*RUN)
    world.run(RUN)
    assert ("one" in world.snapshots, ran(world)) == (False, ALL)


def test_a_namespace_that_is_being_deleted_is_not_held_up_by_hooks_that_can_not_run():
    world = hooked()
    until(world, down)
    world.namespace_terminating = True
    world.delete(*RUN)
    world.run(RUN)
    assert "one" not in world.snapshots
    assert ran(world) == ["before-1", "before-2"]
    told = [event.message for event in world.events if event.reason == "HookFailed"]
    assert [text.partition(" failed")[0] for text in told] == ["Hook after-1", "Hook after-2"]
    assert all("it was not run" in text for text in told)
