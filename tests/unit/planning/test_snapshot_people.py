"""A Snapshot's run: what it refuses to stop, and what others do meanwhile."""

from dataclasses import replace

import pytest

from lowtide_operator.api.quiesce import HeldState
from lowtide_operator.planning.actions import PatchWorkload
from lowtide_operator.planning.naming import HELD_LABEL, HOLD_ANNOTATION, RELEASED_ANNOTATION
from lowtide_operator.planning.observed import Owner
from lowtide_operator.planning.observed_pods import Container
from tests.property.planning_world import START, Cluster, reasons
from tests.unit.planning.runs import (
    RUN,
    cluster,
    counts,
    down,
    gone,
    message,
    outcome,
    status,
    until,
    workload,
)

# --- what is refused


def test_a_stateful_set_that_would_delete_its_volumes_is_never_scaled():
    world = cluster()
    db = workload(world, "db")
    world.workloads[db.meta.uid] = replace(db, when_scaled="Delete")
    world.run(RUN)
    assert outcome(world) == ("False", "ClaimsWouldBeDeleted")
    assert "PatchWorkload" not in world.log


def of_pod(world: Cluster) -> None:
    """The claim of the pod's generic ephemeral volume, which Kubernetes deletes with the pod."""
    pod = next(found for found in world.pods.values() if "files" in found.claims)
    owner = Owner("v1", "Pod", pod.meta.name, pod.meta.uid, True)
    name = f"{pod.meta.name}-scratch"
    claim = world.add_claim(name, labels={"app": "shop"})
    world.claims[name] = replace(claim, meta=replace(claim.meta, owners=(owner,)))
    world.pods[pod.meta.uid] = replace(pod, claims=(*pod.claims, name))


def test_a_selector_leaves_out_claims_that_go_with_their_pod():
    world = cluster(snapshot=False, volumes={"selector": {"matchLabels": {"app": "shop"}}})
    world.claims["data"] = replace(
        world.claims["data"], meta=replace(world.claims["data"].meta, labels={"app": "shop"})
    )
    of_pod(world)
    world.add_snapshot()
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert [volume.claim for volume in status(world).volumes] == ["data"]


@pytest.mark.parametrize(
    ("strategy", "ready"), [("ScaleDown", ("False", "ClaimsWouldBeDeleted")), ("None", ("True", "Complete"))]
)
def test_one_that_is_named_is_read_only_where_its_pod_is_not_stopped(strategy: str, ready: tuple[str, str]):
    world = cluster(snapshot=False)
    of_pod(world)
    world.policies.clear()
    world.add_policy(quiesce={"strategy": strategy})
    world.add_snapshot()
    world.run(RUN)
    assert outcome(world) == ready
    assert "PatchWorkload" not in world.log
    assert ("goes with pod web-" in message(world)) is (strategy == "ScaleDown")


def test_it_is_checked_again_right_before_the_patch():
    order = [{"kind": "Deployment", "name": "web"}, {"kind": "StatefulSet", "name": "db"}]
    world = cluster(quiesce={"workloads": order})
    until(world, down)
    db = workload(world, "db")
    world.workloads[db.meta.uid] = replace(db, when_scaled="Delete", meta=world.touched(db.meta, spec=True))
    world.run(RUN)
    assert outcome(world) == ("False", "ClaimsWouldBeDeleted")
    assert counts(world) == {"db": 1, "web": 3}


def test_a_running_job_is_waited_for_and_then_it_goes_on():
    world = cluster(snapshot=False)
    job = world.add_workload("Job", "import", "data", started=world.now)
    pod = world.add_pod("import-x", "data", owner=job)
    world.add_snapshot()
    for _ in range(10):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(2)
    assert reasons(status(world).conditions)["Quiesced"] == ("False", "WaitingForJob")
    assert world.held() == []
    world.workloads[job.meta.uid] = replace(job, finished=True)
    del world.pods[pod.meta.uid]
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")


def test_a_workload_that_is_being_updated_is_waited_for_and_then_it_goes_on():
    world = cluster()
    db = workload(world, "db")
    world.workloads[db.meta.uid] = replace(db, half_updated=True)
    for _ in range(10):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(2)
    assert reasons(status(world).conditions)["Quiesced"] == ("False", "WaitingForUpdate")
    assert world.held() == []
    world.workloads[db.meta.uid] = replace(workload(world, "db"), half_updated=False)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")


