"""A Snapshot's run: movers that fail, and runs that wait for each other."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide_operator.planning.actions import CreateJob
from tests.property.planning_world import Cluster, Fate, reasons
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
    outcome,
    status,
    until,
)

# --- movers


@pytest.mark.parametrize(
    ("fate", "reason", "attempts", "words"),
    [
        pytest.param(Fate("failed", False), "StorageFailed", 2, "", id="a failure that may pass is tried again"),
        pytest.param(Fate("failed", False, "StorageFull"), "StorageFull", 1, "", id="a failure that stays is not"),
        pytest.param(Fate("partial"), "Partial", 1, "allowPartial", id="files that can't be read"),
        pytest.param(Fate("empty"), "SourceEmpty", 1, "no file", id="an empty volume"),
        pytest.param(Fate("oom", False), "OutOfMemory", 1, "512Mi", id="out of memory"),
        pytest.param(Fate("vanish", False), "ResultLost", 2, "", id="a result that is lost, and nothing stored"),
        pytest.param(Fate("pending"), "CannotStart", 1, "0/1 nodes are available", id="a mover that can't start"),
    ],
)
def test_a_mover_that_fails(fate: Fate, reason: str, attempts: int, words: str):
    deadlines = {"start": "1m"}
    world = cluster(
        mover={"retry": {"limit": 1, "backoff": "5s"}, "deadlines": deadlines}, volumes={"claims": ["data"]}
    )
    fates(world, backup=fate)
    world.run(RUN)
    assert outcome(world) == ("False", reason)
    assert jobs_made(world, "backup") == attempts
    assert words in message(world)
    assert counts(world) == {"db": 1, "web": 3}
    assert (world.held(), world.jobs) == ([], {})
    assert status(world).verdict_snapshot_id is None


def test_allow_partial_says_that_it_is_good_and_what_is_missing():
    world = cluster(mover={"allowPartial": True})
    fates(world, backup=Fate("partial"))
    world.run(RUN)
    assert outcome(world) == ("True", "Partial")
    assert "data, files" in message(world)


def test_a_lost_result_is_looked_up_and_what_was_stored_is_adopted():
    world = cluster(volumes={"claims": ["data"]})
    fates(world, backup=Fate("vanish", True))
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert (jobs_made(world, "backup"), jobs_made(world, "lookup")) == (1, 1)
    assert len([s for s in world.repository.values() if not s.members]) == 1


def test_a_mover_that_hangs_is_ended_and_everything_starts_again_within_max_downtime():
    world = cluster(quiesce={"timeout": "1m", "maxDowntime": "5m"})
    fates(world, backup=Fate("hang"))
    world.run(RUN, seconds=5, rounds=100)
    assert outcome(world)[0] == "False"
    assert failure(world) in ("TooLong", "MaxDowntimeExceeded")
    assert counts(world) == {"db": 1, "web": 3}
    downtime = status(world).downtime
    assert downtime is not None
    assert downtime <= timedelta(minutes=5, seconds=30)


def test_a_mover_without_progress_is_given_up():
    world = cluster(mover={"deadlines": {"noProgress": "1m"}, "retry": {"limit": 0}})
    fates(world, backup=Fate("hang"))
    world.run(RUN, seconds=5)
    assert outcome(world) == ("False", "NoProgress")


def test_a_mover_on_a_lost_node_does_not_keep_workloads_down_for_ever():
    world = cluster(quiesce={"timeout": "1m", "maxDowntime": "5m"})
    fates(world, backup=Fate("hang"))
    until(world, lambda w: any(p.claims and w.movers.get(p.meta.uid) for p in w.pods.values()))
    world.stuck.update(uid for uid in world.movers if uid in world.pods)
    world.run(RUN, seconds=5, rounds=150)
    assert counts(world) == {"db": 1, "web": 3}
    downtime = status(world).downtime
    assert downtime is not None
    assert downtime <= timedelta(minutes=9)


def test_another_repository_under_the_same_secret_is_refused():
    world = cluster()
    until(world, gone)
    world.repository_id = "0" * 64
    world.run(RUN)
    assert outcome(world) == ("False", "RepositoryChanged")


def test_a_claim_that_was_replaced_is_not_backed_up_in_its_place():
    world = cluster()
    until(world, down)
    del world.claims["data"]
    world.add_claim("data")
    world.run(RUN)
    assert outcome(world) == ("False", "ClaimReplaced")


@pytest.mark.parametrize(("deleted", "reason"), [(False, "ClaimReplaced"), (True, "ClaimDeleting")])
def test_a_claim_that_is_replaced_or_deleted_while_the_run_waits_stops_nothing(deleted: bool, reason: str):
    """Deleted and still used, it would go with its last pod."""
    world = cluster()
    job = world.add_workload("Job", "import", "data")
    until(world, lambda w: reasons(status(w).conditions).get("Quiesced") == ("False", "WaitingForJob"))
    claim = world.claims["data"]
    meta = world.touched(claim.meta, deleted=world.now) if deleted else world.meta("data")
    world.claims["data"] = replace(claim, meta=meta)
    del world.workloads[job.meta.uid]
    world.run(RUN)
    assert outcome(world) == ("False", reason)
    assert "PatchWorkload" not in world.log


def test_a_group_without_a_verdict_is_not_good():
    world = cluster()
    fates(world, verdict=Fate("failed", False))
    world.run(RUN)
    assert outcome(world) == ("False", "VerdictFailed")
    assert counts(world) == {"db": 1, "web": 3}


def test_jobs_that_can_not_be_created_fail_the_run():
    world = cluster(mover={"deadlines": {"start": "1m"}})
    for _ in range(40):
        world.step()
        plan = world.plan("snapshot", world.observe(*RUN))
        for action in plan.actions:
            if isinstance(action, CreateJob):
                break
            world.apply(action)
        world.pass_time(5)
    assert outcome(world) == ("False", "CannotStart")
    assert "quotas" in message(world)


def test_results_are_in_the_status_before_their_jobs_are_deleted():
    world = cluster()
    for _ in range(40):
        world.step()
        plan = world.reconcile(*RUN)
        kinds = [type(action).__name__ for action in plan.actions]
        if "DeleteJob" in kinds:
            assert kinds[0] in ("WriteStatus", "CheckUnchanged")
            if kinds[0] == "CheckUnchanged":
                assert all(record.outcome for record in status(world).jobs)
        world.pass_time(2)
    assert outcome(world) == ("True", "Complete")


# --- order among runs


def test_the_older_of_two_runs_over_the_same_volumes_goes_first():
    world = cluster()
    world.pass_time(1)
    world.add_snapshot("two")
    for _ in range(60):
        world.step()
        world.reconcile("snapshot", "two")
        world.reconcile(*RUN)
        world.pass_time(2)
        first = status(world).quiesce
        second = world.snapshots["two"].status.quiesce
        assert second is None or (first is not None and first.released_time is not None)
    assert reasons(world.snapshots["two"].status.conditions)["Ready"] == ("True", "Complete")


def test_runs_that_share_only_a_workload_wait_for_each_other():
    world = Cluster()
    world.add_claim("data")
    world.add_claim("files")
    world.add_workload("Deployment", "web", "data", "files")
    world.add_policy("a", volumes={"claims": ["data"]})
    world.add_policy("b", volumes={"claims": ["files"]})
    world.step()
    world.add_snapshot("one", policyName="a")
    world.pass_time(1)
    world.add_snapshot("two", policyName="b")
    for _ in range(8):
        world.step()
        world.reconcile("snapshot", "two")
        world.reconcile(*RUN)
    assert reasons(world.snapshots["two"].status.conditions)["Quiesced"][1] == "WaitingForOtherRun"
    world.run(RUN, ("snapshot", "two"))
    assert reasons(world.snapshots["two"].status.conditions)["Ready"] == ("True", "Complete")
