"""What runs that are gone or over left held is put back, once, and never onto a half-written volume."""

from dataclasses import replace
from datetime import timedelta

import pytest

from lowtide_operator.planning.hold import Hold, read_hold
from lowtide_operator.planning.naming import HELD_LABEL, HOLD_ANNOTATION, RELEASED_ANNOTATION, RESTORED_ANNOTATION
from lowtide_operator.planning.observed import Owner, Uid, Workload
from lowtide_operator.planning.stamp import Stamp, StampState
from tests.property.planning_world import START, Cluster

RUN = ("snapshot", "one")


def hold(**more) -> Hold:
    values = {
        "kind": "Snapshot",
        "name": "gone",
        "run": Uid("uid-gone"),
        "attempt": 1,
        "since": START,
        "until": START + timedelta(minutes=30),
        "replicas": 3,
        "suspend": None,
        "generation": 1,
    }
    return Hold(**{**values, **more})


def held(world: Cluster, *, replicas: int = 0, by: Hold | None = None, kind: str = "Deployment", **more) -> Workload:
    workload = world.add_workload(kind, "web", "data", replicas=replicas, **more)
    by = by or hold()
    meta = replace(workload.meta, labels={HELD_LABEL: by.run}, annotations={HOLD_ANNOTATION: by.text()})
    world.workloads[meta.uid] = replace(workload, meta=meta)
    return world.workloads[meta.uid]


@pytest.fixture
def world() -> Cluster:
    cluster = Cluster()
    cluster.add_claim("data")
    cluster.pass_time(120)
    return cluster


def now(world: Cluster, workload: Workload) -> Workload:
    return world.workloads[workload.meta.uid]


def test_what_a_run_that_is_gone_holds_is_put_back(world: Cluster):
    workload = held(world)
    world.reconcile("orphans")
    assert now(world, workload).replicas == 3
    assert HELD_LABEL not in now(world, workload).meta.labels
    assert not {HOLD_ANNOTATION, RELEASED_ANNOTATION} & set(now(world, workload).meta.annotations)
    assert world.plan("orphans", world.observe("orphans", "")).actions == ()


def test_a_count_that_a_person_set_meanwhile_wins(world: Cluster):
    workload = held(world, replicas=1)
    world.reconcile("orphans")
    assert now(world, workload).replicas == 1
    assert world.held() == []


def test_a_cron_job_goes_on(world: Cluster):
    workload = held(world, kind="CronJob", suspended=True, by=hold(replicas=None, suspend=False))
    world.reconcile("orphans")
    assert not now(world, workload).suspended


def test_a_young_hold_of_a_run_that_is_not_seen_is_left_alone(world: Cluster):
    workload = held(world, by=hold(since=world.now - timedelta(seconds=5)))
    plan = world.reconcile("orphans")
    assert (plan.actions, plan.requeue_after) == ((), 30)
    assert now(world, workload).replicas == 0


def test_it_waits_for_movers_that_are_still_there(world: Cluster):
    workload = held(world)
    labels = {"lowtide.dev/run-uid": "uid-gone", "app.kubernetes.io/managed-by": "lowtide"}
    pod = world.add_pod("mover", "data", labels=labels)
    assert world.reconcile("orphans").requeue_after == 10
    del world.pods[pod.meta.uid]
    world.reconcile("orphans")
    assert now(world, workload).replicas == 3


def test_an_unfinished_run_ends_its_own_holds(world: Cluster):
    workload = world.add_workload("Deployment", "web", "data", replicas=3)
    world.add_policy()
    world.add_snapshot()
    for _ in range(30):
        world.step()
        world.reconcile(*RUN)
        if world.held():
            break
    world.pass_time(3600)
    assert world.reconcile("orphans").actions == ()
    assert now(world, workload).replicas == 0


def test_a_run_that_lost_its_status_does_not_keep_its_holds_for_ever(world: Cluster):
    snapshot = world.add_snapshot()
    workload = held(world, by=hold(run=snapshot.meta.uid, since=world.now - timedelta(minutes=2)))
    world.reconcile("orphans")
    assert now(world, workload).replicas == 3