def test_an_update_that_does_not_end_fails_the_run_and_nothing_was_stopped():
    world = cluster()
    db = workload(world, "db")
    world.workloads[db.meta.uid] = replace(db, half_updated=True)
    world.run(RUN, seconds=20)
    assert outcome(world) == ("False", "UpdateWaiting")
    assert "StatefulSet db still had pods of an older revision after quiesce.timeout" in message(world)
    assert "PatchWorkload" not in world.log


def test_an_update_that_begins_right_before_the_patch_is_not_finished_by_the_run():
    order = [{"kind": "Deployment", "name": "web"}, {"kind": "StatefulSet", "name": "db"}]
    world = cluster(quiesce={"workloads": order})
    until(world, down)
    db = workload(world, "db")
    world.workloads[db.meta.uid] = replace(db, half_updated=True, meta=world.touched(db.meta, spec=True))
    world.run(RUN)
    assert outcome(world) == ("False", "UpdateWaiting")
    assert counts(world) == {"db": 1, "web": 3}


def test_a_job_that_never_ends_fails_the_run_and_nothing_was_stopped():
    world = cluster(snapshot=False)
    job = world.add_workload("Job", "import", "data", started=world.now)
    world.add_pod("import-x", "data", owner=job)
    world.add_snapshot()
    world.run(RUN, seconds=20)
    assert outcome(world) == ("False", "JobRunning")
    assert "PatchWorkload" not in world.log


# --- people and others meanwhile


def test_a_count_that_changed_before_the_first_patch_is_written_down_anew():
    world = cluster()
    until(world, lambda w: status(w).quiesce is not None)
    world.scale(workload(world, "web"), 5)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
    assert counts(world) == {"db": 1, "web": 5}


def test_a_count_that_changed_between_two_patches_stays_and_fails_the_run():
    world = cluster()
    until(world, lambda w: status(w).quiesce is not None)
    world.reconcile(*RUN, crash_after=2)
    assert counts(world) == {"db": 1, "web": 0}
    world.scale(workload(world, "db"), 5)
    world.run(RUN)
    assert outcome(world) == ("False", "WorkloadChanged")
    assert counts(world) == {"db": 5, "web": 3}


def test_a_run_that_fails_stops_nothing_in_the_plan_in_which_it_ends():
    """db would be patched first, and the plan that does it would not see that it is held."""
    world = cluster()
    until(world, lambda w: status(w).quiesce is not None)
    world.reconcile(*RUN, crash_after=1)
    world.scale(workload(world, "web"), 5)
    world.run(RUN)
    assert outcome(world) == ("False", "WorkloadChanged")
    assert (counts(world), world.held()) == ({"db": 1, "web": 5}, [])
    assert "PatchWorkload" not in world.log


def test_a_person_who_scales_up_while_it_is_down_wins_and_the_run_is_inconsistent():
    world = cluster()
    until(world, gone)
    world.scale(workload(world, "web"), 2)
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert counts(world) == {"db": 1, "web": 2}
    assert world.held() == []
    assert status(world).verdict_snapshot_id is None


def test_an_edit_during_the_window_makes_the_run_inconsistent():
    world = cluster()
    until(world, gone)
    web = workload(world, "web")
    world.workloads[web.meta.uid] = replace(web, meta=world.touched(web.meta, spec=True))
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert counts(world) == {"db": 1, "web": 3}


def test_a_workload_that_was_replaced_during_the_window_makes_the_run_inconsistent():
    world = cluster()
    until(world, gone)
    web = workload(world, "web")
    del world.workloads[web.meta.uid]
    world.add_workload("Deployment", "web", "files", replicas=1)
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert counts(world) == {"db": 1, "web": 1}


def test_a_pod_that_comes_back_during_the_window_makes_the_run_inconsistent():
    world = cluster()
    until(world, gone)
    world.add_pod("shell", "data")
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert "pod shell came back" in message(world)


def test_a_hold_that_a_person_removed_is_left_as_it_is():
    world = cluster()
    until(world, gone)
    web = workload(world, "web")
    meta = replace(world.touched(web.meta), annotations={}, labels={})
    world.workloads[web.meta.uid] = replace(web, meta=meta)
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert counts(world) == {"db": 1, "web": 0}
    ledger = status(world).quiesce
    assert ledger is not None
    assert [entry.state for entry in ledger.workloads] == ["Overridden", "Released"]


