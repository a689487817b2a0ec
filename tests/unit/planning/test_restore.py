"""A Restore: what it finds, and what it writes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lowtide_operator.api.restore import PolicySource
from lowtide_operator.planning.actions import Purpose
from lowtide_operator.planning.observed import Attachment, Owner, Uid
from lowtide_operator.planning.observed_pods import Identity
from lowtide_operator.planning.source import find_by_policy
from lowtide_operator.planning.stamp import StampState, read_stamp
from tests.property.planning_world import START, Cluster, Fate, reasons
from tests.unit.planning.restores import (
    MOVER,
    RUN,
    backed_up,
    counts,
    data_is_empty,
    in_place,
    made,
    nobody_uses_them,
    outcome,
    status,
    until,
    writing,
)

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


def test_a_claim_that_goes_with_its_pod_is_never_written():
    world = backed_up()
    claim = world.claims["data"]
    owner = Owner("v1", "Pod", "db-0", Uid("uid-db-0"), True)
    world.claims["data"] = replace(claim, meta=replace(claim.meta, owners=(owner,)))
    log = len(world.log)
    in_place(world)
    world.run(RUN)
    assert outcome(world) == ("False", "ClaimsWouldBeDeleted")
    assert not {"CreateJob", "PatchWorkload"} & set(world.log[log:])


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


def test_one_that_stops_nothing_is_not_stopped_by_the_attachment_of_its_own_safety_mover():
    world = backed_up(attach=True)
    nobody_uses_them(world)
    in_place(world, quiesce={"strategy": "None"})
    world.run(RUN)
    assert outcome(world) == ("True", "Restored")
    assert made(world, Purpose.BACKUP) == [("data", "safety"), ("files", "safety")]


@pytest.mark.parametrize("safety", ["Take", "Skip"])
@pytest.mark.parametrize("left", ["a pod", "an attachment"])
def test_one_that_stops_nothing_writes_no_volume_that_is_in_use_before_it_begins(left: str, safety: str):
    world = backed_up(attach=True)
    nobody_uses_them(world)
    if left == "a pod":
        world.add_pod("shell", "data")
    else:
        world.attachments.add(Attachment("pv-data", "node-a"))
    in_place(world, quiesce={"strategy": "None", "timeout": "1m"}, safetySnapshot=safety)
    began = world.now
    world.run(RUN)
    assert outcome(world) == ("False", "VolumeInUse")
    assert (world.contents["data"], made(world, Purpose.BACKUP)) == ("lost", [])
    failure = status(world).failure
    assert failure is not None
    waited = failure.time - began
    assert waited >= timedelta(minutes=1) if left == "an attachment" else waited < timedelta(minutes=1)


@pytest.mark.parametrize("safety", ["Take", "Skip"])
@pytest.mark.parametrize("left", ["a pod", "an attachment"])
def test_one_that_stops_nothing_waits_for_what_goes_by_itself(left: str, safety: str):
    """The application was stopped by hand a moment ago, or another run's mover had the volume."""
    world = backed_up(attach=True)
    nobody_uses_them(world)
    attachment = Attachment("pv-data", "node-a")
    pod = world.add_pod("shell", "data")
    world.stuck.add(pod.meta.uid)
    world.delete_pod(pod)
    if left == "an attachment":
        world.pods.pop(pod.meta.uid)
    assert attachment in world.attachments
    in_place(world, quiesce={"strategy": "None"}, safetySnapshot=safety)
    world.run(RUN, rounds=20)
    assert reasons(status(world).conditions)["Quiesced"] == ("False", "VolumeInUse")
    assert (outcome(world)[0], world.contents["data"], made(world, Purpose.BACKUP)) == ("Unknown", "lost", [])
    world.pods.pop(pod.meta.uid, None)
    world.attachments.discard(attachment)
    world.run(RUN)
    assert (outcome(world), world.contents["data"]) == (("True", "Restored"), "data of data")


def test_one_that_stops_nothing_fails_where_a_pod_comes_while_it_saves_the_volume():
    world = backed_up(attach=True)
    nobody_uses_them(world)
    world.fate = lambda job: Fate("hang") if job.purpose is Purpose.BACKUP else Fate()
    in_place(world, quiesce={"strategy": "None"})
    until(world, lambda w: any(mover.job.purpose is Purpose.BACKUP for mover in w.movers.values()))
    world.add_pod("shell", "data")
    world.run(RUN)
    assert outcome(world) == ("False", "VolumeInUse")
    assert (world.contents["data"], status(world).first_write_time) == ("lost", None)
