"""What becomes of a look at an object that fails, and what apply does with each action."""

from __future__ import annotations

from datetime import datetime

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import ClusterError, Conflict, Forbidden, ServerError, Unreachable
from lowtide_operator.cluster.memory import Call, MemoryCluster
from lowtide_operator.planning.actions import (
    Announce,
    CheckUnchanged,
    DeletePod,
    PatchWorkload,
    Plan,
    Ref,
    SetFinalizers,
    WriteStatus,
)
from lowtide_operator.planning.observed import Uid
from lowtide_operator.reconcile.apply import Applier, difference
from lowtide_operator.reconcile.keys import Key, Subject
from tests.unit.reconcile.memory_world import SHOP, Shop


def conditions(shop: Shop, key: Key) -> dict[str, str]:
    found = {entry["type"]: entry for entry in shop.status(key).get("conditions") or ()}
    return found.get("Ready", {})


def failing(shop: Shop, error: Exception) -> None:
    """Every write of a Job fails."""
    shop.cluster.fault = lambda call: error if call.mutates and call.kind == kinds.JOB else None


async def drive_some(shop: Shop, key: Key, times: int = 8) -> list[float | None]:
    return [await shop.driver.reconcile(key) for _ in range(times)]


async def test_what_a_quota_refuses_is_said_on_the_object_and_in_an_event_and_tried_again_later() -> None:
    shop = Shop()
    key = shop.snapshot()
    failing(shop, Forbidden('creating Job: exceeded quota "small"'))
    waits = await drive_some(shop, key)
    ready = conditions(shop, key)
    assert (ready["status"], ready["reason"]) == ("Unknown", "Forbidden")
    assert 'exceeded quota "small"' in ready["message"]
    events = shop.cluster.all(kinds.EVENT)
    assert any(event["reason"] == "Forbidden" and event["type"] == "Warning" for event in events)
    assert waits[-1] is not None
    assert waits[-1] >= 5
    assert shop.driver.held_off(key, 1)
    assert not shop.driver.held_off(key, 2)
    shop.assert_back()
    shop.cluster.fault = lambda call: None
    await shop.drive(key)
    assert not shop.driver.held_off(key, 1)
    assert shop.ready(key) == ("True", "Complete")


@pytest.mark.parametrize("error", [Forbidden, ServerError])
async def test_a_job_that_is_refused_again_and_again_is_said_all_the_time_and_once(error: type[ClusterError]) -> None:
    shop = Shop()
    key = shop.snapshot()
    said: list[str] = []

    def refuse(call: Call) -> BaseException | None:
        if call.verb != "create" or call.kind != kinds.JOB:
            return None
        said.append(shop.ready(key)[1])
        return error(f"creating Job {call.namespace}/{call.name}: refused")

    shop.cluster.fault = refuse
    await drive_some(shop, key, 12)
    assert said[-3:] == [error.reason] * 3
    (event,) = [found for found in shop.cluster.all(kinds.EVENT) if found["reason"] == error.reason]
    assert event["count"] == 1
    shop.cluster.fault = lambda call: None
    await shop.drive(key)
    assert shop.ready(key) == ("True", "Complete")


async def test_a_namespace_that_is_annotated_is_seen_by_a_policy_that_waits_for_it() -> None:
    shop = Shop()
    shop.policy(mover={"privilege": "Elevated"})
    key = Key(Subject.POLICY, SHOP, "nightly")
    waits = await drive_some(shop, key)
    assert shop.ready(key) == ("False", "PrivilegeNotAllowed")
    assert waits[-1] is not None
    assert waits[-1] <= 300
    annotations = {"lowtide.dev/privileged-movers": "true"}
    shop.cluster.put(kinds.NAMESPACE, {"metadata": {"name": SHOP, "annotations": annotations}})
    await drive_some(shop, key)
    assert shop.ready(key) == ("True", "Manual")


async def test_no_answer_is_tried_again_later_each_time_and_says_nothing_about_the_object() -> None:
    shop = Shop()
    key = shop.snapshot()
    await shop.driver.reconcile(key)
    before = shop.status(key)
    shop.cluster.fault = lambda call: Unreachable("no answer")
    waits = await drive_some(shop, key, 6)
    assert shop.status(key) == before
    assert all(wait is not None for wait in waits)
    assert waits[:4] == sorted(waits[:4], key=lambda wait: wait or 0)
    assert max(wait or 0 for wait in waits) <= 20


