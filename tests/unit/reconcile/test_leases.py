"""A namespace is one installation's; a heartbeat tells a dead watch from an API server that is away."""

from __future__ import annotations

import asyncio

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.errors import ClusterError, Forbidden, NotFound, Unreachable
from lowtide_operator.cluster.memory import Call, MemoryCluster
from lowtide_operator.reconcile.heartbeat import BEAT_ANNOTATION, Heartbeat
from lowtide_operator.reconcile.leases import NAME, NamespaceLeases


def leases(cluster: MemoryCluster, installation: str) -> NamespaceLeases:
    return NamespaceLeases(cluster, installation, 300, lambda: cluster.time.timestamp())


async def test_the_first_takes_it_and_the_second_waits_until_it_is_not_renewed_any_more() -> None:
    cluster = MemoryCluster()
    first, second = leases(cluster, "a/lowtide"), leases(cluster, "b/lowtide")
    assert await first.holds("shop")
    assert not await second.holds("shop")
    cluster.advance(200)
    assert await first.holds("shop")
    cluster.advance(200)
    assert not await second.holds("shop")
    cluster.advance(101)
    assert await second.holds("shop")
    assert not await first.holds("shop")


async def test_a_restarted_operator_goes_on_at_once_without_a_write() -> None:
    cluster = MemoryCluster()
    assert await leases(cluster, "a/lowtide").holds("shop")
    writes = len([call for call in cluster.calls if call.mutates])
    assert await leases(cluster, "a/lowtide").holds("shop")
    assert len([call for call in cluster.calls if call.mutates]) == writes


async def test_one_that_slept_past_its_time_asks_before_it_acts() -> None:
    cluster = MemoryCluster()
    first = leases(cluster, "a/lowtide")
    assert await first.holds("shop")
    cluster.advance(400)
    assert await leases(cluster, "b/lowtide").holds("shop")
    assert not await first.holds("shop")


async def test_an_api_server_that_does_not_answer_is_no_permission() -> None:
    cluster = MemoryCluster(fault=lambda call: Unreachable("no answer"))
    with pytest.raises(Unreachable):
        await leases(cluster, "a/lowtide").holds("shop")


async def test_a_renewal_that_has_no_answer_is_asked_for_again() -> None:
    cluster = MemoryCluster()
    first = leases(cluster, "a/lowtide")
    assert await first.holds("shop")
    cluster.advance(200)
    cluster.fault = lambda call: Unreachable("no answer")
    with pytest.raises(Unreachable):
        await first.holds("shop")
    assert first.held == {"shop"}, "whoever renews what is held would forget it"
    cluster.fault = lambda call: None
    assert await first.holds("shop")
    cluster.advance(200)
    assert not await leases(cluster, "b/lowtide").holds("shop")


async def test_a_namespace_that_is_going_needs_no_lease_and_one_that_forbids_it_is_not_ours() -> None:
    cluster = MemoryCluster()
    cluster.fault = lambda call: Forbidden("no") if call.verb == "create" else None
    cluster.put(kinds.NAMESPACE, {"metadata": {"name": "shop"}})
    with pytest.raises(Forbidden):
        await leases(cluster, "a/lowtide").holds("shop")
    going = {"name": "shop", "deletionTimestamp": "2026-01-05T02:00:00Z", "finalizers": ["kubernetes"]}
    cluster.put(kinds.NAMESPACE, {"metadata": going})
    assert await leases(cluster, "a/lowtide").holds("shop")


async def test_a_namespace_that_is_gone_is_nobody_elses() -> None:
    cluster = MemoryCluster()
    cluster.fault = lambda call: NotFound("no such namespace") if call.verb == "create" else None
    first = leases(cluster, "a/lowtide")
    assert await first.holds("shop")
    assert first.held == frozenset(), "there is nothing to renew"


async def test_many_that_ask_at_once_make_one_lease() -> None:
    cluster = MemoryCluster()
    first = leases(cluster, "a/lowtide")
    assert all(await asyncio.gather(*(first.holds("shop") for _ in range(5))))
    assert sum(call.mutates for call in cluster.calls) == 1


class TestHeartbeat:
    def value(self, cluster: MemoryCluster, heartbeat: Heartbeat) -> str:
        lease = cluster.peek(kinds.LEASE, "lowtide", heartbeat.name)
        assert lease is not None
        return str(lease["metadata"]["annotations"][BEAT_ANNOTATION])

    async def test_it_is_ready_only_once_a_beat_came_back(self) -> None:
        cluster = MemoryCluster()
        heartbeat = Heartbeat(cluster, ("lowtide",), "a/lowtide", 150, lambda: cluster.time.timestamp())
        assert heartbeat.problem() == ""
        assert "not been reached" in heartbeat.unready()
        await heartbeat.beat()
        assert "come back" in heartbeat.unready()
        heartbeat.heard("another-lease", self.value(cluster, heartbeat))
        assert heartbeat.unready() != ""
        heartbeat.heard(heartbeat.name, self.value(cluster, heartbeat))
        assert heartbeat.unready() == ""

    async def test_it_fails_where_beats_are_written_and_do_not_come_back(self) -> None:
        cluster = MemoryCluster()
        heartbeat = Heartbeat(cluster, ("lowtide",), "a/lowtide", 150, lambda: cluster.time.timestamp())
        for _ in range(15):
            await heartbeat.beat()
            cluster.advance(10)
        assert heartbeat.problem() == ""
        await heartbeat.beat()
        cluster.advance(1)
        assert "the watch is dead" in heartbeat.problem()
        heartbeat.heard(heartbeat.name, self.value(cluster, heartbeat))
        assert heartbeat.problem() == ""

    async def test_an_api_server_that_is_away_is_not_the_watchs_fault(self) -> None:
        cluster = MemoryCluster()
        heartbeat = Heartbeat(cluster, ("lowtide",), "a/lowtide", 150, lambda: cluster.time.timestamp())
        await heartbeat.beat()
        away: ClusterError = Unreachable("no answer")

        def fault(call: Call) -> ClusterError:
            return away

        cluster.fault = fault
        for _ in range(30):
            cluster.advance(10)
            await heartbeat.beat()
        assert heartbeat.problem() == ""
        assert "no answer" in heartbeat.unready()

    async def test_it_goes_on_in_the_next_namespace_where_the_first_is_gone(self) -> None:
        cluster = MemoryCluster()
        gone = {"blog"}
        cluster.fault = lambda call: Forbidden("refused") if call.namespace in gone else None
        heartbeat = Heartbeat(cluster, ("blog", "lowtide", "shop"), "a/lowtide", 150, cluster.time.timestamp)
        await heartbeat.beat()
        heartbeat.heard(heartbeat.name, self.value(cluster, heartbeat))
        assert heartbeat.unready() == ""
        await heartbeat.beat()
        assert sum(call.namespace == "blog" for call in cluster.calls) == 1, "it is asked no more"
        gone |= {"lowtide", "shop"}
        await heartbeat.beat()
        assert "refused" in heartbeat.unready()
        gone.clear()
        await heartbeat.beat()
        heartbeat.heard(heartbeat.name, self.value(cluster, heartbeat))
        assert heartbeat.unready() == ""


def test_the_lease_has_the_name_that_the_docs_and_the_chart_say() -> None:
    assert NAME == "lowtide"
    assert (
        Heartbeat(MemoryCluster(), ("x",), "lowtide-system/lowtide", 1).name
        == "lowtide-heartbeat-lowtide-system-lowtide"
    )
