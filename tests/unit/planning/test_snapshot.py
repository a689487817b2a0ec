"""A Snapshot's run: the good way, and how it starts."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide_operator.planning.actions import MoverJob, PatchWorkload, Purpose
from lowtide_operator.planning.hold import read_hold
from lowtide_operator.planning.naming import FINALIZER, HELD_LABEL, RELEASED_ANNOTATION
from lowtide_operator.planning.observed_pods import Container
from tests.property.planning_others import REPOSITORY
from tests.property.planning_world import START, Cluster, Fate, reasons
from tests.unit.planning.runs import (
    RUN,
    cluster,
    counts,
    down,
    fates,
    jobs_made,
    message,
    outcome,
    status,
    until,
    workload,
)

# --- the good way


def test_a_run_ends_ready_with_a_verdict_and_leaves_nothing_behind():
    world = cluster(attach=True)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert counts(world) == {"db": 1, "web": 3}
    assert (world.held(), world.jobs) == ([], {})
    assert all(RELEASED_ANNOTATION not in found.meta.annotations for found in world.workloads.values())
    assert world.snapshots["one"].meta.finalizers == ()
    conditions = reasons(status(world).conditions)
    for kind in ("Quiesced", "Captured", "Released", "Uploaded"):
        assert conditions[kind][0] == "True"
    assert not {"Reconciling", "Stalled"} & set(conditions)
    assert "Unknown" not in {truth for truth, _ in conditions.values()}
    ledger = status(world).quiesce
    assert ledger is not None
    assert ledger.start_time is not None
    assert ledger.ready_time is not None
    assert status(world).downtime == ledger.ready_time - ledger.start_time > timedelta()
    assert status(world).captured_time == ledger.gone_time
    assert (status(world).files, status(world).bytes) == (6, 600)


def test_after_the_end_there_is_nothing_to_do():
    world = cluster()
    world.run(RUN)
    plan = world.plan("snapshot", world.observe(*RUN))
    assert (plan.actions, plan.requeue_after) == ((), None)


def test_the_ledger_is_written_before_anything_changes():
    world = cluster()
    until(world, lambda w: status(w).quiesce is not None)
    ledger = status(world).quiesce
    assert ledger is not None
    assert [(e.kind, e.name, e.replicas) for e in ledger.workloads] == [
        ("Deployment", "web", 3),
        ("StatefulSet", "db", 1),
    ]
    assert ledger.deadline > world.now
    assert counts(world) == {"db": 1, "web": 3}
    assert world.held() == []


def test_the_hold_says_who_since_when_until_when_and_what_to_put_back():
    world = cluster()
    until(world, down)
    hold = read_hold(workload(world, "web"))
    ledger = status(world).quiesce
    assert hold is not None
    assert ledger is not None
    assert (hold.kind, hold.name, hold.run) == ("Snapshot", "one", world.snapshots["one"].meta.uid)
    assert (hold.replicas, hold.until) == (3, ledger.deadline)
    assert workload(world, "web").meta.labels[HELD_LABEL] == world.snapshots["one"].meta.uid
    assert counts(world) == {"db": 0, "web": 0}


def test_the_finalizer_is_there_before_the_first_job():
    world = cluster()
    until(world, lambda w: w.jobs)
    assert world.snapshots["one"].meta.finalizers == (FINALIZER,)


def test_the_preflight_comes_before_anything_is_stopped():
    world = cluster()
    fates(world, preflight=Fate("failed", reason="WrongPassword"))
    world.run(RUN)
    assert outcome(world) == ("False", "WrongPassword")
    assert "Stalled" in reasons(status(world).conditions)
    assert jobs_made(world, "preflight") == 1
    assert "PatchWorkload" not in world.log
    assert status(world).quiesce is None


def test_a_retryable_preflight_failure_is_tried_again():
    world = cluster()
    fates(world, preflight=Fate("failed"))
    world.run(RUN)
    assert jobs_made(world, "preflight") == 2
    assert outcome(world) == ("False", "StorageFailed")


def test_workloads_in_an_order_stop_one_after_the_other_and_start_in_reverse():
    order = [{"kind": "Deployment", "name": "web"}, {"kind": "StatefulSet", "name": "db"}]
    world = cluster(quiesce={"workloads": order})
    until(world, down)
    assert counts(world) == {"db": 1, "web": 0}
    until(world, lambda w: counts(w)["db"] == 0)
    assert not [pod for pod in world.pods.values() if "files" in pod.claims]
    patches: list[str] = []
    for _ in range(40):
        world.step()
        plan = world.reconcile(*RUN)
        patches += [a.ref.name for a in plan.actions if isinstance(a, PatchWorkload) and a.replicas]
        world.pass_time(2)
    assert patches == ["db", "web"]
    assert outcome(world) == ("True", "Complete")


def test_strategy_none_stops_nothing():
    world = cluster(quiesce={"strategy": "None"})
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert "PatchWorkload" not in world.log
    assert status(world).quiesce is None


def test_a_cron_job_is_suspended_and_goes_on():
    world = cluster(snapshot=False)
    nightly = world.add_workload("CronJob", "nightly", "data")
    world.add_snapshot()
    until(world, down)
    assert world.workloads[nightly.meta.uid].suspended
    world.run(RUN)
    assert not world.workloads[nightly.meta.uid].suspended
    assert outcome(world) == ("True", "Complete")


def test_a_cron_job_that_was_suspended_before_stays_so():
    world = cluster(snapshot=False)
    nightly = world.add_workload("CronJob", "nightly", "data", suspended=True)
    world.add_snapshot()
    world.run(RUN)
    assert world.workloads[nightly.meta.uid].suspended


def test_movers_end_before_max_downtime():
    world = cluster(quiesce={"timeout": "1m", "maxDowntime": "10m"})
    until(world, lambda w: any(m.job.purpose is Purpose.BACKUP for m in w.movers.values()))
    ledger = status(world).quiesce
    assert ledger is not None
    for mover in world.movers.values():
        if mover.job.purpose is Purpose.BACKUP:
            assert mover.job.active_deadline is not None
            end = world.jobs[mover.job_uid].meta.created + timedelta(seconds=mover.job.active_deadline)
            assert end + timedelta(seconds=60) <= ledger.deadline


def test_movers_of_a_repository_on_a_one_node_claim_run_one_after_the_other():
    world = cluster(snapshot=False)
    world.add_claim("vault")
    world.policies.clear()
    world.add_policy(volumes={"claims": ["data", "files"]}, repository={"secretName": "r", "claimName": "vault"})
    world.add_snapshot()
    for _ in range(40):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(2)
        backups = {m.job_uid for m in world.movers.values() if m.job.purpose is Purpose.BACKUP}
        assert len([uid for uid in backups if uid in world.jobs]) <= 1
    assert outcome(world) == ("True", "Complete")


def test_what_is_resolved_counts_and_not_the_policy_that_was_edited_or_deleted():
    world = cluster()
    until(world, down)
    world.policies.clear()
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")


def test_movers_run_as_the_pod_that_used_the_volume():
    world = cluster(snapshot=False)
    for pod in list(world.pods.values()):
        identity = replace(pod.identity, user=999, fs_group=998)
        world.pods[pod.meta.uid] = replace(pod, identity=identity)
    world.add_snapshot()
    until(world, lambda w: any(m.job.purpose is Purpose.BACKUP for m in w.movers.values()))
    jobs = [m.job for m in world.movers.values() if m.job.purpose is Purpose.BACKUP]
    assert {(job.identity.user, job.identity.fs_group) for job in jobs if job.identity} == {(999, 998)}


# --- how it starts


def test_a_scheduled_snapshot_that_came_back_without_its_status_never_runs():
    world = cluster(snapshot=False)
    world.add_snapshot(origin="Schedule", annotations={"lowtide.dev/slot": "2026-03-01T02:00:00Z"})
    world.run(RUN)
    assert outcome(world) == ("False", "DeadlinePassed")
    assert (world.log.count("CreateJob"), world.log.count("PatchWorkload")) == (0, 0)


@pytest.mark.parametrize(
    ("name", "annotations", "ready"),
    [
        pytest.param("db-202603010200", {}, "DeadlinePassed", id="its name tells the slot"),
        pytest.param("one", {}, "SlotUnknown", id="without a slot it is never started"),
        pytest.param("one", {"lowtide.dev/slot": "2026-03-02T00:30:00Z"}, "Complete", id="within its deadline it runs"),
    ],
)
def test_the_slot_of_a_scheduled_snapshot(name: str, annotations: dict[str, str], ready: str):
    world = cluster(snapshot=False)
    world.add_snapshot(name, origin="Schedule", annotations=annotations)
    world.run(("snapshot", name))
    assert reasons(world.snapshots[name].status.conditions)["Ready"][1] == ready


def test_a_manual_snapshot_may_always_run():
    world = cluster()
    world.pass_time(90 * 24 * 3600)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")


def test_a_scheduled_run_that_had_to_wait_too_long_stops_nothing():
    world = cluster(snapshot=False)
    world.add_snapshot("blocker")
    world.pass_time(1)
    world.add_snapshot(origin="Schedule", annotations={"lowtide.dev/slot": "2026-03-02T00:30:00Z"})
    for _ in range(10):
        world.reconcile("snapshot", "blocker")
        world.step()
        world.reconcile(*RUN)
    world.now = START + timedelta(minutes=31)
    world.run(RUN, rounds=10)
    assert outcome(world) == ("False", "DeadlinePassed")
    assert "blocker" in message(world)


def test_a_manual_snapshot_waits_for_its_policy_and_then_gives_up():
    world = cluster(snapshot=False)
    world.policies.clear()
    world.add_snapshot()
    world.reconcile(*RUN)
    assert outcome(world) == ("Unknown", "PolicyNotFound")
    world.pass_time(301)
    world.reconcile(*RUN)
    assert outcome(world) == ("False", "PolicyNotFound")
    assert "Stalled" in reasons(status(world).conditions)


EVERYTHING = {"selector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}
SELECT = {"selector": {"matchLabels": {"app": "shop"}}}


@pytest.mark.parametrize(
    ("policy", "prepare", "reason"),
    [
        pytest.param({"volumes": {"claims": ["else"]}}, {}, "ClaimMissing", id="a claim that does not exist"),
        pytest.param({"volumes": SELECT}, {}, "NoClaims", id="a selector that finds nothing"),
        pytest.param({}, {"phase": "Pending"}, "ClaimUnbound", id="a claim that waits for its first consumer"),
        pytest.param({}, {"phase": "Lost"}, "ClaimUnbound", id="a claim that lost its volume"),
        pytest.param(
            {"quiesce": {"strategy": "None"}},
            {"access_modes": ("ReadWriteOncePod",)},
            "ClaimInUse",
            id="ReadWriteOncePod in use, and nothing is stopped",
        ),
        pytest.param({"mover": {"privilege": "Elevated"}}, {}, "PrivilegeNotAllowed", id="a right nobody granted"),
        pytest.param(
            {"repository": {"secretName": "r", "claimName": "data"}, "volumes": EVERYTHING},
            {},
            "RepositoryInGroup",
            id="its own repository",
        ),
    ],
)
def test_what_can_not_be_backed_up_fails_the_run_before_anything_is_stopped(policy, prepare, reason: str):
    world = cluster(**policy)
    world.claims["data"] = replace(world.claims["data"], **prepare)
    for _ in range(3):
        world.reconcile(*RUN)
    assert outcome(world) == ("False", reason)
    assert "CreateJob" not in world.log
    assert message(world).endswith(".")


def test_a_pod_that_ended_long_ago_does_not_have_a_claim_of_one_pod():
    world = Cluster()
    world.add_claim("data", access_modes=("ReadWriteOncePod",))
    container = Container("import", terminated="Completed", finished=world.now)
    world.add_pod("import-1", "data", phase="Succeeded", containers=(container,))
    world.add_policy(quiesce={"strategy": "None"})
    world.pass_time(61)
    world.add_snapshot()
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")


def test_all_that_is_refused_is_named_at_once():
    world = cluster(snapshot=False)
    names = [f"shell-{number}" for number in range(20)]
    for name in names:
        world.add_pod(name, "data")
    world.add_snapshot()
    world.run(RUN)
    assert outcome(world) == ("False", "BarePod")
    assert {name for name in names if f"Pod {name} uses data" not in message(world)} == set()


def preflight(world: Cluster, snapshot: str) -> MoverJob:
    """The Job of the snapshot's preflight, as it is made."""
    for _ in range(60):
        made = [mover.job for mover in world.movers.values() if mover.job.purpose is Purpose.PREFLIGHT]
        mine = [job for job in made if job.owner.name == snapshot]
        if mine:
            return mine[0]
        world.step()
        world.reconcile("snapshot", snapshot)
        world.pass_time(2)
    raise AssertionError("it never came")


def test_only_a_policy_that_never_had_a_repository_gets_a_new_one():
    """An edited Secret with a slip in its location: an empty repository there would look like a good one."""
    world = cluster()
    assert preflight(world, "one").create
    world.run(RUN)
    world.reconcile("policy", "db")
    world.add_snapshot("two")
    fates(world, preflight=Fate("failed", reason="RepositoryMissing"))
    assert not preflight(world, "two").create
    world.run(("snapshot", "two"))
    failed = world.snapshots["two"].status.failure
    assert failed is not None
    assert failed.reason == "RepositoryMissing"
    assert f"Earlier runs of the policy used repository {REPOSITORY[:12]}" in failed.message
    assert "lowtide init" in failed.message
