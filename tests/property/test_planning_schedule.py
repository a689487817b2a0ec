"""Random nights of a policy: the operator sleeps, dies between actions, people suspend, resume and edit. No slot runs
twice, none too late, none that passed before the policy was there or while it rested."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lowtide_operator.api.snapshot import SnapshotStatus
from lowtide_operator.planning.resolve import slot_of
from lowtide_operator.planning.schedule import parse_schedule
from tests.property.planning_world import Cluster

EVENT = st.one_of(
    st.tuples(st.just("look"), st.sampled_from([None, None, None, 0, 1, 2])),
    st.tuples(st.just("sleep"), st.sampled_from([1, 20, 300, 1200, 3000, 4000, 30000])),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("edit"), st.sampled_from(["*/30 * * * *", "0 * * * *", "H H * * *", "15 2 * * *"])),
    st.tuples(st.just("finish"), st.booleans()),
    st.tuples(st.just("delete"), st.none()),
)


def edit(world: Cluster, **changes: Any) -> None:
    policy = world.policies["db"]
    assert policy.spec is not None
    spec = policy.spec.model_copy(update=changes)
    world.policies["db"] = replace(policy, spec=spec, meta=world.touched(policy.meta, spec=True))


def finish(world: Cluster, *, good: bool) -> None:
    for name, snapshot in list(world.snapshots.items()):
        if snapshot.status.end_time is None:
            body = {"endTime": world.now, "capturedTime": world.now}
            ready = {
                "type": "Ready",
                "status": str(good),
                "reason": "X",
                "message": "x",
                "lastTransitionTime": world.now,
            }
            status = SnapshotStatus.model_validate({**body, "conditions": [ready]})
            world.snapshots[name] = replace(snapshot, status=status, fresh=False)


@settings(max_examples=150, deadline=None)
@example([("look", None), ("sleep", 4000), ("look", None), ("finish", False), ("delete", None)])
@given(st.lists(EVENT, max_size=40))
def test_a_slot_runs_at_most_once_in_time_and_only_where_it_was_wanted(events: list[tuple[str, Any]]):
    world = Cluster()
    world.add_claim("data")
    world.add_policy("db", schedule="0 * * * *", startingDeadline="50m")
    world.pass_time(17)
    schedule, created = "0 * * * *", world.now
    resting_until = created
    ran: dict[str, Any] = {}
    for event, value in [*events, ("look", None)]:
        match event:
            case "sleep":
                world.pass_time(value)
            case "suspend":
                edit(world, suspend=value)
                world.reconcile("policy", "db")
                resting_until = world.now
            case "edit":
                edit(world, schedule=value)
                schedule = value
            case "finish":
                if any(snapshot.status.end_time is None for snapshot in world.snapshots.values()):
                    # The policy looks again two seconds after it made a Snapshot, and no run is as short as that.
                    world.reconcile("policy", "db")
                finish(world, good=value)
            case "delete":
                world.snapshots = {n: s for n, s in world.snapshots.items() if s.status.end_time is None}
            case "look":
                before = set(world.snapshots)
                plan = world.plan("policy", world.observe("policy", "db"))
                world.reconcile("policy", "db", crash_after=value)
                for name in set(world.snapshots) - before:
                    slot = slot_of(world.snapshots[name].meta)
                    assert slot is not None
                    assert name not in ran, "a slot ran twice"
                    assert slot <= world.now <= slot + timedelta(minutes=50)
                    assert slot > resting_until
                    parsed = parse_schedule(schedule, "UTC", "shop", "db")
                    assert parsed.latest(slot) == slot
                    assert len([s for s in world.snapshots.values() if s.status.end_time is None]) == 1
                    ran[name] = slot
                assert plan.requeue_after is None or plan.requeue_after > 0
    assert len(ran.values()) == len(set(ran.values()))
