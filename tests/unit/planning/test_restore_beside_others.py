"""A Restore beside other runs and applications: who else reads or writes its volumes while they are half-written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lowtide_operator.planning.actions import Purpose
from lowtide_operator.planning.observed import Uid
from lowtide_operator.planning.ordering import first_in_the_way
from lowtide_operator.planning.stamp import StampState, read_stamp
from tests.property.planning_world import Cluster, Fate, reasons
from tests.unit.planning.restores import (
    RUN,
    backed_up,
    counts,
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

UNSTOPPED = {"strategy": "None"}


def rolling_back(world: Cluster) -> bool:
    return ("data", "back") in made(world, Purpose.RESTORE)


def in_the_way(world: Cluster) -> str | None:
    """Which run a younger one that uses data waits for."""
    other = first_in_the_way(world.meta("younger"), frozenset({"data"}), frozenset[Uid](), world.world())
    return other.called if other is not None else None


def test_one_that_stopped_nothing_keeps_others_away_while_it_rolls_back():
    world = backed_up()
    nobody_uses_them(world)
    world.fate = first_write_of_data(world, "failed")
    in_place(world, quiesce=UNSTOPPED)
    until(world, rolling_back)
    assert in_the_way(world) == "Restore back"
    world.add_snapshot("nightly")
    in_place(world, name="again", quiesce=UNSTOPPED)
    others = (("restore", "again"), ("snapshot", "nightly"))
    for _ in range(20):
        world.step()
        for key in (*others, RUN):
            world.reconcile(*key)
        world.pass_time(2)
    assert world.restores["again"].status.first_write_time is None
    assert world.snapshots["nightly"].status.captured_time is None
    world.fate = lambda job: Fate()
    world.run(RUN, *others, rounds=100)
    assert outcome(world) == ("False", "Damaged")
    assert in_the_way(world) is None
    assert reasons(world.restores["again"].status.conditions)["Ready"] == ("True", "Restored")


@pytest.mark.parametrize("new", [False, True], ids=["in place", "into a new claim"])
def test_one_that_stopped_nothing_keeps_others_away_once_it_is_deleted(new: bool):
    world = backed_up()
    nobody_uses_them(world)
    world.fate = lambda job: Fate("hang") if job.purpose is Purpose.RESTORE else Fate()
    target = {"newClaim": {"name": "copy"}} if new else {}
    in_place(world, quiesce=UNSTOPPED, volumes=[{"claim": "data", **target}])
    until(world, writing)
    world.delete(*RUN)
    other = first_in_the_way(
        world.meta("younger"), frozenset({"copy" if new else "data"}), frozenset[Uid](), world.world()
    )
    assert other is not None
    assert other.busy
    assert status(world).end_time is None


# --- applications that run while it writes


def intruded(world: Cluster, by: str) -> None:
    world.trespassed = True
    if by == "pod":
        world.add_pod("shell", "data")
    else:
        world.scale(next(found for found in world.workloads.values() if found.meta.name == "db"), 1)


@pytest.mark.parametrize("by", ["pod", "person"])
def test_one_whose_volumes_were_used_while_they_were_written_says_so_and_is_not_ready(by: str):
    world = backed_up()
    in_place(world)
    until(world, writing)
    intruded(world, by)
    world.step()
    world.reconcile(*RUN)
    assert outcome(world) == ("Unknown", "Inconsistent")
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert ("pod shell used data" if by == "pod" else "StatefulSet db was started by") in message(world)
    saved = next(volume.safety_snapshot_id for volume in status(world).volumes if volume.claim == "data")
    assert saved is not None
    assert f"data in {saved[:8]}" in message(world)
    assert ("data", "back") not in made(world, Purpose.RESTORE), "what somebody wrote is not written over"
    assert (counts(world), world.held()) == ({"db": 1, "web": 3}, [])
    stamp = read_stamp(world.claims["data"])
    assert stamp is not None
    assert stamp.state is StampState.INCONSISTENT


@pytest.mark.parametrize("new", [False, True], ids=["in place", "into a new claim"])
def test_one_that_stopped_nothing_sees_a_pod_that_comes_while_it_writes(new: bool):
    world = backed_up()
    nobody_uses_them(world)
    target = {"newClaim": {"name": "copy"}} if new else {}
    in_place(world, quiesce=UNSTOPPED, volumes=[{"claim": "data", **target}])
    until(world, writing)
    world.trespassed = True
    world.add_pod("shell", "copy" if new else "data")
    world.run(RUN)
    assert outcome(world) == ("False", "Inconsistent")
    assert f"pod shell used {'copy' if new else 'data'}" in message(world)


def test_nothing_more_is_written_beneath_an_application_nor_once_it_is_away_for_a_moment():
    world = backed_up()
    world.fate = first_write_of_data(world, "failed")
    in_place(world, mover={"retry": {"limit": 5, "backoff": "5s"}})
    until(world, writing)
    intruded(world, "pod")
    (shell,) = [pod for pod in world.pods.values() if pod.meta.name == "shell"]
    world.run(RUN, rounds=20)
    world._remove_pod(shell)
    world.run(RUN, rounds=40)
    assert made(world, Purpose.RESTORE).count(("data", "")) == 1
    assert not rolling_back(world)
    assert outcome(world) == ("False", "RollbackFailed")
    assert "pod shell used data, and nothing is written over that. The safety snapshots have" in message(world)
    assert "kubectl scale statefulset/db -n shop --replicas=1" in message(world)
    assert counts(world) == {"db": 0, "web": 0}


def test_one_volume_after_the_other_none_begins_after_an_application_was_seen():
    world = backed_up(repository={"secretName": "repo", "claimName": "repository"})
    world.add_claim("repository")
    in_place(world)
    until(world, writing)
    intruded(world, "person")
    world.run(RUN, rounds=40)
    assert made(world, Purpose.RESTORE) == [("data", "")]
    assert (outcome(world), counts(world)["web"]) == (("False", "RollbackFailed"), 0)


def test_the_way_back_beside_an_application_is_told_as_such():
    world = backed_up()
    world.fate = first_write_of_data(world, "failed")
    in_place(world)
    until(world, rolling_back)
    world.step()
    intruded(world, "pod")
    world.reconcile(*RUN)
    world.fate = lambda job: Fate()
    world.run(RUN)
    assert outcome(world) == ("False", "Damaged")
    assert "rolled back to what they held before. They may hold something else: look at the data." in message(world)
    assert "pod shell used data" in message(world)


def test_an_edit_of_a_workload_that_stays_down_spoils_nothing():
    world = backed_up()
    in_place(world)
    until(world, writing)
    db = next(found for found in world.workloads.values() if found.meta.name == "db")
    world.workloads[db.meta.uid] = replace(db, meta=world.touched(db.meta, spec=True))
    world.run(RUN)
    assert outcome(world) == ("True", "Restored")
