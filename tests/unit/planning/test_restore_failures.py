"""A Restore that fails, or is deleted: nothing starts on a half-written volume."""

from dataclasses import replace

import pytest

from lowtide_operator.api import RestoreSpec
from lowtide_operator.planning.actions import MoverJob, Purpose
from lowtide_operator.planning.stamp import StampState, read_stamp
from tests.property.planning_world import Cluster, Fate, reasons
from tests.unit.planning.restores import (
    MOVER,
    RUN,
    _safety_ids,
    back,
    backed_up,
    counts,
    end_the_holds,
    first_restore_fails,
    first_write_of_data,
    in_place,
    made,
    message,
    nobody_uses_them,
    outcome,
    status,
    until,
    writing,
)

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
    assert "stay" not in message(world)
    assert (world.contents["data"], world.contents["files"]) == ("lost", "data of files")
    assert (counts(world), world.held()) == ({"db": 1, "web": 3}, [])
    assert ("data", "back") in made(world, Purpose.RESTORE)
    stamp = read_stamp(world.claims["data"])
    assert stamp is not None
    assert stamp.state is StampState.ROLLED_BACK


def test_files_that_could_not_be_restored_as_they_were_fail_it_unless_allowed():
    for allowed, expected in ((False, ("False", "Partial")), (True, ("True", "Partial"))):
        world = backed_up()
        world.fate = lambda job: Fate("partial") if job.purpose is Purpose.RESTORE and not back(job) else Fate()
        in_place(world, mover={**MOVER, "allowPartial": allowed})
        until(world, writing)
        _safety_ids.update(volume.safety_snapshot_id or "" for volume in status(world).volumes)
        world.run(RUN)
        assert outcome(world) == expected


@pytest.mark.parametrize(("allowed", "expected"), [(False, "SafetySnapshotFailed"), (True, "Damaged")])
def test_what_a_partial_safety_snapshot_lacks_is_never_deleted(allowed: bool, expected: str):
    """Without leave nothing is written after it; with it, the way back leaves alone what it may not have saved."""
    world = backed_up()
    jobs = []

    def fate(job: MoverJob) -> Fate:
        jobs.append(job)
        return Fate("partial") if job.purpose is Purpose.BACKUP else first_restore_fails(job)

    world.fate = fate
    in_place(world, mover={**MOVER, "allowPartial": allowed})
    until(world, (lambda w: status(w).failure is not None) if not allowed else writing)
    _safety_ids.update(volume.safety_snapshot_id or "" for volume in status(world).volumes)
    world.run(RUN)
    assert outcome(world) == ("False", expected)
    assert (status(world).first_write_time is not None) is allowed
    ways_back = [job for job in jobs if job.purpose is Purpose.RESTORE and back(job)]
    assert bool(ways_back) is allowed
    assert not any(job.delete for job in ways_back)
    assert ("files that the Restore had added stay in data, files" in message(world)) is allowed
    assert (counts(world), world.held()) == ({"db": 1, "web": 3}, [])


def test_a_way_back_that_could_not_set_an_owner_is_one_all_the_same():
    """All data is there again: workloads that would stay down for it serve nobody."""
    world = backed_up()
    world.fate = lambda job: Fate("partial") if back(job) else first_restore_fails(job)
    in_place(world)
    until(world, writing)
    _safety_ids.update(volume.safety_snapshot_id or "" for volume in status(world).volumes)
    world.run(RUN)
    assert outcome(world) == ("False", "Damaged")
    assert "rolled back" in message(world)
    assert (counts(world), world.held()) == ({"db": 1, "web": 3}, [])


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
    assert "Once that is really off, delete it: kubectl delete node n" in message(world)


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


@pytest.mark.parametrize("end", ["restored", "rolled back", "stalled"])
def test_deleted_after_the_first_write_it_says_why_it_is_still_there_and_by_one_event(end: str):
    world = backed_up()
    if end != "restored":
        world.fate = first_write_of_data(world, "failed", then="ok" if end == "rolled back" else "failed")
    in_place(world)
    until(world, writing)
    world.delete(*RUN)
    for _ in range(30):
        world.step()
        world.reconcile(*RUN)
        world.pass_time(5)
        if "back" not in world.restores:
            break
        if status(world).end_time is None:
            assert "goes by itself once its volumes are written, or rolled back after a failure" in message(world)
            assert "Do not remove its finalizer" in message(world)
    assert ("back" in world.restores) is (end == "stalled")
    assert [event.warning for event in world.events if event.reason == "Deleting"] == [False]
    if end == "stalled":
        assert outcome(world) == ("False", "RollbackFailed")
        assert message(world).endswith("kubectl scale statefulset/db -n shop --replicas=1"), "a command is last"


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