async def test_a_webhook_that_stays_away_is_said_on_the_object_and_the_call_is_tried_again_soon() -> None:
    shop = Shop()
    key = shop.snapshot()
    failing(shop, ServerError('creating Job: failed calling webhook "policies.example"'))
    waits = await drive_some(shop, key, 4)
    assert conditions(shop, key)["reason"] != "ServerError", "it may pass"
    waits = await drive_some(shop, key, 4)
    ready = conditions(shop, key)
    assert (ready["status"], ready["reason"]) == ("Unknown", "ServerError")
    assert 'failed calling webhook "policies.example"' in ready["message"]
    assert [event["reason"] for event in shop.cluster.all(kinds.EVENT)].count("ServerError") == 1
    assert max(wait or 0 for wait in waits) <= 20
    shop.cluster.fault = lambda call: None
    await shop.drive(key)
    assert shop.ready(key) == ("True", "Complete")


async def test_a_conflict_is_tried_again_in_a_moment() -> None:
    shop = Shop()
    key = shop.snapshot()
    shop.cluster.fault = lambda call: Conflict("changed") if call.verb == "patch" else None
    wait = await shop.driver.reconcile(key)
    assert wait is not None
    assert wait < 1


async def test_a_mistake_in_the_operator_is_logged_with_its_stack_and_said(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    key = shop.snapshot()

    def broken(observed: object, now: datetime) -> Plan:
        raise ZeroDivisionError("of the planner")

    shop.driver._plan = broken
    wait = await shop.driver.reconcile(key)
    assert wait is not None
    ready = conditions(shop, key)
    assert (ready["status"], ready["reason"]) == ("Unknown", "InternalError")
    assert "of the planner" not in ready["message"], "what an exception says is for the log"
    assert "ZeroDivisionError: of the planner" in caplog.text


async def test_a_mistake_never_touches_what_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop()
    key = shop.snapshot()
    await shop.drive(key)
    before = shop.status(key)

    def broken(observed: object, now: datetime) -> Plan:
        raise ZeroDivisionError

    shop.driver._plan = broken
    await shop.driver.reconcile(key)
    assert shop.status(key) == before


async def test_a_status_that_cannot_be_read_stops_the_run_and_says_so() -> None:
    shop = Shop()
    key = shop.snapshot()
    body = shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first")
    assert body is not None
    shop.cluster.put(kinds.SNAPSHOT, {**body, "status": {"attempt": "many"}})
    await shop.driver.reconcile(key)
    assert conditions(shop, key)["reason"] == "InvalidSpec"
    shop.assert_back()


async def test_a_job_of_that_name_that_is_not_ours_is_never_taken_for_ours() -> None:
    shop = Shop()
    key = shop.snapshot()

    def in_the_way(call: Call) -> None:
        if call.verb == "create" and call.kind == kinds.JOB:
            shop.cluster.put(kinds.JOB, {"metadata": {"name": call.name, "namespace": SHOP}})

    shop.cluster.fault = in_the_way
    await drive_some(shop, key)
    assert conditions(shop, key)["reason"] == "NameTaken"
    assert "kubectl -n shop delete job" in conditions(shop, key)["message"]


async def test_what_is_settled_is_not_looked_at_again_in_the_same_version() -> None:
    shop = Shop()
    key = shop.snapshot()
    await shop.drive(key)
    body = shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first")
    assert body is not None
    assert shop.driver.settled(key, body["metadata"]["resourceVersion"])
    assert not shop.driver.settled(key, "another")


async def test_metrics_and_an_event_show_what_ended() -> None:
    shop = Shop()
    key = shop.snapshot()
    await shop.drive(key)
    await shop.drive(Key(Subject.POLICY, SHOP, "nightly"))
    value = shop.metrics.registry.get_sample_value
    labels = {"kind": "Snapshot", "namespace": SHOP, "outcome": "good", "reason": "Complete"}
    assert value("lowtide_runs_total", labels) == 1
    (event,) = [found for found in shop.cluster.all(kinds.EVENT) if found["reason"] == "Complete"]
    assert (event["type"], event["involvedObject"]["name"], event["count"]) == ("Normal", "first", 1)
    of_policy = {"namespace": SHOP, "policy": "nightly"}
    assert value("lowtide_policy_ready", of_policy) == 1
    assert (value("lowtide_policy_last_success_timestamp_seconds", of_policy) or 0) > 1_700_000_000
    assert value("lowtide_downtime_seconds_count", {"kind": "Snapshot", "method": "Direct"}) == 1
    assert value("lowtide_upload_seconds_count", {"kind": "Snapshot", "method": "Direct"}) == 1
    shop.cluster.remove(kinds.BACKUP_POLICY, SHOP, "nightly")
    await shop.driver.reconcile(Key(Subject.POLICY, SHOP, "nightly"))
    assert value("lowtide_policy_ready", of_policy) is None


class TestApply:
    async def applied(self, shop: Shop, *actions: object) -> int:
        applier = Applier(shop.cluster, lambda job: {}, lambda job: {})
        body = shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first")
        return await applier.apply(tuple(actions), body, shop.cluster.now())  # type: ignore[arg-type]

    def refs(self, shop: Shop) -> tuple[Ref, str]:
        shop.snapshot()
        body = shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first")
        assert body is not None
        metadata = body["metadata"]
        ref = Ref("lowtide.dev/v1alpha1", "Snapshot", SHOP, "first", Uid(metadata["uid"]))
        return ref, metadata["resourceVersion"]

    async def test_a_status_is_replaced_as_a_whole_and_written_only_where_it_differs(self) -> None:
        shop = Shop()
        ref, version = self.refs(shop)
        first = {"attempt": 1, "quiesce": {"attempt": 1, "deadline": "d"}}
        assert await self.applied(shop, WriteStatus(ref, version, first)) == 1
        body = shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first") or {}
        version = body["metadata"]["resourceVersion"]
        assert await self.applied(shop, WriteStatus(ref, version, first)) == 0
        assert await self.applied(shop, WriteStatus(ref, version, {"attempt": 2, "quiesce": {"attempt": 1}})) == 1
        body = shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first") or {}
        assert body["status"] == {"attempt": 2, "quiesce": {"attempt": 1}}

    async def test_later_actions_of_a_plan_go_by_the_version_that_its_own_writes_made(self) -> None:
        shop = Shop()
        ref, version = self.refs(shop)
        await self.applied(shop, WriteStatus(ref, version, {"attempt": 1}), SetFinalizers(ref, version, ("f",)))
        body = shop.cluster.peek(kinds.SNAPSHOT, SHOP, "first") or {}
        assert body["metadata"]["finalizers"] == ["f"]
        with pytest.raises(Conflict):
            await self.applied(shop, SetFinalizers(ref, version, ()))

    async def test_a_stale_observation_stops_the_plan_before_its_first_effect(self) -> None:
        shop = Shop()
        ref, version = self.refs(shop)
        await self.applied(shop, WriteStatus(ref, version, {"attempt": 1}))
        pod = shop.cluster.all(kinds.POD)[0]["metadata"]
        delete = DeletePod(Ref("v1", "Pod", SHOP, pod["name"], pod["uid"]))
        with pytest.raises(Conflict):
            await self.applied(shop, CheckUnchanged(ref, version), delete)
        assert shop.cluster.peek(kinds.POD, SHOP, pod["name"]) is not None

    async def test_a_pod_that_has_the_name_of_one_that_is_gone_is_not_deleted(self) -> None:
        shop = Shop()
        pod = shop.cluster.all(kinds.POD)[0]["metadata"]
        assert await self.applied(shop, DeletePod(Ref("v1", "Pod", SHOP, pod["name"], Uid("former")))) == 0
        assert shop.cluster.peek(kinds.POD, SHOP, pod["name"]) is not None

    async def test_a_workload_that_is_gone_is_released_and_can_not_be_held(self) -> None:
        shop = Shop()
        ref = Ref("apps/v1", "Deployment", SHOP, "never", Uid("x"))
        assert await self.applied(shop, PatchWorkload(ref, "1", replicas=2, release=True)) == 0
        with pytest.raises(Conflict):
            await self.applied(shop, PatchWorkload(ref, "1", replicas=0))

    async def test_the_same_event_is_counted_up_and_a_refused_one_fails_nothing(self) -> None:
        shop = Shop()
        ref, _ = self.refs(shop)
        announce = Announce(ref, True, "Why", "because")
        await self.applied(shop, announce, announce)
        (event,) = shop.cluster.all(kinds.EVENT)
        assert event["count"] == 2
        shop.cluster.fault = lambda call: Forbidden("no events")
        assert await self.applied(shop, announce) == 1

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({}, {"a": 1}),
            ({"a": 1, "b": {"c": 1, "d": [1]}}, {"b": {"d": [2]}}),
            ({"a": {"b": 1}}, {"a": {}}),
            ({"a": {"b": 1}}, {"a": 3}),
            ({"a": 3}, {"a": {"b": 1}}),
            ({"a": {"b": {"c": 1}}}, {}),
        ],
    )
    async def test_the_difference_makes_the_one_of_the_other(
        self, before: dict[str, object], after: dict[str, object]
    ) -> None:
        cluster = MemoryCluster()
        cluster.put(kinds.LEASE, {"metadata": {"name": "x", "namespace": "y"}, "spec": before})
        patched = await cluster.merge_patch(kinds.LEASE, "y", "x", {"spec": difference(before, after)})
        assert patched["spec"] == after
