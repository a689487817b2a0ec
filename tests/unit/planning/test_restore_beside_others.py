"""A Restore beside other runs: nobody else reads or writes its volumes while they are half-written."""

from __future__ import annotations

import pytest

from lowtide_operator.planning.actions import MoverJob, Purpose
from lowtide_operator.planning.observed import Uid
from lowtide_operator.planning.ordering import first_in_the_way
from tests.property.planning_world import Cluster, Fate, reasons
from tests.unit.planning.restores import (
    RUN,
    backed_up,
    in_place,
    made,
    nobody_uses_them,
    outcome,
    status,
    until,
    writing,
)

UNSTOPPED = {"strategy": "None"}


def the_way_back_hangs(world: Cluster) -> None:
    """The restore of data fails, and the way back is never over."""
    stored = {volume.snapshot_id for volume in world.snapshots["one"].status.volumes}

    def fate(job: MoverJob) -> Fate:
        if job.purpose is not Purpose.RESTORE or job.claim != "data":
            return Fate()
        return Fate("failed", reason="Damaged") if set(job.snapshot_ids) <= stored else Fate("hang")

    world.fate = fate


def rolling_back(world: Cluster) -> bool:
    return ("data", "back") in made(world, Purpose.RESTORE)


def in_the_way(world: Cluster) -> str | None:
    """Which run a younger one that uses data waits for."""
    other = first_in_the_way(world.meta("younger"), frozenset({"data"}), frozenset[Uid](), world.world())
    return other.called if other is not None else None


def test_one_that_stopped_nothing_keeps_others_away_while_it_rolls_back():
    world = backed_up()
    nobody_uses_them(world)
    the_way_back_hangs(world)
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