@pytest.mark.parametrize("older", [False, True], ids=["never was held", "was held by an earlier run"])
def test_a_hold_whose_annotation_an_undo_takes_off_does_not_keep_the_workload_down(*, older: bool):
    """`kubectl rollout undo` puts the annotations of an old ReplicaSet in the place of a Deployment's; labels stay."""
    world = cluster()
    until(world, gone)
    web = workload(world, "web")
    notes = {HOLD_ANNOTATION: web.meta.annotations[HOLD_ANNOTATION].replace(web.meta.labels[HELD_LABEL], "uid-earlier")}
    meta = replace(world.touched(web.meta), annotations=notes if older else {})
    world.workloads[web.meta.uid] = replace(web, meta=meta)
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert counts(world) == {"db": 1, "web": 3}
    assert HELD_LABEL not in workload(world, "web").meta.labels
    ledger = status(world).quiesce
    assert ledger is not None
    assert [entry.state for entry in ledger.workloads] == ["Released", "Released"]


def test_pods_that_do_not_go_fail_the_run_with_their_names_and_everything_starts_again():
    world = cluster(quiesce={"timeout": "1m"})
    stuck = next(pod for pod in world.pods.values() if "data" in pod.claims)
    world.stuck.add(stuck.meta.uid)
    world.run(RUN)
    assert outcome(world) == ("False", "QuiesceTimeout")
    assert stuck.meta.name in message(world)
    assert counts(world) == {"db": 1, "web": 3}


def test_what_this_run_released_is_never_stopped_again():
    world = cluster()
    until(world, lambda w: any(RELEASED_ANNOTATION in f.meta.annotations for f in w.workloads.values()))
    snapshot = world.snapshots["one"]
    ledger = snapshot.status.quiesce
    assert ledger is not None
    entries = tuple(entry.model_copy(update={"state": HeldState.PLANNED}) for entry in ledger.workloads)
    stale = ledger.model_copy(update={"gone_time": None, "released_time": None, "workloads": entries})
    conditions = tuple(c for c in snapshot.status.conditions if c.type != "Captured")
    old = snapshot.status.model_copy(update={"quiesce": stale, "conditions": conditions})
    observed = replace(world.observe(*RUN), snapshot=replace(snapshot, status=old))
    plan = world.plan("snapshot", observed)
    assert not [a for a in plan.actions if isinstance(a, PatchWorkload) and (a.replicas == 0 or a.suspend)]


def test_a_passed_deadline_forbids_stopping_anything():
    world = cluster(quiesce={"timeout": "1m", "maxDowntime": "5m"})
    until(world, lambda w: status(w).quiesce is not None and status(w).quiesce.start_time is None)
    plan = world.plan("snapshot", world.observe(*RUN))
    world.apply(plan.actions[0])
    world.pass_time(600)
    world.run(RUN)
    assert outcome(world) == ("False", "MaxDowntimeExceeded")
    assert "PatchWorkload" not in world.log


@pytest.mark.parametrize(
    "node",
    [pytest.param("node-a", id="nobody recorded its end"), pytest.param("node-gone", id="its node is gone")],
)
def test_nothing_is_stopped_for_a_pod_whose_end_nobody_will_ever_know(node: str):
    """A pod that was rejected, or evicted, stays until a person deletes it: the volumes count as mounted."""
    world = cluster()
    ends = () if node == "node-a" else (Container("main", terminated="Completed", finished=START),)
    world.add_pod("old", "data", phase="Failed", node=node, containers=ends)
    lowest = dict(counts(world))
    for _ in range(60):
        world.step()
        world.reconcile(*RUN)
        lowest = {name: min(count or 0, lowest[name] or 0) for name, count in counts(world).items()}
        world.pass_time(10)
    assert lowest == {"db": 1, "web": 3}
    assert outcome(world) == ("False", "PodInTheWay")
    assert "kubectl -n shop delete pod old" in message(world)


def test_a_pod_that_is_in_the_way_is_waited_for():
    world = cluster()
    old = world.add_pod("old", "data", phase="Failed")
    until(world, lambda w: reasons(status(w).conditions).get("Quiesced") == ("False", "PodInTheWay"))
    del world.pods[old.meta.uid]
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")


def test_a_pod_that_ended_a_moment_ago_keeps_nothing_from_being_stopped():
    world = cluster()
    world.add_pod("old", "data", phase="Failed", containers=(Container("main", "", finished=world.now),))
    until(world, down)
    world.run(RUN)
    assert outcome(world) == ("True", "Complete")
