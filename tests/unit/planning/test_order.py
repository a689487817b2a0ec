"""The order of a group: stopped one after the other, each once the former is gone; started in reverse, each once the
former is ready."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lowtide_operator.planning.actions import Purpose
from lowtide_operator.planning.release import NEXT_AFTER
from lowtide_operator.planning.run import LATEST, SOONEST
from tests.property.planning_world import Cluster, Fate, reasons
from tests.unit.planning.restores import RUN as RESTORE
from tests.unit.planning.restores import backed_up, in_place
from tests.unit.planning.runs import (
    RUN,
    cluster,
    counts,
    fates,
    gone,
    jobs_made,
    message,
    outcome,
    status,
    until,
    workload,
)

FRONT_FIRST = {"workloads": [{"kind": "Deployment", "name": "front"}, {"kind": "Deployment", "name": "web"}]}


def shop(**quiesce: object) -> Cluster:
    """front (mounts nothing) stops first, then web, then db; db has to be ready before web starts, and web before
    front."""
    world = cluster(quiesce={**FRONT_FIRST, **quiesce})
    world.add_workload("Deployment", "front", replicas=2)
    return world


def history(world: Cluster, *, rounds: int = 200) -> list[dict[str, int | None]]:
    """The counts through a whole run, each as it differs from the one before."""
    seen = [counts(world)]
    for _ in range(rounds):
        world.step()
        world.reconcile(*RUN)
        if counts(world) != seen[-1]:
            seen.append(counts(world))
        world.pass_time(2)
        if status(world).end_time is not None:
            return seen
    raise AssertionError(f"not over: {reasons(status(world).conditions)}")


def test_workloads_stop_in_the_named_order_and_start_in_reverse():
    world = shop()
    assert history(world) == [
        {"db": 1, "web": 3, "front": 2},
        {"db": 1, "web": 3, "front": 0},
        {"db": 1, "web": 0, "front": 0},
        {"db": 0, "web": 0, "front": 0},
        {"db": 1, "web": 0, "front": 0},
        {"db": 1, "web": 3, "front": 0},
        {"db": 1, "web": 3, "front": 2},
    ]
    assert outcome(world) == ("True", "Complete")


def test_a_run_that_fails_starts_them_in_reverse_as_well():
    world = shop()
    fates(world, backup=Fate("failed", False, "StorageFull"))
    assert [list(seen.values()) for seen in history(world)][-3:] == [[1, 0, 0], [1, 3, 0], [1, 3, 2]]
    assert outcome(world) == ("False", "StorageFull")


def test_the_order_holds_whenever_the_operator_dies():
    """After each single action: what was done is observed, and nothing of it is in its memory."""
    world = shop()
    seen = [counts(world)]
    for _ in range(400):
        world.step()
        world.reconcile(*RUN, crash_after=1)
        world.reconcile(*RUN, crash_after=2)
        if counts(world) != seen[-1]:
            seen.append(counts(world))
        world.pass_time(1)
        if status(world).end_time is not None:
            break
    assert [list(row.values()) for row in seen] == [
        [1, 3, 2],
        [1, 3, 0],
        [1, 0, 0],
        [0, 0, 0],
        [1, 0, 0],
        [1, 3, 0],
        [1, 3, 2],
    ]
    assert outcome(world) == ("True", "Complete")


def test_a_restore_keeps_the_order_past_the_time_that_bounds_its_first_write():
    world = backed_up()
    world.fate = lambda job: Fate("hang") if job.purpose is Purpose.RESTORE else Fate()
    named = [{"kind": "Deployment", "name": "web"}]
    quiesce = {"workloads": named, "timeout": "1m", "maxDowntime": "3m"}
    in_place(world, quiesce=quiesce, mover={"deadlines": {"noProgress": "2h"}})
    for _ in range(60):
        world.step()
        world.reconcile(*RESTORE)
        world.pass_time(10)
    assert counts(world) == {"db": 0, "web": 0}
    world.fate = lambda job: Fate()
    seen = [counts(world)]
    for _ in range(60):
        world.step()
        world.reconcile(*RESTORE)
        if counts(world) != seen[-1]:
            seen.append(counts(world))
        world.pass_time(2)
    assert seen == [{"db": 0, "web": 0}, {"db": 1, "web": 0}, {"db": 1, "web": 3}]
    assert reasons(world.restores["back"].status.conditions)["Ready"] == ("True", "Restored")


def test_the_next_waits_until_the_pods_of_the_former_are_gone():
    world = shop()
    until(world, lambda w: status(w).quiesce is not None)
    pod = next(pod for pod in world.pods.values() if pod.meta.name.startswith("front-"))
    world.stuck.add(pod.meta.uid)
    for _ in range(10):
        world.step()
        world.reconcile(*RUN)
    assert counts(world) == {"db": 1, "web": 3, "front": 0}
    world.stuck.clear()
    assert history(world)[-1] == {"db": 1, "web": 3, "front": 2}


def hang_at_the_start_of_db(world: Cluster) -> None:
    """db has pods again, and they never become ready."""
    until(world, gone)
    db = workload(world, "db")
    world.wanted.pop(db.meta.uid, None)
    scale = world._scale_pods

    def without_db() -> None:
        scale()
        now = workload(world, "db")
        if now.ready:
            world.workloads[db.meta.uid] = replace(now, ready=0)

    world._scale_pods = without_db  # type: ignore[method-assign]


def test_one_that_does_not_become_ready_delays_the_others_and_keeps_them_down_no_longer():
    world = shop()
    hang_at_the_start_of_db(world)
    until(world, lambda w: counts(w)["db"] == 1)
    began = world.now
    until(world, lambda w: counts(w)["web"] == 3, seconds=30)
    assert NEXT_AFTER <= world.now - began < NEXT_AFTER + timedelta(minutes=2)
    world.run(RUN, seconds=30)
    assert (outcome(world), counts(world)) == (("True", "Complete"), {"db": 1, "web": 3, "front": 2})
    assert reasons(status(world).conditions)["Released"] == ("True", "NotReadyAgain")


def settling(world: Cluster) -> bool:
    """Everything is put back, and db is not ready yet."""
    ledger = status(world).quiesce
    return ledger is not None and ledger.released_time is not None and ledger.ready_time is None


def test_the_verdict_does_not_wait_until_workloads_are_ready_and_the_end_does():
    world = shop()
    hang_at_the_start_of_db(world)
    until(world, lambda w: status(w).verdict_snapshot_id, seconds=20)
    assert settling(world)
    assert (outcome(world)[0], status(world).end_time) == ("Unknown", None)
    world.run(RUN, seconds=30)
    assert outcome(world) == ("True", "Complete")
    assert jobs_made(world, "verdict") == 1


@pytest.mark.parametrize(
    "policy",
    [
        {"capture": {"method": "Snapshot"}},
        {"hooks": {"after": [{"podSelector": {"matchLabels": {"app": "db"}}, "command": ["true"]}]}},
    ],
    ids=["copies are read", "a hook may still fail the run"],
)
def test_where_something_else_waits_for_workloads_so_does_the_verdict(policy: dict[str, Any]):
    world = cluster(**policy)
    hang_at_the_start_of_db(world)
    until(world, settling, seconds=20)
    for _ in range(10):
        world.step()
        world.reconcile(*RUN)
    assert settling(world)
    assert jobs_made(world, "verdict") == 0
    assert world.hooked == []
    assert not policy.get("capture") or jobs_made(world, "backup") == 0
    world.run(RUN, seconds=30)
    assert outcome(world) == ("True", "Complete")


def test_what_nothing_reports_is_asked_for_soon_at_first_and_seldom_later():
    world = cluster()
    hang_at_the_start_of_db(world)
    until(world, settling, seconds=1)
    waits: list[float | None] = []
    for _ in range(30):
        world.step()
        waits.append(world.reconcile(*RUN).requeue_after)
        world.pass_time(2)
        if not settling(world):
            break
    found = [wait for wait in waits if wait is not None]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (SOONEST, LATEST)


def test_past_max_downtime_everything_starts_at_once():
    world = shop(timeout="1m", maxDowntime="3m")
    fates(world, backup=Fate("hang"))
    hang_at_the_start_of_db(world)
    world.pass_time(200)
    until(world, lambda w: counts(w)["db"] == 1)
    assert counts(world) == {"db": 1, "web": 3, "front": 2}


def test_one_volume_that_fails_makes_the_group_not_ready_and_is_named():
    world = shop()
    world.fate = lambda job: Fate("failed", False, "StorageFull") if job.claim == "files" else Fate()
    world.run(RUN)
    assert outcome(world) == ("False", "StorageFull")
    assert "Volume files was not backed up" in message(world)
    assert status(world).verdict_snapshot_id is None
    assert counts(world) == {"db": 1, "web": 3, "front": 2}