# --- a Restore that can't be read any more


def unreadable(world: Cluster) -> RestoreSpec | None:
    """An operator with another model reads it."""
    found = world.restores["back"]
    world.restores["back"] = replace(found, spec=None, invalid="spec.mover: no such mover.")
    return found.spec


@pytest.mark.parametrize("rolls_back", [False, True])
def test_one_that_can_not_be_read_after_the_first_write_ends_nothing_and_goes_on_once_it_can(rolls_back: bool):
    world = backed_up()
    world.fate = first_write_of_data(world, "failed" if rolls_back else "hang")
    in_place(world)
    until(world, lambda w: ("data", "back" if rolls_back else "") in made(w, Purpose.RESTORE))
    world.step()
    movers = [mover.job.name for mover in world.movers.values() if mover.job.writes and mover.job.claim == "data"]
    assert movers
    spec = unreadable(world)
    world.run(RUN, ("orphans", ""), rounds=20)
    assert (outcome(world), counts(world)) == (("False", "InvalidSpec"), {"db": 0, "web": 0})
    assert "half-written" in message(world)
    assert "spec.mover: no such mover. Install the version of Lowtide" in message(world)
    assert "kubectl scale statefulset/db -n shop --replicas=1" in message(world)
    assert movers[0] in {mover.job.name for uid, mover in world.movers.items() if uid in world.pods}
    world.restores["back"] = replace(world.restores["back"], spec=spec, invalid="")
    world.fate = lambda job: Fate()
    world.run(RUN)
    assert outcome(world) == (("False", "Damaged") if rolls_back else ("True", "Restored"))
    assert ("Stalled" in reasons(status(world).conditions)) is rolls_back
    assert (world.contents["data"], counts(world)) == ("lost" if rolls_back else "data of data", {"db": 1, "web": 3})


def test_one_that_can_not_be_read_ends_once_a_person_ended_its_holds():
    world = backed_up()
    world.fate = first_write_of_data(world, "hang")
    in_place(world)
    until(world, writing)
    unreadable(world)
    world.run(RUN, rounds=5)
    end_the_holds(world)
    world.run(RUN, rounds=20)
    assert outcome(world) == ("False", "InvalidSpec")
    assert status(world).end_time is not None
    assert not world.jobs


@pytest.mark.parametrize("strategy", ["None", "ScaleDown"])
def test_one_that_holds_nothing_and_can_not_be_read_ends_its_mover_only_when_it_is_deleted(strategy: str):
    world = backed_up()
    nobody_uses_them(world)
    world.fate = first_write_of_data(world, "hang")
    in_place(world, quiesce={"strategy": strategy})
    until(world, writing)
    unreadable(world)
    world.run(RUN, rounds=10)
    assert (outcome(world), status(world).end_time) == (("False", "InvalidSpec"), None)
    assert world.jobs
    world.delete(*RUN)
    world.run(RUN, rounds=20)
    assert (world.restores, world.jobs) == ({}, {})


@pytest.mark.parametrize("after", ["restored", "rolled back"])
def test_one_whose_volumes_are_whole_ends_without_being_read(after: str):
    world = backed_up()
    if after != "restored":
        world.fate = first_write_of_data(world, "failed", then="ok")
    in_place(world)
    state = StampState.RESTORED if after == "restored" else StampState.ROLLED_BACK
    until(world, lambda w: (stamp := read_stamp(w.claims["data"])) is not None and stamp.state is state)
    unreadable(world)
    world.run(RUN)
    assert outcome(world)[0] == "False"
    assert (counts(world), world.held()) == ({"db": 1, "web": 3}, [])


def test_one_that_can_not_be_read_before_the_first_write_fails():
    world = backed_up()
    in_place(world)
    until(world, lambda w: status(w).quiesce is not None)
    unreadable(world)
    world.run(RUN)
    assert outcome(world) == ("False", "InvalidSpec")
    assert (counts(world), world.contents["data"]) == ({"db": 1, "web": 3}, "lost")