def test_a_snapshot_deleted_without_its_finalizer_releases_all_the_same(world: Cluster):
    workload = world.add_workload("Deployment", "web", "data", replicas=3)
    world.add_policy()
    world.add_snapshot()
    for _ in range(30):
        world.step()
        world.reconcile(*RUN)
        if world.held():
            break
    world._vanish("Snapshot", "one")
    world.pass_time(120)
    for _ in range(5):
        world.step()
        world.reconcile("orphans")
    assert (now(world, workload).replicas, world.held(), world.jobs) == (3, [], {})


def test_nothing_starts_on_a_volume_that_a_vanished_restore_left_half_written(world: Cluster):
    workload = held(world, by=hold(kind="Restore"))
    stamp = Stamp("gone", Uid("uid-gone"), "hash", StampState.WRITING)
    claim = world.claims["data"]
    world.claims["data"] = replace(claim, meta=replace(claim.meta, annotations={RESTORED_ANNOTATION: stamp.text()}))
    world.reconcile("orphans")
    assert now(world, workload).replicas == 0
    (event,) = world.events
    assert (event.reason, event.warning) == ("HalfRestored", True)
    assert "kubectl scale deployment/web -n shop --replicas=3" in event.message
    done = replace(stamp, state=StampState.RESTORED)
    world.claims["data"] = replace(claim, meta=replace(claim.meta, annotations={RESTORED_ANNOTATION: done.text()}))
    world.reconcile("orphans")
    assert now(world, workload).replicas == 3


def test_a_hold_that_nobody_can_read_is_reported_and_left(world: Cluster):
    workload = held(world)
    meta = replace(workload.meta, annotations={HOLD_ANNOTATION: "{"})
    world.workloads[meta.uid] = replace(workload, meta=meta)
    world.reconcile("orphans")
    assert [event.reason for event in world.events] == ["HoldUnreadable"]
    assert now(world, workload).replicas == 0


def test_marks_of_runs_that_are_over_are_removed(world: Cluster):
    workload = world.add_workload("Deployment", "web", "data")
    meta = replace(workload.meta, annotations={RELEASED_ANNOTATION: "uid-gone.1", "mine": "x"})
    world.workloads[meta.uid] = replace(workload, meta=meta)
    world.reconcile("orphans")
    assert now(world, workload).meta.annotations == {"mine": "x"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"by": 1}',
        hold().text().replace("3", '"3"'),
        hold().text().replace('"replicas": 3', '"replicas": true'),
        hold().text().replace('"replicas": 3', '"replicas": -1'),
        hold().text().replace('"replicas": 3, ', ""),
        hold().text().replace("2026", "x"),
    ],
)
def test_a_hold_that_somebody_broke_is_no_hold(text: str):
    world = Cluster()
    workload = world.add_workload("Deployment", "web")
    meta = replace(workload.meta, labels={HELD_LABEL: "uid-gone"}, annotations={HOLD_ANNOTATION: text})
    assert read_hold(replace(workload, meta=meta)) is None


def test_a_hold_is_read_as_it_was_written():
    world = Cluster()
    workload = world.add_workload("Deployment", "web")
    for written in (hold(), hold(replicas=None, suspend=True), hold(replicas=0)):
        meta = replace(workload.meta, labels={HELD_LABEL: "u"}, annotations={HOLD_ANNOTATION: written.text()})
        assert read_hold(replace(workload, meta=meta)) == written


def test_annotations_that_were_copied_to_a_replica_set_mean_nothing(world: Cluster):
    deployment = world.add_workload("Deployment", "web", "data")
    owner = Owner("apps/v1", "Deployment", "web", deployment.meta.uid, True)
    copy = world.add_workload("ReplicaSet", "web-1", "data", replicas=0, owners=(owner,))
    notes = {HOLD_ANNOTATION: hold().text(), RELEASED_ANNOTATION: "uid-gone.1"}
    world.workloads[copy.meta.uid] = replace(copy, meta=replace(copy.meta, annotations=notes))
    assert world.reconcile("orphans").actions == ()


def test_annotations_that_a_rollback_brought_back_put_no_count_back(world: Cluster):
    workload = world.add_workload("Deployment", "web", "data", replicas=0)
    notes = {HOLD_ANNOTATION: hold().text(), RELEASED_ANNOTATION: "uid-gone.1"}
    world.workloads[workload.meta.uid] = replace(workload, meta=replace(workload.meta, annotations=notes))
    world.reconcile("orphans")
    assert now(world, workload).replicas == 0
    assert now(world, workload).meta.annotations == {}
