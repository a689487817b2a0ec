"""A Restore: what it finds, what it writes, and that nothing starts on a half-written volume."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lowtide_operator.api import RestoreStatus
from lowtide_operator.api.conditions import find
from lowtide_operator.api.restore import PolicySource
from lowtide_operator.planning.actions import MoverJob, Purpose
from lowtide_operator.planning.naming import FINALIZER, HELD_LABEL, HOLD_ANNOTATION
from lowtide_operator.planning.observed import Identity
from lowtide_operator.planning.source import find_by_policy
from lowtide_operator.planning.stamp import StampState, read_stamp
from tests.property.planning_world import START, Cluster, Fate, reasons

RUN = ("restore", "back")
MOVER = {"retry": {"limit": 1, "backoff": "5s"}, "deadlines": {"start": "1m"}}


def backed_up(*, attach: bool = False, **policy: Any) -> Cluster:
    """A group of two volumes with one good Snapshot, and then its data is lost."""
    world = Cluster()
    world.add_claim("data", attach=attach)
    world.add_claim("files")
    world.add_workload("StatefulSet", "db", "data")
    world.add_workload("Deployment", "web", "files", replicas=3)
    world.add_policy(**policy)
    world.step()
    world.add_snapshot()
    world.run(("snapshot", "one"))
    assert reasons(world.snapshots["one"].status.conditions)["Ready"][0] == "True"
    world.contents["data"] = "lost"
    return world


def in_place(world: Cluster, **spec: Any) -> None:
    world.add_restore(**{"volumes": [{"claim": "data"}, {"claim": "files"}], "mover": MOVER, **spec})


def status(world: Cluster) -> RestoreStatus:
    return world.restores["back"].status


def outcome(world: Cluster) -> tuple[str, str]:
    return reasons(status(world).conditions)["Ready"]


def message(world: Cluster) -> str:
    condition = find(status(world).conditions, "Ready")
    assert condition is not None
    return condition.message


def counts(world: Cluster) -> dict[str, int | None]:
    return {found.meta.name: found.replicas for found in world.workloads.values()}


def made(world: Cluster, purpose: Purpose) -> list[tuple[str, str]]:
    return [(record.claim, record.role) for record in status(world).jobs if record.purpose == purpose]


def until(world: Cluster, reached: Any) -> None:
    for _ in range(60):
        if reached(world):
            return
        world.step()
        world.reconcile(*RUN)
        world.pass_time(2)
    raise AssertionError(f"never reached: {reasons(status(world).conditions)} {status(world).failure}")


def writing(world: Cluster) -> bool:
    return status(world).first_write_time is not None


def first_restore_fails(job: MoverJob) -> Fate:
    """Restores of the data volume fail; the way back works."""
    wrong = job.purpose is Purpose.RESTORE and job.claim == "data" and job.path == "/volumes/data"
    return Fate("failed", reason="Damaged") if wrong and not back(job) else Fate()


def every_restore_fails(job: MoverJob) -> Fate:
    return Fate("failed", reason="Damaged") if job.purpose is Purpose.RESTORE else Fate()


def data_is_empty(job: MoverJob) -> Fate:
    """The mover of a volume without files, as `lowtide backup --refuse-empty` has it."""
    refused = job.purpose is Purpose.BACKUP and job.claim == "data" and not job.may_be_empty
    return Fate("failed", reason="SourceEmpty") if refused else Fate()


def back(job: MoverJob) -> bool:
    return job.delete and not job.include and _safety_ids and job.snapshot_ids[0] in _safety_ids


_safety_ids: set[str] = set()


@pytest.fixture(autouse=True)
def _forget_ids():
    _safety_ids.clear()


# --- the good way


def test_a_group_is_restored_in_place_and_its_workloads_run_again():
    world = backed_up(attach=True)
    in_place(world)
    world.run(RUN)
    assert outcome(world) == ("True", "Restored")
    assert (world.contents["data"], world.contents["files"]) == ("data of data", "data of files")
    assert counts(world) == {"db": 1, "web": 3}
    assert (world.held(), world.jobs, world.restores["back"].meta.finalizers) == ([], {}, ())
    assert {
        condition for condition in reasons(status(world).conditions) if condition in ("Reconciling", "Stalled")
    } == set()
    assert status(world).downtime is not None
    plan = world.plan("restore", world.observe(*RUN))
    assert (plan.actions, plan.requeue_after) == ((), None)


def test_before_the_first_write_everything_is_saved_and_stamped():
    world = backed_up()
    in_place(world)
    until(world, writing)
    assert made(world, Purpose.BACKUP) == [("data", "safety"), ("files", "safety")]
    assert all(volume.safety_snapshot_id in world.repository for volume in status(world).volumes)
    for name in ("data", "files"):
        stamp = read_stamp(world.claims[name])
        assert stamp is not None
        assert (stamp.run, stamp.state) == (world.restores["back"].meta.uid, StampState.WRITING)
    world.run(RUN)
    stamp = read_stamp(world.claims["data"])
    assert stamp is not None
    assert stamp.state is StampState.RESTORED


def test_a_volume_that_lost_everything_can_be_restored():
    world = backed_up()
    world.fate = data_is_empty
    in_place(world)
    world.run(RUN)
    assert outcome(world) == ("True", "Restored")


def test_safety_snapshots_can_be_left_out():
    world = backed_up()
    in_place(world, safetySnapshot="Skip")
    world.run(RUN)
    assert outcome(world) == ("True", "Restored")
    assert made(world, Purpose.BACKUP) == []


def test_an_empty_volume_has_nothing_to_save_and_is_restored():
    world = backed_up()
    world.fate = lambda job: Fate("failed", False, "SourceEmpty") if job.purpose is Purpose.BACKUP else Fate()
    in_place(world)
    world.run(RUN)
    assert outcome(world) == ("True", "Restored")


@pytest.mark.parametrize(("overwrite", "delete"), [("Mirror", True), ("Merge", False)])
def test_only_mirror_deletes_what_the_snapshot_has_not(overwrite: str, delete: bool):
    world = backed_up()
    in_place(world, overwrite=overwrite)
    until(world, writing)
    jobs = [mover.job for mover in world.movers.values() if mover.job.purpose is Purpose.RESTORE]
    assert {job.delete for job in jobs} == {delete}
    assert {job.path for job in jobs} == {"/volumes/data", "/volumes/files"}
    assert all(job.writes for job in jobs)


def test_a_new_claim_is_made_and_nothing_is_stopped():
    world = backed_up()
    world.add_restore(volumes=[{"claim": "data", "newClaim": {"name": "copy"}}])
    world.run(RUN)
    assert outcome(world) == ("True", "Restored")
    assert world.contents["copy"] == "data of data"
    assert world.contents["data"] == "lost"
    assert status(world).quiesce is None
    assert made(world, Purpose.BACKUP) == []
    world.delete(*RUN)
    assert "copy" in world.claims


def test_a_volume_whose_workload_is_gone_is_restored_as_who_used_it_at_the_backup():
    world = Cluster()
    world.add_claim("data")
    workload = world.add_workload("StatefulSet", "db", "data", replicas=0, identity=Identity(user=999, fs_group=999))
    world.add_policy()
    world.step()
    world.add_snapshot()
    world.run(("snapshot", "one"))
    del world.workloads[workload.meta.uid], world.wanted[workload.meta.uid]
    world.add_restore(volumes=[{"claim": "data", "newClaim": {"name": "copy"}}])
    until(world, writing)
    (job,) = [mover.job for mover in world.movers.values() if mover.job.purpose is Purpose.RESTORE]
    assert job.identity == Identity(user=999, fs_group=999)
    assert job.fresh


def test_a_snapshot_found_in_the_repository_is_restored():
    world = backed_up()
    wanted = world.snapshots["one"].status.volumes[0].snapshot_id
    world.add_restore(
        source={"repository": {"secretName": "repo", "id": wanted}},
        volumes=[{"claim": "data", "path": "/volumes/data"}],
        mover=MOVER,
    )
    world.run(RUN)
    assert outcome(world) == ("True", "Restored")
    assert world.contents["data"] == "data of data"


# --- what is not found, or not good


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        pytest.param({"source": {"snapshotName": "two"}}, "SnapshotMissing", id="no such Snapshot"),
        pytest.param({"source": {"policy": {"name": "else"}}}, "NoMatch", id="no Snapshot of that policy"),
        pytest.param({"source": {"policy": {"name": "db", "offset": 1}}}, "NoMatch", id="not so many Snapshots"),
        pytest.param(
            {"source": {"policy": {"name": "db", "asOf": "2020-01-01T00:00:00Z"}}}, "NoMatch", id="none that old"
        ),
        pytest.param({"volumes": [{"claim": "else"}]}, "VolumeMissing", id="a volume that the Snapshot has not"),
        pytest.param(
            {"volumes": [{"claim": "data", "newClaim": {"name": "files"}}]}, "ClaimExists", id="a claim that exists"
        ),
        pytest.param({"mover": {"privilege": "Elevated"}}, "PrivilegeNotAllowed", id="a right nobody granted"),
    ],
)
def test_what_can_not_be_restored_fails_before_anything_is_touched(spec: dict[str, Any], reason: str):
    world = backed_up()
    log = len(world.log)
    in_place(world, **spec)
    world.run(RUN)
    assert outcome(world) == ("False", reason)
    assert not {"CreateJob", "PatchWorkload", "StampClaim", "CreateClaim"} & set(world.log[log:])
    assert world.contents["data"] == "lost"


def test_a_snapshot_that_is_gone_from_the_repository_is_noticed_before_anything_is_stopped():
    world = backed_up()
    world.repository.clear()
    log = len(world.log)
    in_place(world)
    world.run(RUN)
    assert outcome(world) == ("False", "SnapshotMissing")
    assert "PatchWorkload" not in world.log[log:]


def test_a_failed_snapshot_is_restored_only_where_a_person_allows_it():
    world = backed_up()
    world.fate = lambda job: Fate("failed", False) if job.purpose is Purpose.VERDICT else Fate()
    world.add_snapshot("bad")
    world.contents["data"] = "newer"
    world.run(("snapshot", "bad"), rounds=100)
    assert reasons(world.snapshots["bad"].status.conditions)["Ready"][0] == "False"
    world.fate = lambda job: Fate()
    in_place(world, source={"snapshotName": "bad"})
    world.run(RUN)
    assert outcome(world) == ("False", "SnapshotNotGood")
    world.restores.clear()
    in_place(world, source={"snapshotName": "bad"}, partialGroup="Allow")
    world.contents["data"] = "lost"
    world.run(RUN)
    assert (outcome(world), world.contents["data"]) == (("True", "Restored"), "newer")


def test_a_partial_volume_is_never_restored_unless_a_person_says_so():
    world = Cluster()
    world.add_claim("data")
    world.add_policy(mover={"allowPartial": True})
    world.fate = lambda job: Fate("partial") if job.purpose is Purpose.BACKUP else Fate()
    world.add_snapshot()
    world.run(("snapshot", "one"))
    assert reasons(world.snapshots["one"].status.conditions)["Ready"] == ("True", "Partial")
    world.add_restore(volumes=[{"claim": "data"}])
    world.run(RUN)
    assert outcome(world) == ("False", "VolumePartial")


def test_as_of_and_offset_choose_among_good_snapshots_and_never_fall_back():
    world = backed_up(schedule=None)
    for name in ("two", "three"):
        world.now = world.now + timedelta(hours=1)
        world.add_snapshot(name)
        world.run(("snapshot", name))

    def chosen(**source: Any) -> str:
        found = find_by_policy(PolicySource.model_validate({"name": "db", **source}), tuple(world.snapshots.values()))
        return found if isinstance(found, str) else found.meta.name

    second = world.snapshots["two"].status.captured_time
    assert second is not None
    assert chosen() == "three"
    assert chosen(offset=2) == "one"
    assert chosen(asOf=second) == "two"
    assert chosen(asOf=second, offset=1) == "one"
    assert chosen(asOf=second - timedelta(seconds=1)) == "one"
    assert chosen(offset=3).startswith("There are 3 good Snapshots")
    assert chosen(asOf=START - timedelta(days=1)).startswith("There are 0 good Snapshots")


def test_a_restore_that_came_back_without_its_status_never_runs_again():
    world = backed_up()
    in_place(world)
    world.run(RUN)
    spec = world.restores.pop("back").spec
    world.contents["data"] = "newer"
    in_place(world)
    assert world.restores["back"].spec == spec
    world.run(RUN)
    assert outcome(world) == ("True", "AlreadyRestored")
    assert world.contents["data"] == "newer"


def test_another_restore_of_the_same_spec_does_run():
    world = backed_up()
    in_place(world)
    world.run(RUN)
    world.contents["data"] = "lost again"
    in_place(world, name="again")
    world.run(("restore", "again"))
    assert world.contents["data"] == "data of data"


# --- failures


def test_a_failure_before_the_first_write_touches_nothing_and_starts_everything():
    world = backed_up()
    world.fate = lambda job: Fate("failed", False, "StorageFull") if job.purpose is Purpose.BACKUP else Fate()
    in_place(world)
    world.run(RUN)
    assert outcome(world) == ("False", "SafetySnapshotFailed")
    assert world.contents["data"] == "lost"
    assert (counts(world), world.held()) == ({"db": 1, "web": 3}, [])
    assert read_stamp(world.claims["data"]) is None


def test_max_downtime_bounds_the_time_before_the_first_write():
    world = backed_up()
    world.fate = lambda job: Fate("hang") if job.purpose is Purpose.BACKUP else Fate()
    in_place(world, quiesce={"timeout": "1m", "maxDowntime": "3m"}, mover={"retry": {"limit": 0}})
    world.run(RUN)
    assert outcome(world)[0] == "False"
    assert (counts(world), world.held()) == ({"db": 1, "web": 3}, [])
    assert status(world).first_write_time is None


def test_after_the_first_write_workloads_stay_down_until_the_data_is_whole():
    world = backed_up()
    world.fate = lambda job: Fate("hang") if job.purpose is Purpose.RESTORE else Fate()
    in_place(world, quiesce={"timeout": "1m", "maxDowntime": "3m"}, mover={"deadlines": {"noProgress": "2h"}})
    until(world, writing)
    for _ in range(50):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(30)
    assert counts(world) == {"db": 0, "web": 0}
    world.fate = lambda job: Fate()
    world.run(RUN)
    assert (outcome(world), counts(world)) == (("True", "Restored"), {"db": 1, "web": 3})


def test_a_restore_that_fails_is_rolled_back_to_what_was_there():
    world = backed_up()
    world.fate = first_restore_fails
    in_place(world)
    until(world, writing)
    _safety_ids.update(volume.safety_snapshot_id or "" for volume in status(world).volumes)
    world.run(RUN)
    assert outcome(world) == ("False", "Damaged")
    assert "rolled back" in message(world)
    assert (world.contents["data"], world.contents["files"]) == ("lost", "data of files")
    assert (counts(world), world.held()) == ({"db": 1, "web": 3}, [])
    assert ("data", "back") in made(world, Purpose.RESTORE)
    stamp = read_stamp(world.claims["data"])
    assert stamp is not None
    assert stamp.state is StampState.ROLLED_BACK


@pytest.mark.parametrize("safety", ["Take", "Skip"])
def test_if_both_fail_it_stalls_with_the_command_to_release_by_hand(safety: str):
    world = backed_up()
    world.fate = every_restore_fails
    in_place(world, safetySnapshot=safety)
    world.run(RUN, ("orphans", ""), rounds=100)
    assert outcome(world) == ("False", "RollbackFailed")
    assert reasons(status(world).conditions)["Stalled"] == ("True", "RollbackFailed")
    assert "kubectl scale statefulset/db -n shop --replicas=1" in message(world)
    assert counts(world) == {"db": 0, "web": 0}
    assert status(world).end_time is None
    world.delete(*RUN)
    world.run(RUN, ("orphans", ""), rounds=20)
    assert world.restores["back"].meta.finalizers == (FINALIZER,)
    assert counts(world) == {"db": 0, "web": 0}
    for workload in list(world.workloads.values()):
        labels = {key: value for key, value in workload.meta.labels.items() if key != HELD_LABEL}
        notes = {key: value for key, value in workload.meta.annotations.items() if key != HOLD_ANNOTATION}
        meta = replace(world.touched(workload.meta), labels=labels, annotations=notes)
        world.workloads[workload.meta.uid] = replace(workload, meta=meta)
    world.run(RUN, rounds=20)
    assert "back" not in world.restores


def test_files_that_could_not_be_restored_as_they_were_fail_it_unless_allowed():
    for allowed, expected in ((False, ("False", "Partial")), (True, ("True", "Partial"))):
        world = backed_up()
        world.fate = lambda job: Fate("partial") if job.purpose is Purpose.RESTORE and not back(job) else Fate()
        in_place(world, mover={**MOVER, "allowPartial": allowed})
        until(world, writing)
        _safety_ids.update(volume.safety_snapshot_id or "" for volume in status(world).volumes)
        world.run(RUN)
        assert outcome(world) == expected


def test_a_pod_that_comes_back_before_the_first_write_stops_the_restore():
    world = backed_up()
    world.fate = lambda job: Fate("hang") if job.purpose is Purpose.BACKUP else Fate()
    in_place(world)
    until(world, lambda w: any(mover.job.purpose is Purpose.BACKUP for mover in w.movers.values()))
    world.add_pod("shell", "data")
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert world.contents["data"] == "lost"


def test_a_writer_that_is_not_seen_to_be_gone_keeps_workloads_down():
    world = backed_up()
    world.fate = lambda job: Fate("hang") if job.purpose is Purpose.RESTORE else Fate()
    in_place(world, mover={"deadlines": {"noProgress": "1m"}, "retry": {"limit": 0}})
    until(
        world,
        lambda w: any(
            p.claims and w.movers.get(p.meta.uid) and w.movers[p.meta.uid].job.writes for p in w.pods.values()
        ),
    )
    world.stuck.update(uid for uid in world.movers if uid in world.pods)
    for _ in range(60):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(30)
    assert counts(world) == {"db": 0, "web": 0}


# --- deletion


def test_deleting_it_before_the_first_write_ends_it():
    world = backed_up()
    world.fate = lambda job: Fate("hang") if job.purpose is Purpose.BACKUP else Fate()
    in_place(world)
    until(world, lambda w: any(mover.job.purpose is Purpose.BACKUP for mover in w.movers.values()))
    world.delete(*RUN)
    world.run(RUN)
    assert "back" not in world.restores
    assert (counts(world), world.held(), world.contents["data"]) == ({"db": 1, "web": 3}, [], "lost")
    assert read_stamp(world.claims["data"]) is None


def test_deleting_it_after_the_first_write_finishes_it_first():
    world = backed_up()
    in_place(world)
    until(world, writing)
    world.delete(*RUN)
    for _ in range(30):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(5)
    assert "back" not in world.restores
    assert (counts(world), world.held(), world.contents["data"]) == ({"db": 1, "web": 3}, [], "data of data")


def test_a_restore_and_the_snapshot_that_it_waits_for_do_not_wait_for_each_other():
    world = backed_up()
    in_place(world, source={"snapshotName": "two"})
    world.pass_time(1)
    world.add_snapshot("two")
    world.contents["data"] = "newer"
    world.run(RUN, ("snapshot", "two"))
    assert reasons(world.snapshots["two"].status.conditions)["Ready"] == ("True", "Complete")
    assert outcome(world) == ("True", "Restored")
    assert world.contents["data"] == "newer"
