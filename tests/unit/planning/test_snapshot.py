"""A Snapshot's run: how it starts, what it refuses, how it fails, and what it leaves behind."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lowtide_operator.api.conditions import find
from lowtide_operator.api.quiesce import HeldState
from lowtide_operator.api.snapshot import SnapshotStatus
from lowtide_operator.planning.actions import CreateJob, PatchWorkload, Purpose, WriteStatus
from lowtide_operator.planning.hold import read_hold
from lowtide_operator.planning.naming import FINALIZER, HELD_LABEL, RELEASED_ANNOTATION
from lowtide_operator.planning.observed import Workload
from tests.property.planning_world import START, Cluster, Fate, reasons

RUN = ("snapshot", "one")


def cluster(*, attach: bool = False, snapshot: bool = True, **policy: Any) -> Cluster:
    world = Cluster()
    world.add_claim("data", attach=attach)
    world.add_claim("files")
    world.add_workload("StatefulSet", "db", "data")
    world.add_workload("Deployment", "web", "files", replicas=3)
    world.add_policy(**{"mover": {"retry": {"limit": 1, "backoff": "5s"}}, **policy})
    world.step()
    world.step()
    if snapshot:
        world.add_snapshot()
    return world


def status(world: Cluster) -> SnapshotStatus:
    return world.snapshots["one"].status


def outcome(world: Cluster) -> tuple[str, str]:
    return reasons(status(world).conditions)["Ready"]


def failure(world: Cluster) -> str:
    failed = status(world).failure
    return failed.reason if failed is not None else ""


def message(world: Cluster) -> str:
    condition = find(status(world).conditions, "Ready")
    assert condition is not None
    return condition.message


def workload(world: Cluster, name: str) -> Workload:
    return next(found for found in world.workloads.values() if found.meta.name == name)


def counts(world: Cluster) -> dict[str, int | None]:
    return {found.meta.name: found.replicas for found in world.workloads.values()}


def until(world: Cluster, reached: Any, *, seconds: float = 2) -> None:
    """Go on until `reached(world)`."""
    for _ in range(60):
        if reached(world):
            return
        world.step()
        world.reconcile(*RUN)
        world.pass_time(seconds)
    raise AssertionError(f"never reached: {reasons(status(world).conditions)} {status(world).failure}")


def gone(world: Cluster) -> bool:
    ledger = status(world).quiesce
    return ledger is not None and ledger.gone_time is not None


def down(world: Cluster) -> bool:
    return bool(world.held())


def fates(world: Cluster, **by_purpose: Fate) -> None:
    world.fate = lambda job: by_purpose.get(job.purpose.value, Fate())


def jobs_made(world: Cluster, purpose: str) -> int:
    return len([record for record in status(world).jobs if record.purpose == purpose])


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
        pytest.param({}, {"volume_mode": "Block"}, "BlockVolume", id="a block volume"),
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


# --- what is refused


def test_a_stateful_set_that_would_delete_its_volumes_is_never_scaled():
    world = cluster()
    db = workload(world, "db")
    world.workloads[db.meta.uid] = replace(db, when_scaled="Delete")
    world.run(RUN)
    assert outcome(world) == ("False", "ClaimsWouldBeDeleted")
    assert "PatchWorkload" not in world.log


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
