"""The operator is killed after every single action of a run, and sees every state of one run in every world of it: it
goes on right, and never does harm."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lowtide_operator.api.conditions import is_true
from lowtide_operator.planning.actions import PatchWorkload
from lowtide_operator.planning.naming import HELD_LABEL, RELEASED_ANNOTATION
from tests.property.planning_world import Cluster, Conflict, Fate


def group(**policy: Any) -> Cluster:
    world = Cluster()
    world.add_claim("data", attach=True)
    world.add_claim("files")
    world.add_workload("StatefulSet", "db", "data")
    world.add_workload("Deployment", "web", "files", replicas=3)
    world.add_workload("CronJob", "nightly", "data")
    world.add_policy(**{"mover": {"retry": {"limit": 1, "backoff": "5s"}, "deadlines": {"start": "1m"}}, **policy})
    world.step()
    return world


def snapshot() -> tuple[Cluster, tuple[str, str]]:
    world = group()
    world.add_snapshot()
    return world, ("snapshot", "one")


def failing_snapshot() -> tuple[Cluster, tuple[str, str]]:
    world = group()
    world.add_snapshot()
    world.fate = lambda job: Fate("oom", False) if job.purpose == "backup" and job.claim == "data" else Fate()
    return world, ("snapshot", "one")


def lost_result() -> tuple[Cluster, tuple[str, str]]:
    world = group()
    world.add_snapshot()
    world.fate = lambda job: Fate("vanish") if job.purpose == "backup" else Fate()
    return world, ("snapshot", "one")


def streams() -> tuple[Cluster, tuple[str, str]]:
    """Streams whose results are lost, of a container and of a running pod, before one volume."""
    command = {"command": ["pg_dump", "shop"]}
    container, pod = {"image": "postgres:16", **command}, {"podSelector": {"matchLabels": {"app": "db"}}, **command}
    two = [{"name": "roles.sql", "container": container}, {"name": "shop.sql", "exec": pod}]
    world = group(streams=two, volumes={"claims": ["files"]})
    world.add_snapshot()
    world.fate = lambda job: Fate("vanish") if job.stream is not None else Fate()
    return world, ("snapshot", "one")


def hooked_snapshot() -> tuple[Cluster, tuple[str, str]]:
    world = group(hooks={"before": [HOOK], "after": [HOOK]})
    world.add_snapshot()
    return world, ("snapshot", "one")


def failing_hooked_snapshot() -> tuple[Cluster, tuple[str, str]]:
    world, key = hooked_snapshot()
    world.fate = lambda job: Fate("oom", False) if job.purpose == "backup" else Fate()
    return world, key


def deleted_snapshot() -> tuple[Cluster, tuple[str, str]]:
    world = group()
    world.add_snapshot(deletionPolicy="Delete")
    world.run(("snapshot", "one"))
    world.delete("snapshot", "one")
    return world, ("snapshot", "one")


def restore() -> tuple[Cluster, tuple[str, str]]:
    world = group()
    world.add_snapshot()
    world.run(("snapshot", "one"))
    world.contents["data"] = "lost"
    world.add_restore(volumes=[{"claim": "data"}, {"claim": "files", "newClaim": {"name": "copy"}}])
    return world, ("restore", "back")


def rolled_back() -> tuple[Cluster, tuple[str, str]]:
    world, key = restore()
    good = {volume.snapshot_id for volume in world.snapshots["one"].status.volumes}
    wrong = Fate("failed", reason="BadInput")
    world.fate = lambda job: wrong if job.purpose == "restore" and set(job.snapshot_ids) & good else Fate()
    return world, key


HOOK = {"podSelector": {"matchLabels": {"app": "db"}}, "command": ["sync"]}

Story = Callable[[], tuple[Cluster, tuple[str, str]]]
STORIES = [snapshot, failing_snapshot, lost_result, streams, deleted_snapshot, restore, rolled_back]


def go_on(
    world: Cluster, key: tuple[str, str], *, crash_at: int | None = None, rounds: int = 60, for_good: bool = False
) -> int:
    """Let everything happen. The operator dies once, after `crash_at` actions in all, or `for_good`; the number of
    actions is returned."""
    done = 0
    for _ in range(rounds):
        world.step()
        observed = world.observe(*key)
        if observed is None:
            break
        for action in world.plan(key[0], observed).actions:
            if done == crash_at:
                if for_good:
                    return done
                crash_at = None
                break
            try:
                world.apply(action)
            except Conflict:
                break
            done += 1
        world.pass_time(3)
    return done


def end(world: Cluster, key: tuple[str, str]) -> dict[str, Any]:
    """What is left of a story, as far as it must be the same for all its crashes."""
    found = {"snapshot": world.snapshots, "restore": world.restores}[key[0]].get(key[1])
    return {
        "counts": {w.meta.name: (w.replicas, w.suspended) for w in world.workloads.values()},
        "held": world.held(),
        "marks": [w.meta.name for w in world.workloads.values() if RELEASED_ANNOTATION in w.meta.annotations],
        "jobs": len(world.jobs),
        "contents": world.contents,
        "there": found is not None,
        "ready": found is not None and is_true(found.status.conditions, "Ready"),
        "reason": found.status.failure.reason if found is not None and found.status.failure is not None else None,
        "stored": len(world.repository),
        "hooked": [name for name, _ in world.hooked],
    }


@pytest.mark.parametrize("story", [*STORIES, hooked_snapshot])
def test_whichever_action_is_the_last_before_the_operator_dies_the_end_is_the_same(story: Story):
    world, key = story()
    actions = go_on(world, key)
    expected = end(world, key)
    assert expected["held"] == []
    assert expected["jobs"] == 0
    for crash_at in range(actions):
        world, key = story()
        go_on(world, key, crash_at=crash_at)
        assert end(world, key) == expected, f"killed after {crash_at} actions"


@pytest.mark.parametrize("story", [*STORIES, hooked_snapshot, failing_hooked_snapshot])
def test_an_operator_that_always_dies_after_its_first_effect_gets_there_too(story: Story):
    world, key = story()
    go_on(world, key)
    expected = end(world, key)
    world, key = story()
    for _ in range(200):
        world.step()
        world.reconcile(*key, crash_after=2)
        world.pass_time(1)
    found = end(world, key)
    found["stored"] = expected["stored"]
    assert found == expected


@pytest.mark.parametrize("story", [snapshot, failing_snapshot, restore, rolled_back])
def test_every_status_of_a_run_in_every_world_of_it_has_a_plan_that_does_no_harm(story: Story):
    world, (kind, name) = story()
    seen: list[Any] = []
    for _ in range(40):
        world.step()
        observed = world.observe(kind, name)
        if not seen or seen[-1] != observed:
            seen.append(observed)
        world.reconcile(kind, name)
        world.pass_time(3)
    for status_of, world_of in itertools.product(seen, seen):
        mixed = replace(status_of, world=world_of.world)
        plan = world.plan(kind, mixed)
        run = getattr(mixed, kind)
        released = run.status.quiesce is not None and run.status.quiesce.released_time is not None
        for action in plan.actions:
            if not isinstance(action, PatchWorkload) or HELD_LABEL not in action.labels:
                continue
            if action.labels[HELD_LABEL] is not None:
                target = next(w for w in world_of.world.workloads if w.meta.uid == action.ref.uid)
                assert not released
                assert RELEASED_ANNOTATION not in target.meta.annotations
                assert run.status.failure is None
                entry = next(e for e in run.status.quiesce.workloads if e.uid == action.ref.uid)
                assert (target.replicas, entry.replicas) in {(entry.replicas, entry.replicas), (None, None)}


@pytest.mark.parametrize("story", [story for story in STORIES if story is not streams])
def test_whichever_action_is_the_operators_last_for_good_the_release_pod_puts_everything_back(story: Story):
    world, key = story()
    actions = go_on(world, key)
    began = {workload.meta.name: (workload.replicas, workload.suspended) for workload in story()[0].workloads.values()}
    released = left = 0
    for crash_at in range(actions):
        world, key = story()
        go_on(world, key, crash_at=crash_at, for_good=True)
        held = world.held()
        wrote = [back for back in world.restores.values() if back.status.first_write_time is not None]
        for _ in range(90):
            world.step()
            for uid in world.watches:
                world.reconcile("armed", uid)
            world.pass_time(30)
        found = {workload.meta.name: (workload.replicas, workload.suspended) for workload in world.workloads.values()}
        if wrote and held:
            assert world.held() == held, "no release starts anything on a half-restored volume"
            left += 1
            continue
        assert world.held() == [], f"killed after {crash_at} actions"
        assert found == began, f"killed after {crash_at} actions"
        released += bool(held)
        go_on(world, key)
        after = end(world, key)
        assert (after["held"], after["marks"], after["counts"]) == ([], [], began), "it comes back after all"
    if story is not deleted_snapshot:
        assert released > 3, "there were windows in which it died"
    assert bool(left) is (story in (restore, rolled_back))


def test_a_release_pod_that_is_killed_after_every_action_and_one_beside_an_operator_get_there_too():
    for crash_after, beside in itertools.product((1, 2), (False, True)):
        world, key = snapshot()
        while len(world.held()) < 3:
            world.step()
            world.reconcile(*key)
            world.pass_time(1)
        (uid,) = world.watches
        world.pass_time(1800)
        for _ in range(60):
            world.step()
            stale = world.plan("armed", world.observe("armed", uid))
            if beside:
                world.reconcile(*key, crash_after=2)
            for action in stale.actions[:crash_after]:
                with contextlib.suppress(Conflict):
                    world.apply(action)
            world.pass_time(1)
        assert world.held() == []
        assert {w.meta.name: (w.replicas, w.suspended) for w in world.workloads.values()} == {
            "db": (1, False),
            "web": (3, False),
            "nightly": (None, False),
        }
